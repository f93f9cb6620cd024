"""The project: what its workflows run, what its steps keep, and what its document says."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import srsly
from networks import write_pretraining
from test_search import START
from test_search import corpus as corpus
from typer.testing import CliRunner

from spacy_openmed import adapters
from spacy_openmed.cli.app import app
from spacy_openmed.errors import OpenMedError
from spacy_openmed.packaging.install import install_and_try
from spacy_openmed.runs import Runs
from spacy_openmed.training import recipe, settings
from spacy_openmed.training.settings import DaptSettings, FinetuneSettings, SearchSettings

ROOT = Path(__file__).parents[1]
STEPS = [
    "corpora", "dapt", "search", "train", "select", "evaluate", "report", "package", "install",
]  # fmt: skip


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return srsly.read_yaml(ROOT / "project.yml")  # type: ignore[return-value]


def command(project: dict[str, Any], name: str) -> dict[str, Any]:
    return next(one for one in project["commands"] if one["name"] == name)


# --- project.yml -----------------------------------------------------------------------------


def test_quickstart_is_all_with_other_variables(project: dict[str, Any]) -> None:
    assert project["workflows"]["all"] == STEPS
    (name,) = project["workflows"]["quickstart"]
    (line,) = command(project, name)["script"]
    words = shlex.split(line)
    assert words[:6] == ["python", "-m", "spacy", "project", "run", "all"]
    assert words[6] == "."
    names, values = words[7::2], words[8::2]
    assert all(name.startswith("--vars.") for name in names)
    changed = dict(zip((name.removeprefix("--vars.") for name in names), values, strict=True))
    assert set(changed) <= set(project["vars"])
    assert changed["datasets"] == "sample" and changed["trials"] == "4"
    for file in ("corpora", "text", "heldout", "try"):
        assert (ROOT / changed[file]).exists()
    settings.load(DaptSettings, changed["dapt"])
    space = settings.load(SearchSettings, changed["search"])
    settings.load(FinetuneSettings, space.finetune)


def test_the_quickstart_pretrains_for_fifty_updates() -> None:
    assert settings.load(DaptSettings, "dapt-sample").optim.max_steps >= 50


def test_every_step_says_what_it_makes_and_is_made_from(project: dict[str, Any]) -> None:
    """A step without outputs runs every time; a dependency must be made by an earlier one."""
    made = set()
    for name in STEPS:
        step = command(project, name)
        assert step["outputs"], name
        for dependency in step.get("deps", []):
            from_run = dependency.startswith(("${vars.runs}", "${vars.packages}"))
            assert not from_run or dependency in made, f"{name}: {dependency}"
        assert step.get("deps") or name == "corpora"
        made |= set(step["outputs"])


def test_lists_of_a_step_survive_the_interpolation(project: dict[str, Any]) -> None:
    """weasel makes one entry of two, where different variables meet in a list."""
    from weasel.util import load_project_config

    loaded = load_project_config(ROOT)
    for step, raw in zip(loaded["commands"], project["commands"], strict=True):
        for key in ("deps", "outputs"):
            assert len(step.get(key, [])) == len(raw.get(key, [])), f"{step['name']}: {key}"


def test_every_command_of_the_project_exists(project: dict[str, Any]) -> None:
    """Its words are a command's name and options that the command has."""
    for name in STEPS:
        for line in command(project, name)["script"]:
            words = shlex.split(re.sub(r"\$\{vars\.\w+\}", "1", line))
            assert words[:4] == ["python", "-m", "spacy", "openmed"]
            depth = 6 if words[4] == "recipe" else 5
            shown = CliRunner().invoke(app, [*words[4:depth], "--help"], env={"COLUMNS": "200"})
            assert shown.exit_code == 0, shown.output
            for option in (word for word in words[depth:] if word.startswith("--")):
                assert option in shown.output, f"{name}: {option}"


