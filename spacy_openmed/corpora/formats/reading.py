"""What readers do alike: one document after the other, and errors that name their place."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from ...errors import OpenMedError
from ..documents import Document
from ..problems import OnError
from .ids import UniqueIds

Source = TypeVar("Source")


def read_each(
    sources: Iterable[tuple[int, str, Source]],
    build: Callable[[Source, str], Document | None],
    unit: str,
    on_error: OnError,
) -> Iterator[Document]:
    """Build documents, each with an id of its own.

    sources (Iterable[tuple[int, str, Source]]): The number of each, the same with the file for
        messages, and what it is built of.
    build (Callable): Takes what it is built of and the place; None is no document.
    unit (str): What the numbers count, see ``UniqueIds``.
    on_error (OnError): Called with what is wrong with a document, which is then left out.
    YIELDS (Document): One at a time.
    """
    ids = UniqueIds(unit)
    for number, where, source in sources:
        try:
            document = build(source, where)
            if document is not None:
                ids.check(document.id, number, where)
        except OpenMedError as error:
            on_error(error)
        else:
            if document is not None:
                yield document


@contextmanager
def explained(message: str) -> Iterator[None]:
    """Turn what data of another shape make code stumble over into an error that says so.

    message (str): The place, and what was expected there.
    RAISES (OpenMedError): The message and the reason; one from within stays as it is.
    """
    try:
        yield
    except OpenMedError:
        raise
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise OpenMedError(f"{message}: {error!r}") from error


def check_passages(
    passages: Iterable[tuple[object, object, object]], text: str, where: str
) -> list[tuple[int, int, str]]:
    """Passages, if they are some of their text; they may be empty.

    passages (Iterable): Start, end and name of each.
    where (str): Place, for the message.
    RAISES (OpenMedError): Not two integers and a string, or outside the text.
    """
    checked = []
    for start, end, name in passages:
        if not (type(start) is int and type(end) is int and 0 <= start <= end <= len(text)):
            raise OpenMedError(
                f"{where}: passage {start!r} to {end!r} lies outside its text of {len(text)} "
                f"characters."
            )
        if not isinstance(name, str):
            raise OpenMedError(f"{where}: name of passage {start} to {end} is {name!r}.")
        checked.append((start, end, name))
    return checked
