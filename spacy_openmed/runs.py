"""Where the recipe keeps what it makes: the folder of a run."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .backbones import file_sha256
from .errors import OpenMedError
from .files import write_json


@dataclass(frozen=True)
class Runs:
    """The folder of a run, by what is in it.

    folder (Path): Usually ``runs``.
    """

    folder: Path

    def dapt(self, backbone: str) -> Path:
        """Of a pre-training run: ``adapter/`` and ``perplexity.json``."""
        return self.folder / "dapt" / _name(backbone)

    def search(self, dataset: str, backbone: str) -> Path:
        """Of a search: ``study.db``, ``search.json``, ``best.toml``, ``plots/``."""
        return self.folder / "search" / dataset / _name(backbone)

    def train(self, dataset: str, backbone: str) -> Path:
        """Of a final fine-tuning: ``adapter/``."""
        return self.folder / "train" / dataset / _name(backbone)

    def made(self, step: str) -> Path:
        """What a step has made, as hashes: changes exactly when that changes."""
        return self.folder / f"{step}.json"

    def note(self, step: str, made: dict[str, Any]) -> None:
        """Write what a step has made.

        made (dict): As JSON has it, and the same whenever the same was made.
        """
        write_json(self.made(step), made)


def check_names(backbones: Sequence[str]) -> None:
    """Refuse backbones that a run could not tell apart.

    RAISES (OpenMedError): Several have one name.
    """
    names = [_name(one) for one in backbones]
    for name in names:
        if names.count(name) > 1:
            same = [one for one in backbones if _name(one) == name]
            raise OpenMedError(
                f"Several backbones are named '{name}' ({', '.join(same)}), and a run keeps what "
                f"it makes by name. Rename a folder, or leave one out."
            )


def text_hashes(paths: Sequence[Path]) -> dict[str, str]:
    """Name to sha256 of the texts of pre-training, in their order.

    RAISES (OpenMedError): One cannot be read.
    """
    try:
        return {path.name: file_sha256(path) for path in paths}
    except OSError as error:
        raise OpenMedError(
            f"{error.filename}: cannot be read ({error.strerror}). Give --text and --heldout files "
            f"with one passage a line, plain or .gz; 'spacy openmed passages' makes them."
        ) from error


def _name(backbone: str) -> str:
    """A backbone may be given as a folder."""
    return Path(backbone).name
