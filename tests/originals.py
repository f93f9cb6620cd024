"""Original releases as they are downloaded, in small: files in their layout, from documents."""

import re
import tarfile
import zipfile
from collections.abc import Iterable, Mapping
from itertools import islice, pairwise
from pathlib import Path

from spacy_openmed.corpora.bio import encode
from spacy_openmed.corpora.documents import Document
from spacy_openmed.corpora.folder import SPLITS
from spacy_openmed.corpora.formats import conll, jsonl
from spacy_openmed.entities import Entity
from spacy_openmed.evaluation.scores import on_tokens
from spacy_openmed.labelling import outermost

Corpus = dict[str, list[Document]]

FILES = {"train": "train", "dev": "devel", "test": "test"}
# Types as token files name them, where these have names of their own.
TAGS = {
    "jnlpba": {"protein": "PRGE", "cell_type": "CLTP", "cell_line": "CLLN"},
    "s800": {"Species": ""},
}
TOKEN_FOLDERS = {
    "bc5cdr-chem": "BC5CDR-chem-IOB",
    "bc5cdr-disease": "BC5CDR-disease-IOB",
    "ncbi": "NCBI-disease-IOB",
    "jnlpba": "JNLPBA_BIO",
    "linnaeus": "linnaeus-IOB",
    "s800": "s800",
    "bc2gm": "BC2GM-IOB",
    "bionlp13cg": "BioNLP13CG-IOB",
}

_MARKED = re.compile(r"\[([^|\]]+)\|([^|\]]+)(?:\|([^\]]+))?\]")
_ATOM = re.compile(r"\w+|[^\w\s]")


def marked(name: str, text: str) -> Document:
    """A document from a text with marks: "a case of [flu|Disease|D007251] in May"."""
    plain = ""
    entities = []
    concepts = {}
    position = 0
    for mark in _MARKED.finditer(text):
        plain += text[position : mark.start()]
        entity = Entity(len(plain), len(plain) + len(mark[1]), mark[2])
        plain += mark[1]
        position = mark.end()
        entities.append(entity)
        if mark[3]:
            concepts[entity[:3]] = mark[3]
    return Document(name, plain + text[position:], entities, concepts=concepts)


def published(document: Document) -> Document:
    """Its tokens with blanks between them, a sentence a line of the text."""
    spans = [m.span() for m in _ATOM.finditer(document.text)]
    gaps = [document.text[end:start] for (_, end), (start, _) in pairwise(spans)]
    breaks = [n for n, gap in enumerate(gaps, 1) if "\n" in gap]
    tokens = []
    position = 0
    for start, end in spans:
        tokens.append((position, position + end - start))
        position += end - start + 1
    numbers = on_tokens(outermost(document.entities), spans)
    entities = [Entity(tokens[a][0], tokens[b - 1][1], label) for a, b, label in numbers]
    edges = [0, *breaks, len(tokens)]
    return Document(
        document.id,
        " ".join(document.text[a:b] for a, b in spans),
        entities,
        tokens=tokens,
        sentences=list(pairwise(edges)),
    )


def token_lines(
    documents: Iterable[Document], docstart: bool = False, tags: Mapping[str, str] | None = None
) -> str:
    """Documents of tokens as MTL and others publish them: without a word on where one ends."""
    lines = []
    for document in documents:
        if docstart:
            lines += ["-DOCSTART-\tO", ""]
        bio = encode(on_tokens(document.entities, document.tokens), len(document.tokens))
        for first, stop in document.sentences:
            for (start, end), tag in zip(document.tokens[first:stop], bio[first:stop], strict=True):
                kind = tag[2:] if tags is None else tags.get(tag[2:], tag[2:])
                shown = tag if tag == "O" else f"{tag[:2]}{kind}".rstrip("-")
                lines.append(f"{document.text[start:end]}\t{shown}")
            lines.append("")
    return "".join(f"{line}\n" for line in lines)


def write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode("utf8"))


def write_standoff(folder: Path, documents: Iterable[Document], suffix: str = ".ann") -> None:
    """A .txt and a file of annotations for each document."""
    for document in documents:
        lines = []
        for n, (start, end, label, *_) in enumerate(document.entities, 1):
            words = document.text[start:end].replace("\n", " ")
            lines.append(f"T{n}\t{label} {start} {end}\t{words}")
            concept = document.concepts.get((start, end, label))
            if concept:
                lines.append(f"N{n}\tReference T{n} Taxonomy:{concept}")
        write(folder / f"{document.id}.txt", document.text)
        write(folder / f"{document.id}{suffix}", "".join(f"{line}\n" for line in lines))


