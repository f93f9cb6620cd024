"""JNLPBA, Linnaeus, Species-800, BC2GM, AnatEM, BioNLP 2013 CG: a text file and a file of
annotations for each document, and files of tokens.

In the folder, packed or not (the folders are those of the repositories that the registry
names):

    jnlpba       standoff/{train,test}                  JNLPBA_BIO/{train,valid,test}.tsv
    linnaeus     Linnaeus_standoff (.tar.bz2)           linnaeus-IOB/{train,devel,test}.tsv
    s800         original-standoff                      s800/{train,devel,test}.tsv
    bc2gm        standoff/{train,devel,test}            BC2GM-IOB/{train,devel,test}.tsv
    anatem       standoff/{train,devel,test}            conll/{train,devel,test}
    bionlp13cg   original-data/{train,devel,test}       BioNLP13CG-IOB/{train,devel,test}.tsv

Annotations are .ann files, for bionlp13cg .a1. The token files decide on the splits: dev of
jnlpba is a part of standoff/train, and the articles of linnaeus and the abstracts of s800 lie
together. Where a corpus has one type all annotations get it; the twelve types of anatem
become "Anatomy".

Of the standoff of bc2gm and anatem and of the archive of linnaeus no file was seen: these
follow the same authors' other corpora.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ...errors import OpenMedError
from .. import registry
from ..documents import Document
from ..formats import brat, conll
from ..formats.lines import numbered_lines
from ..problems import OnError
from .matching import match
from .sources import Sources
from .splits import Split, relabelled, with_tokens


@dataclass(frozen=True)
class _Layout:
    """Where things are.

    texts (tuple[tuple[str, tuple[str, ...]], ...]): Folders, and the splits of what is in each.
    tokens (Mapping[str, str]): Split to file of tokens, or folder with a file a document.
    """

    texts: tuple[tuple[str, tuple[str, ...]], ...]
    tokens: Mapping[str, str]


_ALL = ("train", "dev", "test")
_NAMES = {"train": "train", "dev": "devel", "test": "test"}


def _by_split(pattern: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    return tuple((pattern.format(name), (split,)) for split, name in _NAMES.items())


def _files(pattern: str, dev: str = "devel") -> dict[str, str]:
    return {split: pattern.format(name) for split, name in (_NAMES | {"dev": dev}).items()}


_LAYOUTS = {
    "jnlpba": _Layout(
        (("standoff/train", ("train", "dev")), ("standoff/test", ("test",))),
        _files("JNLPBA_BIO/{}.tsv", dev="valid"),
    ),
    "linnaeus": _Layout((("Linnaeus_standoff", _ALL),), _files("linnaeus-IOB/{}.tsv")),
    "s800": _Layout((("original-standoff", _ALL),), _files("s800/{}.tsv")),
    "bc2gm": _Layout(_by_split("standoff/{}"), _files("BC2GM-IOB/{}.tsv")),
    "anatem": _Layout(_by_split("standoff/{}"), _files("conll/{}")),
    "bionlp13cg": _Layout(_by_split("original-data/{}"), _files("BioNLP13CG-IOB/{}.tsv")),
}

# The repository that these tokens are from renamed types, and with them words of the text
# that look like a tag ("E-proteins" is "E-PRGEs"). The tokens stay as published.
_JNLPBA_TAGS = {"PRGE": "protein", "CLTP": "cell_type", "CLLN": "cell_line"}


def convert(dataset: str, sources: Sources, on_error: OnError) -> dict[str, Split]:
    """The splits in which the tokens were published."""
    layout = _LAYOUTS[dataset]
    splits: dict[str, Split] = {}
    for folder, parts in layout.texts:
        originals = list(_texts(dataset, sources.find(folder), on_error))
        tokenised = {
            split: _tokens(
                dataset, sources.find(layout.tokens[split]), originals, sources, on_error
            )
            for split in parts
        }
        splits |= with_tokens(originals, tokenised, on_error)
    return {split: splits[split] for split in _ALL}


def _texts(dataset: str, folder: Path, on_error: OnError) -> Iterator[Document]:
    """The documents of a folder, in the order of their files' names."""
    seen: dict[str, str] = {}
    types, rename = _types(dataset)
    documents = sorted(brat.read(folder, types, on_error), key=lambda d: f"{d.id}.txt")
    for document in relabelled(documents, rename):
        name = document.id.rpartition("/")[2]
        # Documents are numbered, READMEs are not.
        if not any(character.isdigit() for character in name):
            continue
        if name in seen:
            on_error(
                OpenMedError(f"{folder}: '{name}' is there as {seen[name]} and as {document.id}.")
            )
            continue
        seen[name] = document.id
        concepts = {k: c.removeprefix("Taxonomy:") for k, c in document.concepts.items()}
        yield replace(document, id=name, concepts=concepts)


def _tokens(
    dataset: str,
    path: Path,
    originals: list[Document],
    sources: Sources,
    on_error: OnError,
) -> list[Document]:
    """The documents of a file of tokens, or of a folder with a file for each."""
    types, rename = _types(dataset)
    if not path.is_dir():
        if dataset == "s800":
            path = sources.mended(path, _with_type(path))
        return match(
            relabelled(conll.read(path, types, on_error, "BIO2"), rename), originals, path, on_error
        )
    by_name = {original.id: original for original in originals}
    found = []
    for file in sorted(path.glob("*.conll")):
        original = by_name.get(file.stem)
        if original is None:
            on_error(OpenMedError(f"{file}: there is no text '{file.stem}'."))
            continue
        published = relabelled(conll.read(file, types, on_error, "BIO2"), rename)
        found += match(published, [original], file, on_error)
    return found


def _types(dataset: str) -> tuple[dict[str, str] | None, Callable[[str], str]]:
    """The types to expect, None for any; and what to make of them."""
    types = list(registry.dataset(dataset).types)
    if len(types) == 1:
        return None, lambda _: types[0]
    renamed = _JNLPBA_TAGS if dataset == "jnlpba" else {}
    return {name: name for name in types} | renamed, lambda label: label


def _with_type(path: Path) -> str:
    """A file of tokens whose tags are B and I, with B-Species and I-Species."""
    lines = (line for _, line in numbered_lines(path))
    return "".join(
        f"{line}-Species\n" if line[-2:] in ("\tB", "\tI") else f"{line}\n" for line in lines
    )
