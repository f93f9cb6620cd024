"""Do the raw form of a split and its published tokens have the same entities?"""

from collections.abc import Iterable

from ..errors import OpenMedError
from ..evaluation.scores import on_tokens
from ..labelling import Flatten
from .documents import Document
from .token_offsets import token_offsets


def differing(
    raw: Iterable[Document], tagged: Iterable[Document], flatten: Flatten
) -> dict[str, int]:
    """Entities that only one of both forms of a split has, on the tokens of the CoNLL file.

    raw, tagged (Iterable[Document]): The same documents, by id, or in the same order where the
        CoNLL file has no ids.
    flatten (Flatten): What is done about nested mentions.
    RETURNS (dict): "only_tagged" and "only_raw".
    RAISES (OpenMedError): A document is in one of both only, or its tokens are not in the text.
    """
    left = {d.id or number: d for number, d in enumerate(raw)}
    in_order = iter(list(left))
    only_tagged = only_raw = 0
    for other in tagged:
        key = other.id or next(in_order, None)
        one = left.pop(key, None) if key is not None else None
        if one is None:
            raise OpenMedError(f"document '{other.id}' is in the CoNLL file only.")
        words = [other.text[start:end] for start, end in other.tokens]
        tokens = token_offsets(words, one.text, one.id)
        there = set(on_tokens(other.entities, other.tokens))
        here = set(on_tokens(flatten(one.entities), tokens))
        only_tagged += len(there - here)
        only_raw += len(here - there)
    if left:
        raise OpenMedError(f"document '{next(iter(left))}' is not in the CoNLL file.")
    return {"only_tagged": only_tagged, "only_raw": only_raw}
