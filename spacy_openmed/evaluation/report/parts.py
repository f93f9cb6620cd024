"""What a report is made of: sections of tables, lists and plots, for any kind of text.

Cells and sentences are made of plain text, which Markdown and HTML escape in their own ways, and
of a few kinds of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Code:
    """An id, a hash or a file."""

    text: str


@dataclass(frozen=True)
class Strong:
    """What is to be seen first."""

    text: str


@dataclass(frozen=True)
class Link:
    """A place on the web, or a file of the run beside a report that is not one file."""

    text: str
    target: str


Piece = str | int | Code | Strong | Link


Cell = Piece | tuple[Piece, ...]


@dataclass(frozen=True)
class Table:
    """Rows under heads; the first column says what a row is about."""

    title: str
    head: Sequence[Cell]
    rows: Sequence[Sequence[Cell]]


@dataclass(frozen=True)
class Bullets:
    """A list of sentences."""

    items: Sequence[Cell]


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Figure:
    """A plot, by its name in ``plots``."""

    name: str


Part = Table | Bullets | Text | Figure


@dataclass(frozen=True)
class Section:
    """A heading and what is under it."""

    title: str
    parts: Sequence[Part]
