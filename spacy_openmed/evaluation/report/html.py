"""The report as one HTML page: no script, and nothing that a browser would have to fetch."""

import base64
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from .examples import Shown
from .parts import Bullets, Cell, Code, Link, Part, Piece, Section, Strong, Table, Text
from .plots import Plot
from .sections import head, sections

Row = dict[str, Any]
# The page that has text of the corpora. Not the name of the one without, which may be handed on.
WITH_TEXT = "report-with-text.html"
_HERE = Path(__file__).parent
# What a reader compares down a column: figures, with what stands about them.
_FIGURE = re.compile(r"(–|[<±+-]?\s?\d).*", re.DOTALL)


def render(
    report: Row,
    plots: Sequence[Plot] = (),
    folder: Path | None = None,
    examples: Sequence[Shown] = (),
) -> str:
    """The page.

    report (dict): From ``collect``.
    plots (Sequence[Plot]): Those that were drawn; they become part of the page.
    folder (Path | None): Where they were drawn to.
    examples (Sequence[Shown]): Errors, with text of the corpora.
    RETURNS (str): HTML.
    """
    if not examples:
        sentence = (
            f"examples of errors: not in this page, for they are text of the corpora, but in "
            f"{WITH_TEXT}, which needs --corpus and the predictions"
        )
        report = {**report, "missing": [*report["missing"], sentence]}
    images = {plot.name: _image(plot, folder) for plot in plots if folder is not None}
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return (
        environment.get_template("page.html.jinja").render(
            css=Markup((_HERE / "page.css").read_text(encoding="utf8")),
            head=head(report),
            sections=[_section(one, images) for one in sections(report, images)],
            examples=_by_dataset(examples),
        )
        + "\n"
    )


def _section(section: Section, images: dict[str, Row]) -> Row:
    return {
        "id": _slug(section.title),
        "title": section.title,
        "parts": [_part(part, images) for part in section.parts],
    }


def _slug(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def _part(part: Part, images: dict[str, Row]) -> Row:
    match part:
        case Table():
            return _table(part)
        case Bullets():
            return {"kind": "bullets", "sentences": [_cell(item) for item in part.items]}
        case Text():
            return {"kind": "text", "text": part.text}
    return {"kind": "figure", **images[part.name]}


def _table(table: Table) -> Row:
    rows = [[_cell(cell) for cell in row] for row in table.rows]
    numeric = [
        all(_FIGURE.fullmatch(Markup(row[column]).striptags()) for row in rows)
        and any(row[column] != "–" for row in rows)
        for column in range(len(table.head))
    ]
    return {
        "kind": "table",
        "title": table.title,
        "head": [_cell(cell) for cell in table.head],
        "rows": rows,
        "classes": ["n" if is_numeric else "" for is_numeric in numeric],
    }


def _cell(cell: Cell) -> Markup:
    pieces = cell if isinstance(cell, tuple) else (cell,)
    return Markup("").join(_piece(piece) for piece in pieces)


def _piece(piece: Piece) -> Markup:
    match piece:
        case Code():
            return Markup("<code>{}</code>").format(piece.text)
        case Strong():
            return Markup("<strong>{}</strong>").format(piece.text)
        case Link(target=target) if target.startswith("https://"):
            return Markup('<a href="{}">{}</a>').format(target, piece.text)
        case Link():
            # A file beside the report, which the page may be far from.
            return Markup("<code>{}</code>").format(piece.target)
    return escape(piece)


def _image(plot: Plot, folder: Path) -> Row:
    content = (folder / plot.file).read_bytes()
    # Width and height as in the file's first chunk, so that nothing moves while a page loads.
    width, height = (int.from_bytes(content[at : at + 4], "big") for at in (16, 20))
    data = base64.b64encode(content).decode("ascii")
    return {
        "source": f"data:image/png;base64,{data}",
        "title": plot.title,
        "alt": plot.alt,
        "width": width,
        "height": height,
    }


def _by_dataset(examples: Sequence[Shown]) -> list[tuple[str, list[Shown]]]:
    grouped: dict[str, list[Shown]] = {}
    for one in examples:
        grouped.setdefault(f"{one.dataset}, {one.split}", []).append(one)
    return list(grouped.items())