def pubtator_lines(documents: Iterable[Document], titles: Mapping[str, int]) -> str:
    """Documents in PubTator form.

    titles (Mapping[str, int]): Id to the length of the title.
    """
    blocks = []
    for document in documents:
        length = titles[document.id]
        name, text = document.id, document.text
        lines = [f"{name}|t|{text[:length]}", f"{name}|a|{text[length + 1 :]}"]
        for start, end, label, *_ in document.entities:
            concept = document.concepts.get((start, end, label), "-1")
            lines.append(f"{name}\t{start}\t{end}\t{text[start:end]}\t{label}\t{concept}")
        blocks.append("".join(f"{line}\n" for line in lines))
    return "\n".join(blocks)


def pack(folder: Path, archive: Path) -> None:
    """Put all files of a folder into an archive, and remove them."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p != archive)
    archive.parent.mkdir(parents=True, exist_ok=True)
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w") as zipped:
            for file in files:
                zipped.write(file, file.relative_to(folder).as_posix())
    else:
        compression = archive.suffix.lstrip(".").replace("tgz", "gz")
        with tarfile.open(archive, f"w:{compression}") as tar:
            for file in files:
                tar.add(file, file.relative_to(folder).as_posix())
    for file in files:
        file.unlink()


def write_lists(folder: Path, name: str, lists: Mapping[str, list[str]]) -> None:
    for split, ids in lists.items():
        write(folder / f"{name}.{split}", "\n" + "".join(f"{i}\n" for i in ids))


def write_tag_first(path: Path, document: Document) -> None:
    """A document of tokens with a tag and a token a line."""
    rows = (line.split("\t") for line in token_lines([document]).splitlines())
    write(path, "".join("\t".join(reversed(row)) + "\n" for row in rows))


def rebuild(
    dataset: str, corpora: Path, folder: Path, limit: int | None = None
) -> tuple[Corpus, Corpus]:
    """Originals of a dataset from its prepared files.

    limit (int | None): Documents of each split; not for datasets in PubTator files.
    RETURNS (tuple[Corpus, Corpus]): The prepared documents, raw and tokenised.
    """
    raw, tokenised = {}, {}
    for split in SPLITS:
        base = corpora / "ner" / dataset / split
        tokenised[split] = list(islice(conll.read(base.with_suffix(".conll")), limit))
        kept = {d.id for d in tokenised[split]}
        raw[split] = [d for d in jsonl.read(base.with_suffix(".jsonl")) if d.id in kept]
    if dataset in ("bc5cdr-chem", "bc5cdr-disease", "ncbi"):
        _rebuild_pubtator(dataset, corpora / "linking" / dataset.partition("-")[0], folder)
    elif dataset == "jnlpba":
        write_standoff(folder / "standoff" / "train", raw["train"] + raw["dev"])
        write_standoff(folder / "standoff" / "test", raw["test"])
    elif dataset == "linnaeus":
        for documents in raw.values():
            # Three folders were read one after the other, each in the order of its names.
            part = 0
            for before, document in zip([None, *documents], documents, strict=False):
                part += before is not None and before.id > document.id
                write_standoff(folder / "Linnaeus_standoff" / str(part), [document])
    elif dataset == "s800":
        write_standoff(folder / "original-standoff", [d for s in SPLITS for d in raw[s]])
    elif dataset == "cll":
        for split in SPLITS:
            write_standoff(folder / "standoff", raw[split])
            for document in tokenised[split]:
                write_tag_first(folder / "conll" / f"{document.id}.conll", document)
        write_lists(folder, "cll", {s: [d.id for d in raw[s]] for s in SPLITS})
    else:
        top, suffix = ("original-data", ".a1") if dataset == "bionlp13cg" else ("standoff", ".ann")
        for split in SPLITS:
            write_standoff(folder / top / FILES[split], raw[split], suffix)
    for split, documents in tokenised.items():
        if dataset == "anatem":
            for document in documents:
                path = folder / "conll" / FILES[split] / f"{document.id}.conll"
                write(path, token_lines([document]))
        elif dataset in TOKEN_FOLDERS:
            name = "valid" if (dataset, split) == ("jnlpba", "dev") else FILES[split]
            lines = token_lines(documents, dataset == "jnlpba", TAGS.get(dataset))
            write(folder / TOKEN_FOLDERS[dataset] / f"{name}.tsv", lines)
    return raw, tokenised


def _rebuild_pubtator(dataset: str, linking: Path, folder: Path) -> None:
    names = {
        "ncbi": ("NCBI{}set_corpus.txt", ("train", "develop", "test")),
        "bc5cdr": ("CDR_{}Set.PubTator.txt", ("Training", "Development", "Test")),
    }
    pattern, parts = names[linking.name]
    for split, part in zip(SPLITS, parts, strict=True):
        lines = (linking / f"{split}.pubtator").read_text(encoding="utf8")
        if (dataset, split) == ("ncbi", "train"):
            lines = lines.replace('" plus "\t', '" plus "  \t')
            start = lines.index("8528200|t|")
            lines += "\n" + lines[start : lines.index("\n\n", start) + 2]
        write(folder / pattern.format(part), lines)
