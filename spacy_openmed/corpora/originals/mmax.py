"""FSU-PRGE: a folder for each abstract, a project of the annotation tool MMAX2.

In the folder, packed (fsu_prge_release_v1_0.tgz or v1_1) or not, the release and the lists of
HUNER (github.com/hu-ner/huner, ner_scripts/splits):

    SUBCORPUS/mmax/PROJECT/Basedata.uri             the PMID
    SUBCORPUS/mmax/PROJECT/Basedata/Basedata.xml    words
    SUBCORPUS/mmax/PROJECT/Markables/sentence.xml   ranges of words that are sentences
    SUBCORPUS/mmax/PROJECT/Markables/proteins.xml   ranges of words that are proteins
    fsu.train, fsu.dev, fsu.test                    a PMID a line

Projects that no list names are left out, and of a PMID that has two the first is taken.
Proteins, their groups, complexes, variants and enumerations become the one type "protein". A
protein in several parts becomes the range from its first word to its last. There are only
words, so the raw text is made of them as people write (see ``detokenise``).

Two projects of the release were seen, not the whole. Release 1.0 is known to have broken ones.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

from ...entities import Entity
from ...errors import OpenMedError
from ...labelling import outermost
from ..detokenise import on_written_text
from ..documents import Document
from ..formats.lines import check_text
from ..problems import OnError
from .lists import read_lists
from .sources import Sources
from .splits import Split

_LABEL = "protein"


def convert(dataset: str, sources: Sources, on_error: OnError) -> dict[str, Split]:
    """The splits of the lists."""
    lists = read_lists(dataset, sources)
    projects = _projects(sources)
    splits = {}
    for split, ids in lists.items():
        documents = []
        for name in ids:
            try:
                if name not in projects:
                    raise OpenMedError(
                        f"{sources.folder}: no project of '{name}', which {dataset}.{split} lists."
                    )
                documents.append(_document(name, projects[name]))
            except OpenMedError as error:
                on_error(error)
        raw = [replace(on_written_text(d), tokens=[], sentences=[]) for d in documents]
        splits[split] = Split(raw, [replace(d, entities=_flat(d)) for d in documents])
    return splits


def _projects(sources: Sources) -> dict[str, Path]:
    """PMID to folder."""
    found: dict[str, Path] = {}
    for path in sources.find_all("Basedata.uri") or [sources.find("Basedata.uri")]:
        check_text(path)
        name = path.read_text(encoding="utf8", errors="replace").strip()
        found.setdefault(name, path.parent)
    return found


def _document(name: str, folder: Path) -> Document:
    """Words with blanks between, sentences and all annotations, nested ones included."""
    words = _elements(folder / "Basedata" / "Basedata.xml", "word")
    tokens: list[tuple[int, int]] = []
    numbers: dict[str, int] = {}
    texts = []
    position = 0
    for word in words:
        text = " ".join((word.text or "").split())
        if text:
            numbers[word.get("id", "")] = len(tokens)
            tokens.append((position, position + len(text)))
            texts.append(text)
            position += len(text) + 1
    if not tokens:
        raise OpenMedError(f"{folder}: no words in its Basedata.xml.")
    path = folder / "Markables" / "proteins.xml"
    ranges = {_range(markable, numbers, path) for markable in _elements(path, "markable")}
    entities = [Entity(tokens[first][0], tokens[last][1], _LABEL) for first, last in sorted(ranges)]
    path = folder / "Markables" / "sentence.xml"
    # Where one begins is enough: then those that overlap or leave words out do no harm.
    begins = {_range(markable, numbers, path)[0] for markable in _elements(path, "markable")}
    edges = sorted({0, *begins, len(tokens)})
    return Document(
        name,
        " ".join(texts),
        entities,
        tokens=tokens,
        sentences=list(pairwise(edges)),
    )


def _elements(path: Path, tag: str) -> list[ElementTree.Element]:
    """All elements of a name, whatever their namespace."""
    check_text(path)
    try:
        return ElementTree.parse(path).getroot().findall(f".//{{*}}{tag}")
    except ElementTree.ParseError as error:
        line, _ = error.position
        raise OpenMedError(f"{path}, line {line}: not well-formed XML ({error}).") from error


def _range(
    markable: ElementTree.Element, numbers: Mapping[str, int], path: Path
) -> tuple[int, int]:
    """First and last word of a span such as "word_3..word_5" or "word_3,word_7..word_8"."""
    span = markable.get("span", "")
    try:
        places = [numbers[word] for word in re.split(r",|\.\.", span)]
    except KeyError as error:
        raise OpenMedError(f"{path}: there is no word {error} of the span '{span}'.") from error
    return min(places), max(places)


def _flat(document: Document) -> list[Entity]:
    """The entities that tags can express."""
    tokens = document.tokens
    sentences = [(tokens[first][0], tokens[end - 1][1]) for first, end in document.sentences]
    return [
        entity
        for entity in outermost(document.entities)
        if any(start <= entity.start and entity.end <= end for start, end in sentences)
    ]
