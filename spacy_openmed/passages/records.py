"""What every reader of a pre-training source yields."""

from typing import NamedTuple


class Record(NamedTuple):
    """A text of a source, not yet cut into passages.

    source (str): "pubmed", "arxiv", "mimic", "clinicaltrials" or "text".
    id (str): Name in the source, e.g. a PMID; text of one study or note may have a further
        part, as in "NCT00000102/briefSummary".
    text (str): As it was written, line ends included: they tell where sentences end.
    """

    source: str
    id: str
    text: str
