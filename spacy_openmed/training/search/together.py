"""A search in several processes that ``torchrun`` started: all work on the same trial.

The first process has the study. It tells the others what to run, and after every epoch
whether to go on.
"""

from pathlib import Path
from typing import Any

from accelerate.utils import broadcast_object_list

from ..finetune import Report
from .space import Values
from .trial import Died, Task, TrialResult, run_trial
from .worker import trial_folder


class Together:
    """Runs a trial in all processes.

    task (Task): What all trials share.
    folder (Path): Gets a folder for the running trial.
    """

    def __init__(self, task: Task, folder: Path) -> None:
        self.task = task
        self.folder = folder

    def run(self, number: int, values: Values, report: Report) -> TrialResult:
        """Run one trial; called by the first process.

        RAISES (Died): See ``trial.run_trial``. Where the others have not met the same, they wait
            for this process in the middle of the trial: all must end.
        """
        _share((number, values))
        return self._run(number, values, report)

    def follow(self) -> None:
        """Run what the first process says, until it ends the search.

        RAISES (Exception): What this process alone has met; ``torchrun`` then ends the others.
        """
        while (order := _share(None)) is not None:
            number, values = order
            try:
                self._run(number, values, lambda epoch, dev_f1: False)
            except Died as error:
                if not error.everywhere:
                    raise

    def release(self) -> None:
        """Let the other processes go, at the end of a search."""
        _share(None)

    def _run(self, number: int, values: Values, report: Report) -> TrialResult:
        def told(epoch: int, dev_f1: float) -> bool:
            return bool(_share(report(epoch, dev_f1)))

        return run_trial(self.task, values, trial_folder(self.folder, number), told)


def _share(content: Any) -> Any:
    """What the first process has, in all."""
    box = [content]
    broadcast_object_list(box, from_process=0)
    return box[0]
