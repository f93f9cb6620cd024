"""BC5CDR and NCBI Disease: abstracts in PubTator files, tokens from MTL.

In the folder, packed or not, for bc5cdr-chem and bc5cdr-disease (CDR_Data.zip of BioCreative V)

    CDR_{Training,Development,Test}Set.PubTator.txt

and for ncbi

    NCBI{train,develop,test}set_corpus.txt

and from github.com/cambridgeltl/MTL-Bioinformatics-2016, data, one of

    BC5CDR-chem-IOB, BC5CDR-disease-IOB, NCBI-disease-IOB: {train,devel,test}.tsv

PubTator files of BC5CDR have chemicals and diseases, of which one is kept. The four kinds of
disease in NCBI Disease become the one type "Disease".
"""

import re
from collections.abc import Iterator
from pathlib import Path

from .. import registry
from ..documents import Document
from ..formats import conll, pubtator
from ..formats.lines import numbered_lines
from ..problems import OnError
from .matching import match
from .sources import Sources
from .splits import Split, relabelled, with_tokens

_TEXTS = {
    "bc5cdr": {
        "train": "CDR_TrainingSet.PubTator.txt",
        "dev": "CDR_DevelopmentSet.PubTator.txt",
        "test": "CDR_TestSet.PubTator.txt",
    },
    "ncbi": {
        "train": "NCBItrainset_corpus.txt",
        "dev": "NCBIdevelopset_corpus.txt",
        "test": "NCBItestset_corpus.txt",
    },
}
_TOKENS = {
    "bc5cdr-chem": "BC5CDR-chem-IOB",
    "bc5cdr-disease": "BC5CDR-disease-IOB",
    "ncbi": "NCBI-disease-IOB",
}
_TOKEN_FILES = {"train": "train.tsv", "dev": "devel.tsv", "test": "test.tsv"}
_NCBI_KINDS = ("SpecificDisease", "DiseaseClass", "Modifier", "CompositeMention")
# In the training file of NCBI Disease twice. MTL has it once.
_NCBI_TWICE = "8528200"
_BLANKS_AT_TAB = re.compile(r" *\t *")


def convert(dataset: str, sources: Sources, on_error: OnError) -> dict[str, Split]:
    """The official splits."""
    splits: dict[str, Split] = {}
    for split, name in _TEXTS[dataset.partition("-")[0]].items():
        read = _ncbi if dataset == "ncbi" else _bc5cdr
        originals = list(read(dataset, sources.find(name), sources, on_error))
        path = sources.find(f"{_TOKENS[dataset]}/{_TOKEN_FILES[split]}")
        types = {name: name for name in registry.dataset(dataset).types}
        published = conll.read(path, types, on_error, "BIO2")
        tokenised = {split: match(published, originals, path, on_error)}
        splits |= with_tokens(originals, tokenised, on_error)
    return splits


def _bc5cdr(dataset: str, path: Path, sources: Sources, on_error: OnError) -> Iterator[Document]:
    types = {"Chemical": "Chemical", "Disease": "Disease"}
    kept = registry.dataset(dataset).types
    yield from relabelled(
        pubtator.read(path, types, on_error), lambda label: label if label in kept else None
    )


def _ncbi(dataset: str, path: Path, sources: Sources, on_error: OnError) -> Iterator[Document]:
    types = dict.fromkeys(_NCBI_KINDS, "Disease")
    mended = sources.mended(path, _mend_ncbi(path))
    yield from pubtator.read(mended, types, on_error)


def _mend_ncbi(path: Path) -> str:
    """The file without blanks around mentions and concepts, and with no abstract twice."""
    lines = []
    seen = False
    skipping = False
    for _, line in numbered_lines(path):
        if line.startswith(f"{_NCBI_TWICE}|t|"):
            skipping, seen = seen, True
        elif not line.strip():
            skipping = False
        # Lines are emptied, not taken out: messages have the numbers of the original.
        lines.append("" if skipping else _BLANKS_AT_TAB.sub("\t", line))
    return "".join(f"{line}\n" for line in lines)
