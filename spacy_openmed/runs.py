"""Where the recipe keeps what it makes: the folder of a run."""

from dataclasses import dataclass
from pathlib import Path


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


def _name(backbone: str) -> str:
    """A backbone may be given as a folder."""
    return Path(backbone).name
