"""The report as Markdown."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from ...tables import markdown
from .of_results import main_table as main
from .parts import Bullets, Cell, Code, Link, Part, Piece, Strong, Table, Text
from .plots import Plot
from .sections import head, sections

Row = dict[str, Any]


def render(report: Row, plots: Sequence[Plot] = ()) -> str:
    """The report.

    report (dict): From ``collect``.
    plots (Sequence[Plot]): Those that were drawn into ``plots/`` beside it.
    RETURNS (str): Markdown; links are relative to the folder that ``collect`` was given.
    """
    drawn = {plot.name: plot for plot in plots}
    texts = [f"# Report\n\n{head(report)}"]
    for section in sections(report, drawn):
        texts.append(f"## {section.title}")
        texts += [_part(part, drawn) for part in section.parts]
    return "\n\n".join(texts) + "\n"


def main_table(report: Row) -> str:
    """The chosen adapters on test beside what others report: the table of the README.

    report (dict): From ``collect``.
    """
    return _table(main(report))


def _part(part: Part, plots: dict[str, Plot]) -> str:
    match part:
        case Table():
            return f"**{part.title}**\n\n{_table(part)}"
        case Bullets():
            return "\n".join(f"- {_cell(item)}" for item in part.items)
        case Text():
            return part.text
    plot = plots[part.name]
    return f"![{plot.alt}](plots/{plot.file})"


def _table(table: Table) -> str:
    head = [_cell(cell) for cell in table.head]
    return markdown(head, [[_cell(cell) for cell in row] for row in table.rows])


def _cell(cell: Cell) -> str:
    pieces = cell if isinstance(cell, tuple) else (cell,)
    return "".join(_piece(piece) for piece in pieces)


def _piece(piece: Piece) -> str:
    match piece:
        case Code():
            return f"`{piece.text}`"
        case Strong():
            return f"**{piece.text}**"
        case Link():
            return f"[{piece.text}]({quote(piece.target, safe='/:%?=&#')})"
    return str(piece)
