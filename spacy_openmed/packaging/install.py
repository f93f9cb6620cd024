"""Installing the pipelines that were built, and a first text through each."""

import importlib.metadata
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..about import __version__
from ..adapters import package_name
from ..backbones import file_sha256
from ..errors import OpenMedError
from ..evaluation import select
from ..files import atomic_file

# In a process of its own: what was installed a moment ago is not seen by this one.
_TRY = """
import json, sys, spacy
nlp = spacy.load(sys.argv[1])
doc = nlp(open(sys.argv[2], encoding="utf8").read())
print(json.dumps([[e.text, e.label_, round(e._.openmed_score, 4)] for e in doc.ents]))
"""


@dataclass(frozen=True)
class Tried:
    """A pipeline that is installed, and what it found in the text.

    name, version (str): Of the package.
    entities (list): Text, label and score of each.
    before (bool): Whether it was installed, and tried on this text, before.
    """

    name: str
    version: str
    entities: list[tuple[str, str, float]]
    before: bool


def install_and_try(packages: Path, selection: Path, text: Path, output: Path) -> Iterator[Tried]:
    """Install wheels with pip, and annotate a text with each of their pipelines.

    Of what is in the folder only the wheels of the selection are installed, of this version. What
    this environment has from the same wheel, and was tried on the same text, is left alone; to
    see that takes neither spaCy nor torch.

    packages (Path): Folder with the wheels.
    selection (Path): From ``spacy openmed select``.
    text (Path): A text file in UTF-8.
    output (Path): Gets a JSON file: wheel, sha256, version, and the entities found.
    YIELDS (Tried): One for each wheel.
    RAISES (OpenMedError): A wheel is missing, or the text; pip or a pipeline fails, with what it
        said.
    """
    wheels = [_wheel(packages, one.dataset) for one in select.read(selection)]
    content = _read(text)
    facts = {wheel: _facts(wheel, content) for wheel in wheels}
    before = {wheel: _found_before(output, wheel, facts[wheel]) for wheel in wheels}
    if new := [wheel for wheel in wheels if before[wheel] is None]:
        pip = ["-m", "pip", "install", "--quiet", "--no-deps", "--force-reinstall"]
        _run([*pip, *map(str, new)])
    installed: dict[str, Any] = {}
    for wheel in wheels:
        name, entities = _name(wheel), before[wheel]
        if entities is None:
            entities = json.loads(_run(["-c", _TRY, name, str(text)]).splitlines()[-1])
        installed[name] = {**facts[wheel], "entities": entities}
        yield Tried(name, facts[wheel]["version"], entities, wheel not in new)
    with atomic_file(output) as part:
        part.write_text(json.dumps(installed, indent=2, ensure_ascii=False) + "\n", encoding="utf8")


def _wheel(packages: Path, dataset: str) -> Path:
    name = f"{package_name(dataset)}-{__version__}"
    found = sorted(packages.glob(f"{name}-*.whl"))
    if len(found) != 1:
        raise OpenMedError(
            f"There are {len(found)} wheels {name}-*.whl in {packages}, not one. 'spacy openmed "
            f"package --selection SELECTION {packages}' builds it."
        )
    return found[0]


def _name(wheel: Path) -> str:
    return wheel.name.split("-")[0]


def _read(text: Path) -> str:
    try:
        return text.read_text(encoding="utf8")
    except (OSError, UnicodeDecodeError) as error:
        raise OpenMedError(
            f"{text}: cannot be read ({error}). Give --text a text file in UTF-8."
        ) from error


def _facts(wheel: Path, text: str) -> dict[str, str]:
    """What decides the entities that are found."""
    return {
        "version": wheel.name.split("-")[1],
        "wheel": wheel.name,
        "sha256": file_sha256(wheel),
        "text": text,
    }


def _found_before(output: Path, wheel: Path, facts: dict[str, str]) -> list[Any] | None:
    """The entities that the file has of this wheel and text, if this environment has the wheel."""
    try:
        record = json.loads(output.read_text(encoding="utf8"))[_name(wheel)]
        same = all(record[key] == value for key, value in facts.items())
        found: list[Any] = record["entities"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    return found if same and _is_installed(wheel) else None


def _is_installed(wheel: Path) -> bool:
    """Whether what is installed here came from this wheel: has the files that the wheel lists."""
    # A wheel can be looked into as a folder of packages can.
    wanted, there = (_files(_name(wheel), path) for path in ([str(wheel)], sys.path))
    return wanted.items() <= there.items()


def _files(name: str, path: list[str]) -> dict[str, str]:
    """Name to hash of the files of an installed package, as its list has them.

    path (list[str]): Where packages are looked for.
    """
    for distribution in importlib.metadata.distributions(name=name, path=path):
        return {str(file): file.hash.value for file in distribution.files or () if file.hash}
    return {}


def _run(arguments: list[str]) -> str:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
    if done.returncode:
        what = " ".join(arguments[:3])
        raise OpenMedError(f"'{what}' failed: {done.stderr.strip()[-2000:]}")
    return done.stdout
