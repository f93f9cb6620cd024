"""A search in several processes that ``torchrun`` started: all work on the same trial.

The first process has the study. It tells the others what to run, and after every epoch
whether to go on.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from ..finetune import Report
from .space import Values
from .trial import Outcome, Task, run_trial
from .worker import trial_folder


class Together:
    """Runs a trial in all processes.

    task (Task): What all trials share.
    folder (Path): Gets a folder for the running trial.
    """

    def __init__(self, task: Task, folder: Path) -> None:
        self.task = task
        self.folder = folder

    def run(self, number: int, values: Values, report: Report) -> Outcome:
        """Run one trial; called by the first process.

        RAISES (Died): In all processes alike.
        """
        _share((number, values))
        return self._run(number, values, report)

    def follow(self) -> None:
        """Run what the first process says, until it ends the search."""
        while (order := _share(None)) is not None:
            number, values = order
            try:
                self._run(number, values, lambda epoch, dev_f1: False)
            except Exception as error:
                # The first process has met the same, and decides.
                self.last_error = error

    def _run(self, number: int, values: Values, report: Report) -> Outcome:
        def told(epoch: int, dev_f1: float) -> bool:
            return bool(_share(report(epoch, dev_f1)))

        return run_trial(self.task, values, trial_folder(self.folder, number), told)


def _share(content: Any) -> Any:
    """What the first process has, in all."""
    box = [content]
    broadcast_object_list(box, from_process=0)
    return box[0]


@contextmanager
def ended(processes: PartialState) -> Iterator[None]:
    """Let the other processes go when the first one is done with a search."""
    try:
        yield
    finally:
        if processes.num_processes > 1:
            _share(None)
