"""The study of a search: Optuna's, on disk, so that a search that was killed goes on.

With one trial at a time, what is drawn for a trial depends on the seed, on the trials that
ended before it, and on nothing else: the sampler is made anew for each. A trial that was cut off
is drawn again, the same; and the best trial of a search that was killed is that of an unbroken
one. (Not with Hyperband: its bracket depends on the number of a trial, which those that were cut
off have, too.)
"""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from ...errors import OpenMedError
from ..settings import FinetuneSettings, SearchSettings
from . import space
from .trial import TrialResult

STUDY = "study.db"
NAME = "search"
PRUNERS = ("median", "hyperband", "none")
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
# Deaths in one session without a trial that ends, after which something else must be wrong; once it
# is put right, the same search goes on.
MAX_DEATHS = 5
# Times that a trial may be cut off together with the whole search before it is taken for the
# reason: it may use up the machine's memory.
MAX_INTERRUPTIONS = 5

INTERRUPTED = "interrupted"
_DEFAULTS = "defaults"
_REASONS = "reasons"


@dataclass
class SearchStudy:
    """One study, and all that is asked of it.

    folder (Path): Gets ``study.db``.
    settings (SearchSettings): Space and pruner.
    start (FinetuneSettings): Where the search starts from: the first trial.
    seed (int): Of the sampler.
    epochs (int): The most that a trial has.
    parallel (bool): Several trials at a time; what is drawn then depends on their timing.
    """

    folder: Path
    settings: SearchSettings
    start: FinetuneSettings
    seed: int
    epochs: int
    parallel: bool = False
    _study: optuna.Study = field(init=False)
    # Since the study was opened, or since a trial came to its end.
    _deaths: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        # Else a line a trial, through the progress bar.
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._study = optuna.create_study(
            storage=f"sqlite:///{(self.folder / STUDY).resolve()}",
            study_name=NAME,
            direction="maximize",
            pruner=self._pruner(),
            load_if_exists=True,
        )
        self._release()

    def _pruner(self) -> optuna.pruners.BasePruner:
        name = self.settings.pruner
        startup, warmup = self.settings.pruner_startup_trials, self.settings.pruner_warmup_epochs
        try:
            if name == "median":
                return optuna.pruners.MedianPruner(startup, warmup)
            if name == "hyperband":
                return optuna.pruners.HyperbandPruner(max(1, warmup), self.epochs)
        except ValueError as error:
            raise OpenMedError(f"pruner = {name!r} with its settings: {error}") from error
        if name == "none":
            return optuna.pruners.NopPruner()
        raise OpenMedError(f"pruner = {name!r}: choose {', '.join(PRUNERS)}.")

    def _release(self) -> None:
        """Mark as failed what a search that was killed left running."""
        for trial in self._study.get_trials(states=(TrialState.RUNNING,)):
            self._set_reason(trial.number, INTERRUPTED)
            self._study.tell(trial.number, state=TrialState.FAIL)
        times = Counter(repr(t.params) for t in self._interrupted())
        for trial in self._interrupted():
            if times.pop(repr(trial.params), 0) >= MAX_INTERRUPTIONS:
                self._set_reason(trial.number, f"cut off {MAX_INTERRUPTIONS} times with the search")

    @property
    def finished(self) -> int:
        """How many trials have come to their end, or were pruned."""
        return len(self._trials(*FINISHED))

    def ask(self) -> tuple[optuna.Trial, space.Values]:
        """Begin the next trial.

        RETURNS (tuple): The trial, and its settings by dotted name.
        RAISES (OpenMedError): Trials have died ``MAX_DEATHS`` times in a row.
        """
        dead = [t for t in self._failed() if self.reason(t) != INTERRUPTED]
        if self._deaths >= MAX_DEATHS:
            raise OpenMedError(
                f"{MAX_DEATHS} trials in a row died. The last one: "
                f"{self.reason(dead[-1]).rstrip('.')}. When that is put right, the same command "
                f"goes on."
            )
        number = self.finished + len(dead)
        if self.parallel:
            number += len(self._trials(TrialState.RUNNING))
        self._study.sampler = optuna.samplers.TPESampler(
            n_startup_trials=self.settings.startup_trials,
            seed=int(np.random.SeedSequence((self.seed, number)).generate_state(1)[0]),
            # Keeps trials that run side by side apart. What a killed search left running is
            # no such trial.
            constant_liar=self.parallel,
        )
        if not self._has_start():
            self._study.enqueue_trial(
                space.point(self.settings, self.start), user_attrs={_DEFAULTS: True}
            )
        trial = self._study.ask()
        return trial, space.suggest(self.settings, self.start, trial)

    def _has_start(self) -> bool:
        """Whether the start is waiting, running, or has come to an end of its own."""
        return any(
            trial.user_attrs.get(_DEFAULTS)
            and (trial.state != TrialState.FAIL or self.reason(trial) != INTERRUPTED)
            for trial in self._study.get_trials(deepcopy=False)
        )

    def report(self, trial: optuna.Trial, epoch: int, dev_f1: float) -> bool:
        """Note dev F1 after an epoch.

        RETURNS (bool): Whether the trial is hopeless.
        """
        trial.report(dev_f1, epoch)
        # What the gain is counted from has all its epochs.
        return not trial.user_attrs.get(_DEFAULTS) and bool(trial.should_prune())

    def tell(self, trial: optuna.Trial, outcome: TrialResult) -> None:
        """End a trial."""
        self._deaths = 0
        trial.set_user_attr("outcome", outcome.to_dict())
        if outcome.pruned:
            self._study.tell(trial, state=TrialState.PRUNED)
        else:
            self._study.tell(trial, outcome.dev_f1)

    def fail(self, *trials: optuna.Trial, reason: str) -> None:
        """Mark a trial that died, or several that died of one thing; the search goes on."""
        self._deaths += 1
        for trial in trials:
            self._set_reason(trial.number, reason)
            self._study.tell(trial, state=TrialState.FAIL)

    def rows(self) -> list[dict[str, Any]]:
        """The finished trials, in the order of their numbers.

        RETURNS (list[dict]): "number", "state" ("COMPLETE" or "PRUNED"), "params" by dotted
            name, "defaults" (whether it is the start), and what ``TrialResult.to_dict`` gives.
        """
        return [
            {
                "number": trial.number,
                "state": trial.state.name,
                "params": trial.params,
                "defaults": bool(trial.user_attrs.get(_DEFAULTS)),
                **trial.user_attrs["outcome"],
            }
            for trial in self._trials(*FINISHED)
        ]

    def failures(self) -> list[dict[str, Any]]:
        """The trials that died or were cut off: "number", "params", "reason"."""
        return [
            {"number": trial.number, "params": trial.params, "reason": self.reason(trial)}
            for trial in self._failed()
        ]

    def reason(self, trial: FrozenTrial) -> str:
        """Why a trial failed."""
        return str(self._reasons().get(str(trial.number), "unknown"))

    def _trials(self, *states: TrialState) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False, states=states)

    def _failed(self) -> list[FrozenTrial]:
        return self._trials(TrialState.FAIL)

    def _interrupted(self) -> list[FrozenTrial]:
        return [trial for trial in self._failed() if self.reason(trial) == INTERRUPTED]

    def _reasons(self) -> dict[str, str]:
        return dict(self._study.user_attrs.get(_REASONS, {}))

    def _set_reason(self, number: int, reason: str) -> None:
        # With the study, because Optuna lets nobody write to a trial that another process began.
        self._study.set_user_attr(_REASONS, {**self._reasons(), str(number): reason})
