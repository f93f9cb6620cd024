"""What a converter of originals makes of one split."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from ...errors import OpenMedError
from ..documents import Document
from ..problems import OnError


@dataclass(frozen=True)
class Split:
    """One split of a dataset, in both its forms, with the corpus's own type names.

    raw (Iterable[Document]): Source text with character offsets, nested entities kept.
    tokenised (Iterable[Document] | None): The published tokens and tags, with the ids of the
        same documents; None where nobody may hand on any.
    """

    raw: Iterable[Document]
    tokenised: Iterable[Document] | None = None


def relabelled(
    documents: Iterable[Document], rename: Callable[[str], str | None]
) -> Iterator[Document]:
    """Documents with other type names.

    rename (Callable): None for a type that is left out. Entities that become equal are one.
    """
    for document in documents:
        entities = {
            (e.start, e.end, label): e._replace(label=label)
            for e in document.entities
            if (label := rename(e.label))
        }
        concepts = {
            (start, end, new): concept
            for (start, end, label), concept in document.concepts.items()
            if (new := rename(label))
        }
        yield replace(document, entities=list(entities.values()), concepts=concepts)


def with_tokens(
    originals: Sequence[Document], tokenised: dict[str, list[Document]], on_error: OnError
) -> dict[str, Split]:
    """Deal documents out to the splits in which their tokens were published.

    originals (Sequence[Document]): Of one or several splits.
    tokenised (dict[str, list[Document]]): Split to the documents in its token file.
    on_error (OnError): Called with a document that is in none, which is then left out.
    """
    names = {split: {d.id for d in documents} for split, documents in tokenised.items()}
    for original in originals:
        if not any(original.id in ids for ids in names.values()):
            on_error(
                OpenMedError(
                    f"document '{original.id}': nothing of it is among the published tokens of "
                    f"{', '.join(tokenised)}."
                )
            )
    return {
        split: Split([d for d in originals if d.id in names[split]], documents)
        for split, documents in tokenised.items()
    }
