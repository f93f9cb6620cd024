"""PubMed: baseline and update files as NLM distributes them (XML, gzip)."""

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryFile
from typing import NamedTuple
from xml.etree import ElementTree

from ..corpora.problems import OnError, stop
from ..errors import OpenMedError
from .inputs import DAMAGE, damaged, open_bytes
from .records import Record

SOURCE = "pubmed"
NAMES = (".xml",)

_ROOTS = ("PubmedArticleSet", "MedlineCitationSet")
# Until 2000 NLM cut long abstracts and said so in their text.
_TRUNCATED = re.compile(r"\s*\(ABSTRACT TRUNCATED(?: AT \d+ WORDS)?\)\s*$")
_NO_LABEL = ("", "UNLABELLED", "UNASSIGNED")
_HIGHEST = 10**9


class Citation(NamedTuple):
    """A citation as it stands in a file.

    pmid, version (int): Its id, and which form of it.
    title, abstract (str): Without markup; "" where there is none.
    """

    pmid: int
    version: int
    title: str
    abstract: str


class _Deleted(NamedTuple):
    pmids: list[int]


class PmidSet:
    """PubMed ids, one bit each: 5 MB for all of PubMed."""

    def __init__(self) -> None:
        self._bits = bytearray()

    def add(self, pmid: int) -> None:
        byte = pmid >> 3
        if byte >= len(self._bits):
            self._bits.extend(bytes(byte + 1 - len(self._bits)))
        self._bits[byte] |= 1 << (pmid & 7)

    def __contains__(self, pmid: int) -> bool:
        byte = pmid >> 3
        return byte < len(self._bits) and bool(self._bits[byte] >> (pmid & 7) & 1)


def read(paths: Iterable[Path], titles: bool = True, on_error: OnError = stop) -> Iterator[Record]:
    """Read the abstracts that stand after all updates.

    NLM numbers its files, and a later one may bring a citation again or delete it. So the
    files are taken by name, the last one first, and of each PMID what is found first stands:
    of several versions in one file the highest, and nothing before a deletion. A citation
    whose latest form has no abstract is left out.

    Title and abstract are joined; the parts of a structured abstract begin with their labels
    ("BACKGROUND: …"). Markup inside the text (italics, sub- and superscripts, MathML) is
    taken off and its content stays. Abstracts in other languages and titles in the original
    language are not taken.

    Memory: a bit for each PMID, and 200 bytes for each citation of one file (30,000).

    paths (Iterable[Path]): The files, plain or gzip.
    titles (bool): Begin with the title.
    on_error (OnError): Called with what is wrong with a citation, or with a file. A file that
        breaks off is left out whole, since its deletions come last.
    YIELDS (Record): Its id is the PMID.
    RAISES (OpenMedError): Names file and line, or the number of the citation in the file.
    """
    known = PmidSet()
    for path in sorted(paths, key=lambda path: (path.name, path), reverse=True):
        try:
            yield from _standing(path, titles, known, on_error)
        except OpenMedError as error:
            on_error(error)


def citations(path: Path, on_error: OnError = stop) -> Iterator[Citation]:
    """Read all citations of one file as they stand there, in its order.

    Text is taken as ``read`` takes it, but title and abstract stay apart. What the file
    deletes is passed over.

    path (Path): The file, plain or gzip.
    on_error (OnError): Called with what is wrong with a citation, which is then left out.
    YIELDS (Citation): One at a time.
    RAISES (OpenMedError): The file is none of PubMed's, or breaks off.
    """
    for item in _items(path, on_error):
        if isinstance(item, Citation):
            yield item


def _standing(path: Path, titles: bool, known: PmidSet, on_error: OnError) -> Iterator[Record]:
    """What of a file stands, given what later files have."""
    last: dict[int, tuple[int, int]] = {}
    deleted: list[int] = []
    with TemporaryFile("w+", encoding="utf8") as spool:
        for number, item in enumerate(_items(path, on_error)):
            if isinstance(item, _Deleted):
                deleted += item.pmids
            elif item.pmid not in known:
                last[item.pmid] = max(last.get(item.pmid, (0, 0)), (item.version, number))
                text = item.abstract
                if titles and text and item.title:
                    text = f"{item.title} {text}"
                spool.write(json.dumps((number, item.pmid, text)) + "\n")
        for pmid in deleted:
            known.add(pmid)
            last.pop(pmid, None)
        for pmid in last:
            known.add(pmid)
        spool.seek(0)
        for line in spool:
            number, pmid, text = json.loads(line)
            if text and pmid in last and last[pmid][1] == number:
                yield Record(SOURCE, str(pmid), text)


def _items(path: Path, on_error: OnError) -> Iterator[Citation | _Deleted]:
    count = 0
    with open_bytes(path) as file:
        try:
            events = ElementTree.iterparse(file, events=("start", "end"))
            _, root = next(events)
            if root.tag not in _ROOTS:
                raise OpenMedError(
                    f"{path}, line 1: <{root.tag}> where <{_ROOTS[0]}> was expected: "
                    f"not a PubMed file."
                )
            for event, element in events:
                if event == "start":
                    continue
                if element.tag == "MedlineCitation":
                    count += 1
                    where = f"{path}, citation {count}"
                    try:
                        yield _citation(element, where)
                    except OpenMedError as error:
                        on_error(error)
                    # The tree grows under the root until it is told to forget.
                    root.clear()
                elif element.tag == "DeleteCitation":
                    where = f"{path}, DeleteCitation"
                    yield _Deleted([_pmid(child, where) for child in element.findall("PMID")])
        except ElementTree.ParseError as error:
            raise OpenMedError(
                f"{path}, line {error.position[0]}: not well-formed XML ({error}). "
                f"Download it again."
            ) from error
        except DAMAGE as error:
            raise damaged(f"{path}, citation {count + 1}", error) from error


def _citation(element: ElementTree.Element, where: str) -> Citation:
    number = element.find("PMID")
    if number is None:
        raise OpenMedError(f"{where}: no PMID.")
    version = number.get("Version", "1")
    if not version.isdecimal():
        raise OpenMedError(f"{where}: version {version!r} of PMID {number.text}.")
    sections = [_section(s) for s in element.findall("Article/Abstract/AbstractText")]
    abstract = _TRUNCATED.sub("", " ".join(filter(None, sections)))
    title = element.find("Article/ArticleTitle")
    return Citation(
        _pmid(number, where), int(version), "" if title is None else _plain(title), abstract
    )


def _pmid(element: ElementTree.Element, where: str) -> int:
    text = (element.text or "").strip()
    if not (text.isdecimal() and 0 < int(text) < _HIGHEST):
        raise OpenMedError(f"{where}: PMID {text!r} is no PubMed id.")
    return int(text)


def _section(element: ElementTree.Element) -> str:
    text = _plain(element)
    label = element.get("Label", "").strip()
    return text if not text or label.upper() in _NO_LABEL else f"{label}: {text}"


def _plain(element: ElementTree.Element) -> str:
    return " ".join("".join(element.itertext()).split())
