"""Sections of a card as Markdown. A heading with nothing under it is never written."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Section:
    """A heading and what is under it.

    title (str): The heading.
    parts (Sequence[str]): Paragraphs, lists and tables; empty ones are left out.
    level (int): Of the heading.
    """

    title: str
    parts: Sequence[str]
    level: int = 2


def render(sections: Iterable[Section]) -> str:
    """Markdown of the sections that have a part, with a line break at its end."""
    blocks = []
    for section in sections:
        parts = [part for part in section.parts if part]
        if parts:
            blocks += [f"{'#' * section.level} {section.title}", *parts]
    return "\n\n".join(blocks) + "\n"


def bullets(items: Iterable[str]) -> str:
    """A list of the items that are not empty."""
    return "\n".join(f"- {item}" for item in items if item)


def listed(words: Sequence[str]) -> str:
    """a, b and c"""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def interval(ends: Sequence[float], digits: int = 2) -> str:
    """An interval; what rounds to nothing has no sign."""
    low, high = ends
    return f"[{low:z.{digits}f}, {high:z.{digits}f}]"
