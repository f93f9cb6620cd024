"""CLL: sentences in files of their own, as text with annotations and as tokens.

In the folder, packed (CLL_corpus.tar.gz, release 1.0.2) or not, the release and the lists of
HUNER (github.com/hu-ner/huner, ner_scripts/splits):

    conll/ID.conll                  tag and token a line
    ID.txt, ID.ann                  standoff, in whatever folder
    cll.train, cll.dev, cll.test    an ID a line

No file of the release was seen: this follows programs that read it, and what was made of it.
"""

from pathlib import Path

from ...errors import OpenMedError
from .. import registry
from ..documents import Document
from ..formats import brat, conll
from ..formats.lines import numbered_lines
from ..problems import OnError
from .lists import read_lists
from .matching import match
from .sources import Sources
from .splits import Split, with_tokens


def convert(dataset: str, sources: Sources, on_error: OnError) -> dict[str, Split]:
    """The splits of the lists."""
    types = {name: name for name in registry.dataset(dataset).types}
    splits: dict[str, Split] = {}
    for split, names in read_lists(dataset, sources).items():
        originals: list[Document] = []
        tokenised: list[Document] = []
        for name in names:
            try:
                text = sources.find(f"{name}.txt")
                if not text.with_suffix(".ann").is_file():
                    raise OpenMedError(f"{text}: there is no {name}.ann beside it.")
                [original] = brat.read(text, types)
                path = sources.find(f"conll/{name}.conll")
                mended = sources.mended(path, _tag_last(path))
                published = conll.read(mended, types, on_error, "BIO2")
                tokenised += match(published, [original], mended, on_error)
                originals.append(original)
            except OpenMedError as error:
                on_error(error)
        splits |= with_tokens(originals, {split: tokenised}, on_error)
    return splits


def _tag_last(path: Path) -> str:
    """A file with a tag and a token a line, the other way round."""
    lines = []
    for where, line in numbered_lines(path):
        columns = line.split()
        if len(columns) not in (0, 2):
            raise OpenMedError(f"{where}: expected a tag and a token: {line!r}")
        lines.append("\t".join(reversed(columns)))
    return "".join(f"{line}\n" for line in lines)
