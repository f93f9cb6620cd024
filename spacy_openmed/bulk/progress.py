"""How far a run is: documents and words a second, and the time left."""

import threading
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType

from tqdm import tqdm

from . import readers
from .results import Result
from .sources import Source


class Progress:
    """A progress bar, on a terminal.

    The rows of the input are counted beside the work; the time left is shown when all are.

    sources (Sequence[Source]): The input.
    done (int): Rows done before.
    """

    def __init__(self, sources: Sequence[Source], done: int) -> None:
        # Only on a terminal.
        self._bar = tqdm(
            desc="annotate", unit="doc", initial=done, disable=None, dynamic_ncols=True
        )
        self._words = 0
        if not self._bar.disable:
            threading.Thread(target=self._count, args=(sources,), daemon=True).start()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()

    def add(self, result: Result) -> None:
        """Show what a part adds."""
        self._words += result.words
        seconds = self._bar.format_dict["elapsed"]
        self._bar.set_postfix_str(f"{self._words / max(seconds, 1e-9):,.0f} words/s", refresh=False)
        self._bar.update(result.documents + len(result.skipped))

    def _count(self, sources: Sequence[Source]) -> None:
        total = 0
        for source in sources:
            # What cannot be read is reported when its turn comes.
            with suppress(Exception):
                total += readers.count(source)
        self._bar.total = total
