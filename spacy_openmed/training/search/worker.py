"""A process that runs trials, so that a trial that dies does not take the search with it."""

import multiprocessing
import os
import signal
import sys
import threading
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import torch

from ...errors import OpenMedError
from ..finetune import Report
from .space import Values
from .trial import Died, Task, TrialResult, run_trial

LOG = "trials.log"
# Seconds that a worker has to end by itself.
_PATIENCE = 10.0


class Worker:
    """Runs trials one after another in a process of its own, started anew when it dies.

    task (Task): What all trials share.
    folder (Path): Gets ``trials.log``, and a folder for the running trial.
    threads (int): Of torch.
    """

    def __init__(self, task: Task, folder: Path, threads: int) -> None:
        self.task = task
        self.folder = folder
        self.threads = threads
        self._process: Any = None
        self._connection: Any = None

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *args: object) -> None:
        self._stop()

    def run(self, number: int, values: Values, report: Report) -> TrialResult:
        """Run one trial.

        RAISES (Died): The trial, or the whole process, came to an unexpected end.
        """
        if self._process is None:
            self._start()
        try:
            self._connection.send((number, values))
            while True:
                kind, content = self._connection.recv()
                if kind == "epoch":
                    self._connection.send(report(*content))
                elif kind == "outcome":
                    outcome: TrialResult = content
                    return outcome
                else:
                    # What it held, on a GPU above all, goes with it.
                    self._stop()
                    raise Died(content)
        except (EOFError, BrokenPipeError, ConnectionResetError) as error:
            self._process.join(_PATIENCE)
            code = self._process.exitcode
            self._stop()
            raise Died(_end(code)) from error

    def _start(self) -> None:
        # A fork would inherit threads of torch that do not exist in it.
        context = multiprocessing.get_context("spawn")
        self._connection, other = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(other, self.task, self.folder, self.threads), daemon=True
        )
        self._process.start()
        other.close()

    def _stop(self) -> None:
        if self._process is None:
            return
        self._connection.close()
        self._process.join(_PATIENCE)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._process = self._connection = None


def _end(code: int | None) -> str:
    if code is None or code >= 0:
        return f"the process that ran it ended with status {code}"
    name = signal.Signals(-code).name
    # The kernel's way to end what takes more memory than there is.
    hint = " (out of memory?)" if name == "SIGKILL" else ""
    return f"the process that ran it was ended by {name}{hint}"


def _serve(connection: Connection, task: Task, folder: Path, threads: int) -> None:
    # Ctrl-C reaches the whole group; the search ends this process when it has ended its own.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # The Trainer's bars and warnings would tear the search's own bar to pieces.
    with (folder / LOG).open("a", encoding="utf8", buffering=1) as log:
        os.dup2(log.fileno(), sys.stdout.fileno())
        os.dup2(log.fileno(), sys.stderr.fileno())
    torch.set_num_threads(threads)
    while True:
        try:
            number, values = connection.recv()
        except EOFError:
            return

        def report(epoch: int, dev_f1: float) -> bool:
            connection.send(("epoch", (epoch, dev_f1)))
            answer: bool = connection.recv()
            return answer

        print(f"trial {number}: {values}")
        try:
            outcome = run_trial(task, values, trial_folder(folder, number), report)
        except (EOFError, BrokenPipeError):
            return
        except Exception as error:  # whatever it is, it ends this trial and no other
            connection.send(("died", describe(error)))
        else:
            connection.send(("outcome", outcome))


def trial_folder(folder: Path, number: int) -> Path:
    """Where a trial keeps its checkpoints while it runs."""
    return folder / "running" / str(number)


def describe(error: Exception) -> str:
    """One line on why a trial died."""
    if isinstance(error, OpenMedError):
        return str(error)
    return f"{type(error).__name__}: {error}".splitlines()[0][:300]


def _end_with_parent() -> None:
    """Nobody waits for a trial whose search was killed, and the next one needs the machine."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
