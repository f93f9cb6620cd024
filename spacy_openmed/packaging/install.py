"""Installing the pipelines that were built, and a first text through each."""

import json
import subprocess
import sys
from collections.abc import Iterator
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


def install_and_try(packages: Path, selection: Path, text: Path, output: Path) -> Iterator[str]:
    """Install wheels with pip, and annotate a text with each of their pipelines.

    Of what is in the folder only the wheels of the selection are installed, of this version.

    packages (Path): Folder with the wheels.
    selection (Path): From ``spacy openmed select``.
    text (Path): A text file in UTF-8.
    output (Path): Gets a JSON file: wheel, sha256, version, and the entities found.
    YIELDS (str): What was found, for the screen.
    RAISES (OpenMedError): A wheel is missing; pip or a pipeline fails, with what it said.
    """
    wheels = [_wheel(packages, one.dataset) for one in select.read(selection)]
    pip = ["-m", "pip", "install", "--quiet", "--no-deps", "--force-reinstall"]
    _run([*pip, *map(str, wheels)])
    installed: dict[str, Any] = {}
    for wheel in wheels:
        name, version, *_ = wheel.name.split("-")
        entities = json.loads(_run(["-c", _TRY, name, str(text)]).splitlines()[-1])
        installed[name] = {
            "version": version,
            "wheel": wheel.name,
            "sha256": file_sha256(wheel),
            "text": text.read_text(encoding="utf8"),
            "entities": entities,
        }
        yield f"{name} {version}: {len(entities)} entities in {text}"
        yield from (
            f"  {label:12} {score:.2f}  {' '.join(e.split())}" for e, label, score in entities
        )
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


def _run(arguments: list[str]) -> str:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
    if done.returncode:
        what = " ".join(arguments[:3])
        raise OpenMedError(f"'{what}' failed: {done.stderr.strip()[-2000:]}")
    return done.stdout
