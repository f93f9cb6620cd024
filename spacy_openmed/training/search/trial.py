"""One trial: a fine-tuning with the settings that the search chose, scored on dev."""

import gc
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...corpora.documents import Document
from ...errors import OpenMedError
from ..finetune import Report, fit
from ..malloc import give_back_freed_memory
from ..processes import is_main
from ..settings import FinetuneSettings
from ..trainer import Diverged
from .space import apply


@dataclass(frozen=True)
class Task:
    """What all trials of a search share. There is no test split in it, nor a way to one.

    train, dev (Sequence[Document]): Annotated documents.
    dataset (str): Id of the corpus.
    backbone (str): Backbone id or folder.
    init_adapter (Path | None): Pre-training adapter.
    settings (FinetuneSettings): What a trial changes.
    """

    train: Sequence[Document]
    dev: Sequence[Document]
    dataset: str
    backbone: str
    init_adapter: Path | None
    settings: FinetuneSettings


@dataclass(frozen=True)
class TrialResult:
    """What came of a trial.

    dev_f1 (float): The best of its epochs, raw micro-F1 in percent.
    epochs (list[float]): Of every epoch.
    pruned (bool): Whether it was ended as hopeless.
    seconds (float): Of training and scoring.
    energy (dict | None): See ``energy.Meter.to_dict``; None where it was not measured.
    """

    dev_f1: float
    epochs: list[float]
    pruned: bool
    seconds: float
    energy: dict[str, Any] | None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class Died(OpenMedError):
    """A trial has ended without a result; the search goes on.

    everywhere (bool): Of several processes that share a trial, whether all have met the same.
    """

    def __init__(self, reason: str, everywhere: bool = False) -> None:
        super().__init__(reason)
        self.everywhere = everywhere


def run_trial(task: Task, values: Mapping[str, Any], folder: Path, report: Report) -> TrialResult:
    """Run one trial in this process.

    values (Mapping[str, Any]): Dotted names of settings to values.
    folder (Path): For its checkpoints; removed at the end.
    report (Report): Told dev F1 after every epoch; ends the trial by returning True.
    RAISES (Died): Out of memory, or the weights are no longer numbers.
    """
    pruned = False

    def told(epoch: int, dev_f1: float) -> bool:
        nonlocal pruned
        pruned = report(epoch, dev_f1)
        return pruned

    # What a trial of that number left that was cut off.
    shutil.rmtree(folder, ignore_errors=True)
    try:
        fitted = fit(
            task.train,
            task.dev,
            task.backbone,
            folder,
            apply(task.settings, values),
            task.dataset,
            task.init_adapter,
            report=told,
        )
    except Diverged as error:
        raise Died(str(error), everywhere=True) from error
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise Died(f"out of memory ({first[:200]})") from error
    finally:
        if is_main():
            shutil.rmtree(folder, ignore_errors=True)
        # A Trainer and its callbacks hold each other, and with them the network.
        gc.collect()
        give_back_freed_memory()
    record = fitted.record
    epochs = [round(row["dev_f1"], 4) for row in record["epochs"]]
    return TrialResult(max(epochs), epochs, pruned, record["seconds"], record["energy"])


def _is_out_of_memory(error: BaseException) -> bool:
    # torch has a class for what a GPU refuses, and a plain RuntimeError for the CPU.
    return isinstance(error, MemoryError) or any(
        words in str(error) for words in ("out of memory", "can't allocate memory")
    )
