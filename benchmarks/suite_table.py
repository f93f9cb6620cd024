r"""Write the table of figures in README.md from the results of the adapters that ship.

python benchmarks/suite_table.py
"""

from pathlib import Path

from spacy_openmed.evaluation.report.collect import collect
from spacy_openmed.evaluation.report.markdown import main_table

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
SUITE = ROOT / "benchmarks" / "results" / "suite"
LEDGER = ROOT / "benchmarks" / "results" / "ledger.jsonl"
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"


def table() -> str:
    """The main table of the report on the suite."""
    return main_table(collect(SUITE, ROOT, LEDGER))


def written(readme: str) -> str:
    """The README with the table of now."""
    before, rest = readme.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def main() -> None:
    README.write_text(written(README.read_text(encoding="utf8")), encoding="utf8")


if __name__ == "__main__":
    main()
