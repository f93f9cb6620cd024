"""The project as a whole: what README, CI, the wheel and the version say, and the linters."""

import configparser
import importlib
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
MAX_BYTES = 4_000_000
# A training machine needs neither spaCy nor its pins, so these import neither.
WITHOUT_SPACY = [
    "adapters",
    "backbones",
    "decoding",
    "network",
    "windows",
    "evaluation.scores",
    *(
        ".".join(path.relative_to(ROOT / "spacy_openmed").with_suffix("").parts)
        for folder in ("training", "corpora", "passages")
        for path in sorted((ROOT / "spacy_openmed" / folder).rglob("*.py"))
    ),
]


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf8")


def run(*command: str, cwd: Path = ROOT) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"


def project_files(*folders: str) -> list[Path]:
    """What git tracks, or would track once added."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--"]
    listed = subprocess.run([*command, *folders], cwd=ROOT, capture_output=True, check=True)
    names = listed.stdout.decode("utf8").split("\0")
    return [Path(name) for name in names if name and (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def setup_cfg() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(delimiters=("=",), interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(read("setup.cfg"))
    return parser


def test_readme_and_ci_run_the_same_command():
    section = re.search(r"^## Run the tests\n(.*?)(?=^## |\Z)", read("README.md"), re.M | re.S)
    assert section, "README.md has no section '## Run the tests'"
    block = re.search(r"^```bash\n(.*?)^```", section[1], re.M | re.S)
    assert block, "the section has no bash block"
    command = block[1].strip()
    assert "\n" not in command, "one command, on one line"
    assert read(".ci/run").splitlines()[-1] == command


def test_version_is_the_newest_in_the_changelog():
    about = re.search(r'^__version__ = "(.+)"', read("spacy_openmed/about.py"), re.M)
    newest = re.search(r"^## \[?v?(\d[^\s\]]*)", read("CHANGELOG.md"), re.M)
    assert about and newest
    assert about[1] == newest[1]


@pytest.mark.parametrize("command", ["ruff check .", "ruff format --check .", "mypy"])
@pytest.mark.timeout(1200)  # the first run of mypy reads torch and transformers too
def test_linters(command):
    run(sys.executable, "-m", *command.split())


def test_training_code_imports_no_spacy():
    program = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    importlib.import_module(name)\n"
        "    found = {'spacy', 'thinc'} & set(sys.modules)\n"
        "    assert not found, f'{name} imports {found}'\n"
    )
    names = [f"spacy_openmed.{name}".removesuffix(".__init__") for name in WITHOUT_SPACY]
    run(sys.executable, "-c", program, *names)


def test_files_name_no_machine_and_are_small():
    machine_path = re.compile(rb"(?<![\w.~-])/(work|root)/")
    for path in project_files():
        content = (ROOT / path).read_bytes()
        assert len(content) <= MAX_BYTES, f"{path} has {len(content)} bytes"
        found = machine_path.search(content)
        assert not found, f"{path}: {content[found.start() :][:80]!r}"


def test_constraints_pin_what_is_required(setup_cfg):
    lines = [line for line in read("constraints.txt").splitlines() if not line.startswith("#")]
    assert lines[0].startswith("torch==")
    assert not [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.]+", line)]
    pins = {canonicalize_name(name): version for name, version in (x.split("==") for x in lines)}
    required = "\n".join(
        [
            setup_cfg["options"]["install_requires"],
            *setup_cfg["options.extras_require"].values(),
        ]
    )
    for requirement in map(Requirement, filter(None, required.splitlines())):
        pin = pins.get(canonicalize_name(requirement.name))
        assert pin is not None, f"{requirement} has no pin"
        assert pin in requirement.specifier, f"{requirement} excludes the tested {pin}"


def test_entry_points_exist(setup_cfg):
    for group, lines in setup_cfg["options.entry_points"].items():
        for line in filter(None, lines.splitlines()):
            module, _, attribute = line.split(" = ")[1].partition(":")
            target = importlib.import_module(module)
            assert not attribute or hasattr(target, attribute), f"{group}: {line}"


def test_wheel_holds_the_whole_package(tmp_path):
    source = tmp_path / "source"
    package = project_files("spacy_openmed")
    configs = [path for path in project_files("configs") if path.suffix in (".toml", ".cfg")]
    for path in [*package, *configs, *project_files("setup.cfg", "pyproject.toml", "LICENSE")]:
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / path, source / path)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation"]
    run(*build, "--outdir", str(tmp_path), str(source), cwd=tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    wanted = {str(path) for path in [*package, *(Path("spacy_openmed") / c for c in configs)]}
    assert wanted - set(zipfile.ZipFile(wheel).namelist()) == set()
