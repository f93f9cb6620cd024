"""arXiv: the metadata snapshot, one JSON object a line."""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ..corpora.problems import OnError, stop
from ..errors import OpenMedError
from .inputs import check_characters, each_file, text_lines
from .records import Record

SOURCE = "arxiv"
NAMES = (".json", ".jsonl", ".ndjson")


def read(
    paths: Iterable[Path],
    categories: Sequence[str] = ("q-bio",),
    titles: bool = True,
    on_error: OnError = stop,
) -> Iterator[Record]:
    """Read the abstracts of papers in some categories.

    paths (Iterable[Path]): The files, plain or gzip.
    categories (Sequence[str]): Archives ("q-bio") or categories ("q-bio.GN"); a paper is
        taken that has any of them, cross-listings included. Empty: all papers.
    titles (bool): Begin with the title.
    on_error (OnError): Called with what is wrong with a line, which is then left out.
    YIELDS (Record): Its id is the arXiv id.
    RAISES (OpenMedError): Names file, line and reason.
    """
    yield from each_file(paths, lambda path: _file(path, categories, titles, on_error), on_error)


def _file(
    path: Path, categories: Sequence[str], titles: bool, on_error: OnError
) -> Iterator[Record]:
    for where, line in text_lines(path, on_error):
        if not line.strip():
            continue
        try:
            found = _record(line, categories, titles, where)
        except OpenMedError as error:
            on_error(error)
        else:
            if found is not None:
                yield found


def _record(line: str, categories: Sequence[str], titles: bool, where: str) -> Record | None:
    try:
        row = json.loads(line)
        name, title, abstract, listed = (
            row[key] for key in ("id", "title", "abstract", "categories")
        )
        if not all(isinstance(value, str) for value in (name, title, abstract, listed)):
            raise TypeError("id, title, abstract and categories must be strings")
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise OpenMedError(
            f"{where}: not an object with id, title, abstract and categories: {error!r}"
        ) from error
    if categories and not any(_within(one, categories) for one in listed.split()):
        return None
    text = " ".join(abstract.split())
    if titles and text:
        text = f"{_sentence(title)} {text}"
    return Record(SOURCE, name, check_characters(text, where))


def _within(category: str, wanted: Sequence[str]) -> bool:
    return any(category == name or category.startswith(f"{name}.") for name in wanted)


def _sentence(title: str) -> str:
    title = " ".join(title.split())
    return title if title.endswith((".", "?", "!")) else f"{title}."
