"""What a reader does with a document that it cannot read: stop, or skip it and count."""

from collections.abc import Callable

from ..errors import OpenMedError

OnError = Callable[[OpenMedError], None]


def stop(error: OpenMedError) -> None:
    """Raise it: nothing of a broken file is used unless the user says so."""
    raise error


class Skipped:
    """Counts what was skipped and keeps the first messages, for ``--keep-going``.

    count (int): Documents skipped.
    messages (list[str]): The first of them, each with file, line and reason.
    """

    _KEPT = 20

    def __init__(self) -> None:
        self.count = 0
        self.messages: list[str] = []

    def __call__(self, error: OpenMedError) -> None:
        self.count += 1
        if len(self.messages) < self._KEPT:
            self.messages.append(str(error))
