"""What must hold of every card: figures come from the files it names, headings have text."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

_HEADING = re.compile(r"^(#+) (.+)$")
_NUMBER = re.compile(r"(?<![\w./#-])-?\d[\d,]*(?:\.\d+)?(?:e-?\d+)?(?!\w)")
# What is no figure: names, addresses, code, times, articles of the law, the level of an interval.
_NO_FIGURES = re.compile(
    r"\]\([^)\s]*\)|https?://\S+|`[^`]*`|arXiv:? ?\d+\.\d+|Articles? \d+( and \d+)*|"
    r"\d{4}-\d\d-\d\dT[\d:+]+|\(?\b26\(\d+\)\)?|Regulation \(EU\) 2024/1689|95 % interval"
)


def body(card: str) -> str:
    """A card without metadata and without code."""
    text = card.split("\n---\n", 1)[1]
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def headings_without_text(card: str) -> list[str]:
    """Headings that are followed by one of the same or a higher level, or by nothing."""
    lines = [line for line in card.split("\n---\n", 1)[1].splitlines() if line.strip()]
    found = []
    in_code = False
    for line, after in zip(lines, [*lines[1:], "# end"], strict=True):
        in_code ^= line.startswith("```")
        heading, following = _HEADING.match(line), _HEADING.match(after)
        if heading and following and not in_code and len(following[1]) <= len(heading[1]):
            found.append(heading[2])
    return found


def sections(card: str) -> Iterator[tuple[str, str]]:
    """Each heading with what is under it, down to the next one."""
    title, lines = "", []
    for line in body(card).splitlines():
        if heading := _HEADING.match(line):
            yield title, "\n".join(lines)
            title, lines = heading[2], []
        else:
            lines.append(line)
    yield title, "\n".join(lines)


def unfounded(card: str, files: Mapping[str, Any]) -> list[str]:
    """The figures of a card that are in none of the files that are named beside them.

    files (Mapping): Name to content of all files that the card was made from.
    """
    values = {name: set(_values(content)) for name, content in files.items()}
    wrong = []
    for title, text in sections(card):
        wrong += _of_other_fields(title, text, files)
        lists = [line for line in text.splitlines() if line.startswith("- ")]
        rest = "\n".join(line for line in text.splitlines() if not line.startswith("- "))
        for part in (*lists, rest):
            named = [name for name in files if f"`{name}`" in part]
            for number in numbers(part):
                if not any(_is_in(number, values[name]) for name in named):
                    wrong.append(f"{title}: {number} ({', '.join(named) or 'no file named'})")
    return wrong


def _of_other_fields(title: str, text: str, files: Mapping[str, Any]) -> list[str]:
    """The rows of a table of scores that do not show those of their data and label."""
    if title not in ("Figures", "Per label"):
        return []
    named = [content for name, content in files.items() if f"`{name}`" in text]
    wrong = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        # Under the head, and the line under that.
        if not line.startswith("| ") or "P" in cells or set(cells[0]) == {"-"}:
            continue
        if title == "Figures":
            dataset, split, kind, *shown = cells
            scores = [
                content[kind]
                for content in named
                if f"`{content.get('dataset') or content.get('file')}`" == dataset
                and content.get("split", "") == split
            ]
        else:
            label, kind, *shown = cells
            scores = [content[kind]["per_label"][label] for content in named]
        rows = [
            [*(f"{one[key]:.2f}" for key in ("precision", "recall", "f1")), one["tp"] + one["fn"]]
            for one in scores
        ]
        if [*shown[:3], int(shown[-1])] not in rows:
            wrong.append(f"{title}: {line} is not what the file has there")
    return wrong


def numbers(text: str) -> list[str]:
    """The figures that a text shows."""
    return _NUMBER.findall(_NO_FIGURES.sub(" ", text))


def _is_in(shown: str, values: set[float]) -> bool:
    plain = shown.replace(",", "")
    if "e" in plain:
        return any(
            f"{value:.{_digits(plain)}e}" == f"{float(plain):.{_digits(plain)}e}"
            for value in values
        )
    return any(f"{value:z.{_digits(plain)}f}" == plain for value in values)


def _digits(number: str) -> int:
    return len(number.partition("e")[0].partition(".")[2])


def _values(content: Any, key: str = "") -> Iterator[float]:
    """Every number in a file, and what a card may make of it.

    Shares become percent, seconds minutes and hours, counts of mentions are added, and lists
    counted.
    """
    if isinstance(content, bool) or content is None:
        return
    if isinstance(content, int | float):
        yield content
        if 0 <= content <= 1:
            yield 100 * content
        if key == "seconds":
            yield from (content / 60, content / 3600)
    elif isinstance(content, str):
        yield from (float(number.replace(",", "")) for number in numbers(content))
    elif isinstance(content, dict):
        for name, value in content.items():
            yield from _values(str(name))
            yield from _values(value, name)
        if {"tp", "fn"} <= set(content):
            yield content["tp"] + content["fn"]
    else:
        yield len(content)
        for value in content:
            yield from _values(value, key)
