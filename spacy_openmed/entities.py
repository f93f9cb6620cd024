"""The currency of the package: an entity as a labelled range of characters."""

from typing import NamedTuple


class Entity(NamedTuple):
    """An entity found in, or annotated on, a text.

    start, end (int): Character offsets, Python str indices, end exclusive.
    label (str): As users see it, e.g. "DISEASE".
    score (float): The model's probability, in [0, 1], of exactly this span with this
        label (see ``decoding.decode``); 1.0 for annotations.
    source (str): Dataset id of the adapter that found it; "" if there is none.
    """

    start: int
    end: int
    label: str
    score: float = 1.0
    source: str = ""