def test_the_readme_has_the_project_s_document(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "spacy", "project", "document", str(ROOT)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    tables = re.findall(r"^\| .*", done.stdout, re.M)
    assert len(tables) > len(STEPS)
    readme = (ROOT / "README.md").read_text(encoding="utf8")
    missing = [line for line in tables if line.strip() not in readme]
    assert not missing, missing


# --- the steps -------------------------------------------------------------------------------


@pytest.fixture
def runs(tmp_path: Path, tiny_backbone: Path) -> Runs:
    """A run whose pre-training and search are done."""
    import tomli_w

    runs = Runs(tmp_path / "runs")
    write_pretraining(tiny_backbone, runs.dapt(str(tiny_backbone)) / "adapter", 1)
    folder = runs.search("ncbi", str(tiny_backbone))
    folder.mkdir(parents=True)
    (folder / "best.toml").write_text(tomli_w.dumps(settings.to_dict(START)))
    return runs


def train(runs: Runs, backbone: Path, corpus: Path) -> list[str]:
    said: list[str] = []
    recipe.train_all(runs, [("ncbi", str(backbone))], corpus, 3, said.append)
    return said


def test_a_final_run_is_made_once_and_again_when_the_search_finds_better(
    runs: Runs, tiny_backbone: Path, corpus: Path
) -> None:
    assert any("dev F1" in line for line in train(runs, tiny_backbone, corpus))
    folder = runs.train("ncbi", str(tiny_backbone)) / "adapter"
    record = json.loads((folder / "training.json").read_text())
    assert record["settings"]["optim"]["seed"] == 3
    made = json.loads(runs.made("train").read_text())
    assert list(made.values()) == [adapters.content_hash(adapters.read(folder))]
    assert train(runs, tiny_backbone, corpus) == [f"ncbi x {tiny_backbone}: trained before"]

    best = runs.search("ncbi", str(tiny_backbone)) / "best.toml"
    best.write_text(best.read_text().replace("learning_rate = 0.001", "learning_rate = 0.002"))
    assert any("dev F1" in line for line in train(runs, tiny_backbone, corpus))
    record = json.loads((folder / "training.json").read_text())
    assert record["settings"]["optim"]["learning_rate"] == 0.002
    assert json.loads(runs.made("train").read_text()) != made


def test_training_waits_for_the_search(runs: Runs, tiny_backbone: Path, corpus: Path) -> None:
    (runs.search("ncbi", str(tiny_backbone)) / "best.toml").unlink()
    with pytest.raises(OpenMedError, match="let the search come to its end"):
        train(runs, tiny_backbone, corpus)


def test_the_corpora_step_refuses_what_differs_from_the_registry(
    tmp_path: Path, corpus: Path
) -> None:
    given = ["recipe", "corpora", "--datasets", "ncbi", "--corpus", str(corpus)]
    done = CliRunner().invoke(app, [*given, "--runs", str(tmp_path / "runs")])
    assert done.exit_code == 1 and "ncbi" in done.output
    sample = ["recipe", "corpora", "--datasets", "sample", "--corpus", str(ROOT / "assets/sample")]
    done = CliRunner().invoke(app, [*sample, "--runs", str(tmp_path / "runs")])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "runs" / "corpora.json").is_file()


def test_names_are_needed(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["recipe", "train", "--datasets", " ,", "--backbones", "minilm"])
    assert done.exit_code == 1 and "names nothing" in done.output


def test_wheels_are_needed(tmp_path: Path) -> None:
    with pytest.raises(OpenMedError, match="no wheel"):
        list(install_and_try(tmp_path, tmp_path / "text.txt", tmp_path / "out.json"))


def test_a_wheel_that_pip_refuses_is_shown(tmp_path: Path) -> None:
    (tmp_path / "en_none-1.0-py3-none-any.whl").write_bytes(b"no wheel")
    with pytest.raises(OpenMedError, match="pip install' failed"):
        list(install_and_try(tmp_path, tmp_path / "text.txt", tmp_path / "out.json"))
