r"""Put the adapters of a run where they ship, with their figures, cards, report and README's table.

Results go to benchmarks/results/suite, in the layout of a run, without predictions; what is
elsewhere in the repository (adapters, search, ablation) is linked there. Test is not looked at.

    python benchmarks/suite.py runs
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from spacy_openmed import adapters
from spacy_openmed.evaluation import ledger
from spacy_openmed.evaluation.report.collect import collect
from spacy_openmed.evaluation.report.markdown import main_table
from spacy_openmed.packaging import cards

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
SUITE = ROOT / "benchmarks" / "results" / "suite"
LEDGER = SUITE / "ledger.jsonl"
# From a card in spacy_openmed/shipped/DATASET/BACKBONE.
SOURCE = "../../../../benchmarks/results/suite/results"
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
# Beside the results of a run, and made by other commands.
_FURTHER = ("robustness", "cross", "seeds")
# In the layout of a run: what is kept elsewhere.
LINKS = {
    "ablation.json": "benchmarks/results/ablation-minilm.json",
    "dapt/minilm/adapter": "spacy_openmed/shipped/pretraining/minilm",
    "dapt/minilm/perplexity.json": "benchmarks/results/perplexity-minilm.json",
    "search/ncbi/minilm/search.json": "benchmarks/results/search-ncbi-half/search.json",
    "search/ncbi/minilm/plots": "benchmarks/results/search-ncbi-half",
}


def ship(runs: Path) -> None:
    """Copy what ships of a run."""
    for adapter in sorted(runs.glob("train/*/*/adapter")):
        name = adapter.parent.relative_to(runs / "train")
        target = adapters.SHIPPED / name
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(adapter, target)
    for path in _results(runs / "results"):
        _copy(path, SUITE / path.relative_to(runs))
    for path in (*runs.glob("baselines/*/*.json"), *runs.glob("selection.json")):
        _copy(path, SUITE / path.relative_to(runs))


def _results(folder: Path) -> Iterator[Path]:
    yield from folder.glob("*.json")
    for name in _FURTHER:
        yield from (folder / name).glob("*.json")


def link() -> None:
    """Make what is in LINKS, and every adapter that ships, part of the run."""
    shutil.rmtree(SUITE / "train", ignore_errors=True)
    links = dict(LINKS)
    for folder in shipped():
        name = folder.relative_to(adapters.SHIPPED)
        links[f"train/{name}/adapter"] = folder.relative_to(ROOT).as_posix()
    for name, target in links.items():
        path = SUITE / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.symlink_to(os.path.relpath(ROOT / target, path.parent))


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def results_of(folder: Path) -> list[Path]:
    """The results of an adapter that ships, dev before test.

    folder (Path): Of the adapter.
    """
    own = adapters.content_hash(adapters.read(folder))
    paths = [SUITE / "results" / f"{folder.parent.name}-{split}.json" for split in ("dev", "test")]
    return [
        path
        for path in paths
        if path.is_file() and json.loads(path.read_text(encoding="utf8"))["adapter"] == own
    ]


def shipped() -> list[Path]:
    """The folders of the adapters that ship."""
    return sorted(path.parent for path in adapters.SHIPPED.glob(f"*/*/{adapters.INFO}"))


def table() -> str:
    """The main table of the report on the suite."""
    return main_table(collect(SUITE, ROOT, LEDGER))


def written(readme: str) -> str:
    """The README with the table of now."""
    before, rest = readme.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{after}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, nargs="?", help="Without it cards and table are anew")
    arguments = parser.parse_args()
    # A broken record would be built on.
    ledger.read(LEDGER)
    if arguments.runs:
        ship(arguments.runs)
    link()
    for folder in shipped():
        cards.write_card(folder, results_of(folder), LEDGER, SOURCE)
        print(folder)
    README.write_text(written(README.read_text(encoding="utf8")), encoding="utf8")
    command = [sys.executable, "-m", "spacy", "openmed", "report", str(SUITE)]
    subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
