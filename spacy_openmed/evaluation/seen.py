"""How often a mention was annotated in the text that a model was trained on."""

from collections import Counter
from collections.abc import Iterable

from ..corpora.documents import Document
from ..entities import Entity
from ..labelling import Flatten, outermost


def surface(document: Document, entity: Entity) -> str:
    """A mention as two are compared: without case, any white space one blank."""
    return " ".join(document.text[entity.start : entity.end].split()).casefold()


class Seen:
    """The mentions of training text.

    documents (Iterable[Document]): Training text.
    flatten (Flatten): Of nested mentions, those count that training teaches.
    """

    def __init__(self, documents: Iterable[Document] = (), flatten: Flatten = outermost) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()
        self.add(documents, flatten)

    def add(self, documents: Iterable[Document], flatten: Flatten = outermost) -> None:
        """Count the mentions of another corpus as well."""
        self._counts.update(
            (surface(document, entity), entity.label)
            for document in documents
            for entity in flatten(document.entities)
        )

    def times(self, document: Document, entity: Entity) -> int:
        """How often the same words were annotated with the same label.

        document (Document): Where the entity is; need not be training text.
        """
        return self._counts[surface(document, entity), entity.label]
