"""Cards in a wheel have no links to what only the source tree has. All else is in setup.cfg."""

import runpy
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
LINKS = runpy.run_path(str(ROOT / "spacy_openmed" / "packaging" / "cards" / "links.py"))


class BuildPy(build_py):  # type: ignore[misc]  # setuptools is untyped
    """Copies the package, and mends the copies of the cards."""

    def run(self) -> None:
        super().run()
        # Of an editable install nothing is copied.
        for card in Path(self.build_lib).glob("spacy_openmed/shipped/**/README.md"):
            names = {path.name for path in card.parent.iterdir()}
            text = card.read_text(encoding="utf8")
            card.write_text(LINKS["without_dead_links"](text, names), encoding="utf8")


setup(cmdclass={"build_py": BuildPy})
