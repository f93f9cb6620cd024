"""The search: its space, its study on disk, trials that die, and what is written."""

import dataclasses
import json
import math
import os
import re
import signal
import sys
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_training import MARKED, marked
from typer.testing import CliRunner

from spacy_openmed.cli.app import app
from spacy_openmed.corpora.documents import Document, labels_of
from spacy_openmed.entities import Entity
from spacy_openmed.errors import OpenMedError
from spacy_openmed.evaluation.search_plots import PLOTS, draw
from spacy_openmed.files import only_one
from spacy_openmed.training.search import run as module
from spacy_openmed.training.search import space, trial
from spacy_openmed.training.search.run import BEST, LOCK, RESULT, Search, search
from spacy_openmed.training.search.study import MAX_DEATHS, MAX_INTERRUPTIONS, SearchStudy
from spacy_openmed.training.search.trial import Died, Task, TrialResult
from spacy_openmed.training.search.worker import Worker
from spacy_openmed.training.settings import (
    Dimension,
    FinetuneSettings,
    LoraSettings,
    OptimSettings,
    SearchSettings,
    from_dict,
    load,
    to_dict,
)
from spacy_openmed.training.trainer import Diverged

pytestmark = pytest.mark.usefixtures("one_torch_thread")

CONFIGS = Path(__file__).parents[1] / "configs"
START = FinetuneSettings(
    lora=LoraSettings(rank=4, alpha=8, dropout=0.0),
    optim=OptimSettings(batch_size=2, learning_rate=1e-3, epochs=2, precision="fp32"),
    window=32,
    overlap=8,
    sentences=False,
    dropout=0.0,
)
SETTINGS = SearchSettings(
    space={
        "optim.learning_rate": Dimension(1e-4, 1e-2, log=True),
        "optim.warmup_ratio": Dimension(0.0, 0.3),
        "optim.batch_size": Dimension(1, 4),
        "lora.rank": Dimension(choices=[2, 4, 8]),
    },
    startup_trials=4,
    pruner_startup_trials=2,
)
# With a label that no other document has.
ZEBRAS = Document("", "Zebras are animals.", [Entity(0, 6, "SPECIES")])


def documents() -> list[Document]:
    return list(map(marked, MARKED.strip().splitlines()))


def plan_in(folder: Path, backbone: Path, **changes: Any) -> Search:
    found = documents()
    plan = Search(found, found, "", str(backbone), folder, SETTINGS, START)
    return replace(plan, **changes)


def hill(values: space.Values, epoch: int) -> float:
    """A dev F1 that depends on the settings alone."""
    rate = 50 - 20 * abs(2.5 + math.log10(values["optim.learning_rate"]))
    return float(rate - 10 * values["optim.warmup_ratio"] + values["lora.rank"] + epoch)


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[int]]:
    """Trials that take no time: their F1 is a function of their settings."""

    def install(
        score: Callable[[space.Values, int], float] = hill,
        die: Callable[[int], str | None] = lambda number: None,
    ) -> list[int]:
        numbers: list[int] = []

        class Scripted(Worker):
            def run(self, number: int, values: space.Values, report: Any) -> TrialResult:
                numbers.append(number)
                if reason := die(number):
                    raise Died(reason)
                epochs: list[float] = []
                for epoch in (1, 2, 3):
                    epochs.append(score(values, epoch))
                    if report(epoch, epochs[-1]):
                        return TrialResult(max(epochs), epochs, True, 1.0, None)
                return TrialResult(max(epochs), epochs, False, 1.0, None)

        monkeypatch.setattr(module, "Worker", Scripted)
        return numbers

    return install


# --- space -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"space": {}}, "has no \\[space\\]"),
        ({"space": {"optim.lr": Dimension(1, 2)}}, "no setting 'optim.lr'"),
        ({"space": {"optim": Dimension(1, 2)}}, "no setting 'optim'"),
        ({"fixed": {"epochs": 3}}, "no setting 'epochs'"),
        ({"fixed": {"lora.rank": 4}}, "In \\[space\\] and in \\[fixed\\]: lora.rank"),
        ({"fixed": {"optim.epochs": "four"}}, "must be of type float"),
        ({"space": {"optim.weight_decay": Dimension(0.2, 0.1)}}, "low must be below high"),
        ({"space": {"optim.weight_decay": Dimension(0.0, 0.1, log=True)}}, "begins above 0"),
        ({"space": {"optim.weight_decay": Dimension(0.1, 0.2)}}, "0.01, which the search"),
        ({"space": {"lora.rank": Dimension(choices=[2, 8])}}, "4, which the search"),
        ({"space": {"lora.rank": Dimension(1, 8, choices=[4])}}, "not both"),
        ({"space": {"lora.rank": Dimension(choices=[4, "8"])}}, "must be of type int"),
        ({"space": {"init": Dimension(1, 2)}}, "is no number: list its choices"),
    ],
)
def test_a_space_that_makes_no_sense_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(OpenMedError, match=message):
        space.check(replace(SETTINGS, **changes), START)


@given(seed=st.integers(0, 2**32 - 1))
def test_every_draw_is_in_the_space_and_settings_take_it(seed: int) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed))
    values = space.suggest(SETTINGS, START, study.ask())
    assert 1e-4 <= values["optim.learning_rate"] <= 1e-2
    assert values["optim.batch_size"] in (1, 2, 3, 4)
    changed = space.apply(START, values)
    assert space.point(SETTINGS, changed) == values
    # The update keeps its scale.
    assert changed.lora.alpha / changed.lora.rank == START.lora.alpha / START.lora.rank
    assert replace(
        changed, lora=START.lora, optim=replace(START.optim, seed=changed.optim.seed)
    ) == replace(START, optim=replace(START.optim, seed=changed.optim.seed))


def test_alpha_that_is_searched_does_not_follow_the_rank() -> None:
    assert space.apply(START, {"lora.rank": 8, "lora.alpha": 5}).lora.alpha == 5
    assert space.apply(START, {"optim.epochs": 3.0}).lora == START.lora


@pytest.mark.parametrize("name", sorted(path.stem for path in CONFIGS.glob("search*.toml")))
def test_the_spaces_that_ship_begin_at_the_settings_that_ship(name: str) -> None:
    settings = load(SearchSettings, name)
    start = load(FinetuneSettings, settings.finetune or name.replace("search", "finetune"))
    space.check(settings, start)
    searched = {"learning_rate", "batch_size", "weight_decay", "warmup_ratio", "rank", "dropout"}
    assert {key.split(".")[1] for key in settings.space} == searched


def test_epochs_and_target_modules_can_be_searched_as_the_example_says() -> None:
    text = (CONFIGS / "search.toml").read_text(encoding="utf8")
    before, example = text.split("# [space.", 1)
    uncommented = "[space." + re.sub(r"^# ?", "", example, flags=re.M)
    settings = from_dict(SearchSettings, tomllib.loads(before + uncommented), "here")
    assert {"optim.epochs", "lora.target_modules"} <= set(settings.space)
    start = load(FinetuneSettings, "finetune")
    space.check(settings, start)
    assert space.most_epochs(settings, start) > start.optim.epochs
    for pattern in settings.space["lora.target_modules"].choices:
        assert re.fullmatch(pattern, "encoder.layer.3.attention.self.query_proj")


def test_settings_of_a_dimension_are_checked() -> None:
    with pytest.raises(OpenMedError, match="unknown setting step"):
        from_dict(SearchSettings, {"space": {"lora.rank": {"step": 1}}}, "here")
    with pytest.raises(OpenMedError, match="must be of type"):
        from_dict(SearchSettings, {"space": {"lora.rank": [1, 2]}}, "here")


# --- no test split ---------------------------------------------------------------------------


def test_nothing_of_a_search_has_a_way_to_a_test_split() -> None:
    """Trials get documents of train and dev; folders in sight are outputs and adapters."""
    assert [f.name for f in dataclasses.fields(Task)] == [
        "train", "dev", "dataset", "backbone", "init_adapter", "settings",
    ]  # fmt: skip
    for path in Path(module.__file__).parent.glob("*.py"):
        source = path.read_text(encoding="utf8")
        for reader in ("corpora.folder", "read_split", "corpus_file", "own.load"):
            assert reader not in source, f"{path.name}: {reader}"


# --- the study -------------------------------------------------------------------------------


def test_the_first_trial_is_the_start_and_the_best_is_found(
    scripted: Callable[..., list[int]], tiny_backbone: Path, tmp_path: Path
) -> None:
    scripted()
    result = search(plan_in(tmp_path, tiny_backbone), 18)
    rows = result["finished"]
    assert rows[0]["defaults"] and rows[0]["params"] == space.point(SETTINGS, START)
    assert [row["defaults"] for row in rows].count(True) == 1
    complete = [row for row in rows if row["state"] == "COMPLETE"]
    assert result["best"]["dev_f1"] == max(row["dev_f1"] for row in complete)
    assert result["gain"] == result["best"]["dev_f1"] - rows[0]["dev_f1"] > 3
    # TPE comes closer than its random start.
    best_at_start = max(row["dev_f1"] for row in rows[1:4])
    assert result["best"]["dev_f1"] > best_at_start
    assert result == json.loads((tmp_path / RESULT).read_text(encoding="utf8"))
    best = from_dict(FinetuneSettings, tomllib.loads((tmp_path / BEST).read_text()), BEST)
    assert best == space.apply(START, result["best"]["params"])


def test_what_is_fixed_holds_in_the_search_alone(
    scripted: Callable[..., list[int]], tiny_backbone: Path, tmp_path: Path
) -> None:
    scripted()
    plan = plan_in(tmp_path, tiny_backbone, settings=replace(SETTINGS, fixed={"optim.epochs": 1.0}))
    assert plan.task.settings.optim.epochs == 1
    search(plan, 2)
    assert tomllib.loads((tmp_path / BEST).read_text())["optim"]["epochs"] == START.optim.epochs


def test_median_pruning_ends_hopeless_trials_but_never_the_start(
    scripted: Callable[..., list[int]], tiny_backbone: Path, tmp_path: Path
) -> None:
    scripted()
    rows = search(plan_in(tmp_path / "median", tiny_backbone), 14)["finished"]
    pruned = [row for row in rows if row["state"] == "PRUNED"]
    assert pruned and all(len(row["epochs"]) < 3 for row in pruned)
    none = replace(SETTINGS, pruner="none")
    rows = search(plan_in(tmp_path / "none", tiny_backbone, settings=none), 6)["finished"]
    assert {row["state"] for row in rows} == {"COMPLETE"}
    hyperband = replace(SETTINGS, pruner="hyperband")
    rows = search(plan_in(tmp_path / "hyperband", tiny_backbone, settings=hyperband), 8)["finished"]
    assert len(rows) == 8


def begin(plan: Search) -> None:
    """Note what a search is about, and no more."""
    with pytest.raises(_Begun), pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SearchStudy", _raise)
        search(plan, 1)


class _Begun(Exception):
    pass


def _raise(*args: Any, **kwargs: Any) -> None:
    raise _Begun


def _cut_off(plan: Search, study: SearchStudy, values: list[space.Values]) -> None:
    """Leave a trial running, as a search that is killed does."""
    trial, drawn = study.ask()
    values.append(drawn)
    study.report(trial, 1, 1.0)


@pytest.mark.parametrize("kill_after", [(0,), (3,), (0, 5, 5), (1, 2, 9)])
def test_a_search_that_is_cut_off_ends_with_the_same_trials(
    scripted: Callable[..., list[int]],
    tiny_backbone: Path,
    tmp_path: Path,
    kill_after: tuple[int, ...],
) -> None:
    scripted()
    whole = search(plan_in(tmp_path / "whole", tiny_backbone), 14)
    plan = plan_in(tmp_path / "cut", tiny_backbone)
    for count in kill_after:
        if count:
            search(plan, count)
        else:
            begin(plan)
        study = SearchStudy(plan.output, SETTINGS, START, plan.seed, 2)
        _cut_off(plan, study, [])
    cut = search(plan, 14)
    for key in ("params", "dev_f1", "state", "epochs"):
        assert [row[key] for row in cut["finished"]] == [row[key] for row in whole["finished"]]
    assert {k: cut["best"][k] for k in ("params", "dev_f1")} == {
        k: whole["best"][k] for k in ("params", "dev_f1")
    }
    assert len(cut["failed"]) == len(kill_after)
    assert {row["reason"] for row in cut["failed"]} == {"interrupted"}


def test_finished_trials_are_not_run_again(
    scripted: Callable[..., list[int]], tiny_backbone: Path, tmp_path: Path
) -> None:
    numbers = scripted()
    plan = plan_in(tmp_path, tiny_backbone)
    first = search(plan, 5)
    assert search(plan, 5) == first and numbers == [0, 1, 2, 3, 4]
    more = search(plan, 8)
    assert numbers == list(range(8)) and more["finished"][:5] == first["finished"]


def test_another_seed_draws_other_trials(
    scripted: Callable[..., list[int]], tiny_backbone: Path, tmp_path: Path
) -> None:
    scripted()
    one, two = (
        search(plan_in(tmp_path / str(seed), tiny_backbone, seed=seed), 4)["finished"]
        for seed in (1, 2)
    )
    assert one[0]["params"] == two[0]["params"]
    assert all(a["params"] != b["params"] for a, b in zip(one[1:], two[1:], strict=True))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"dataset": "ncbi"}, "dataset was"),
        ({"seed": 2}, "seed was"),
        ({"train": documents()[:-1]}, "data.train.sha256"),
        ({"settings": replace(SETTINGS, pruner="none")}, "settings.pruner"),
        (
            {"settings": replace(SETTINGS, space={"lora.rank": Dimension(choices=[2, 4])})},
            "settings.space.lora.rank.choices",
        ),
        ({"start": replace(START, dropout=0.2)}, "start.dropout"),
    ],
)
def test_a_study_of_something_else_is_refused(
    scripted: Callable[..., list[int]],
    tiny_backbone: Path,
    tmp_path: Path,
    changes: dict[str, Any],
    named: str,
) -> None:
    scripted()
    search(plan_in(tmp_path, tiny_backbone), 1)
    with pytest.raises(OpenMedError, match=named):
        search(plan_in(tmp_path, tiny_backbone, **changes), 1)


def test_a_pruner_with_impossible_settings_is_refused(tiny_backbone: Path, tmp_path: Path) -> None:
    plan = plan_in(tmp_path, tiny_backbone, settings=replace(SETTINGS, pruner_startup_trials=-1))
    with pytest.raises(OpenMedError, match=r"pruner = 'median'.*-1"):
        search(plan, 2)


def test_an_unknown_pruner_is_refused(tiny_backbone: Path, tmp_path: Path) -> None:
    plan = plan_in(tmp_path, tiny_backbone, settings=replace(SETTINGS, pruner="best"))
    with pytest.raises(OpenMedError, match="choose median, hyperband, none"):
        search(plan, 1)


def test_the_start_is_tried_even_where_it_was_cut_off_beside_others(
    scripted: Callable[..., list[int]], tiny_backbone: Path, tmp_path: Path
) -> None:
    """With several trials at a time the start may be cut off when another has ended."""
    scripted()
    plan = plan_in(tmp_path, tiny_backbone)
    module.begun.write(tmp_path / module.RUN, {})
    study = SearchStudy(tmp_path, SETTINGS, START, plan.seed, 2, parallel=True)
    study.ask()
    second, _ = study.ask()
    study.tell(second, TrialResult(1.0, [1.0], False, 1.0, None))
    resumed = SearchStudy(tmp_path, SETTINGS, START, plan.seed, 2)
    _, values = resumed.ask()
    assert values == space.point(SETTINGS, START)
    assert resumed.ask()[1] != values


def test_only_one_search_works_in_a_folder(
    scripted: Callable[..., list[int]], tiny_backbone: Path, tmp_path: Path
) -> None:
    scripted()
    plan = plan_in(tmp_path, tiny_backbone)
    with (
        only_one(tmp_path / LOCK, "search"),
        pytest.raises(OpenMedError, match="Another search is running"),
    ):
        search(plan, 1)
    search(plan, 1)


def test_a_study_that_nothing_is_known_of_is_refused(
    scripted: Callable[..., list[int]], tiny_backbone: Path, tmp_path: Path
) -> None:
    scripted()
    plan = plan_in(tmp_path, tiny_backbone)
    search(plan, 1)
    (tmp_path / "run.json").unlink()
    with pytest.raises(OpenMedError, match=r"a study, but no run\.json"):
        search(plan, 1)


def test_hyperband_knows_how_many_epochs_a_trial_may_have() -> None:
    assert space.most_epochs(SETTINGS, START) == 2
    for dimension in (Dimension(1.0, 9.0), Dimension(choices=[2.0, 9.0])):
        searched = replace(SETTINGS, space={"optim.epochs": dimension})
        assert space.most_epochs(searched, START) == 9


def test_paths_of_a_task_hold_in_any_working_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "backbone").mkdir()
    monkeypatch.chdir(tmp_path)
    plan = Search([], [], "", "backbone", Path("out"), SETTINGS, START, Path("adapter"))
    assert plan.task.backbone == str(tmp_path.resolve() / "backbone")
    assert plan.task.init_adapter == tmp_path.resolve() / "adapter"
    assert replace(plan, backbone="minilm").task.backbone == "minilm"


# --- trials that die -------------------------------------------------------------------------


def test_a_dead_trial_is_marked_and_another_one_drawn(
    scripted: Callable[..., list[int]], tiny_backbone: Path, tmp_path: Path
) -> None:
    scripted(die=lambda number: "out of memory" if number in (0, 3) else None)
    result = search(plan_in(tmp_path, tiny_backbone), 6)
    assert len(result["finished"]) == 6
    assert [row["number"] for row in result["failed"]] == [0, 3]
    assert {row["reason"] for row in result["failed"]} == {"out of memory"}
    # Not the same settings again, which would die again.
    assert result["failed"][1]["params"] not in [row["params"] for row in result["finished"]]
    assert result["defaults"] is None and result["gain"] is None


def test_a_search_whose_trials_all_die_ends(
    scripted: Callable[..., list[int]], tiny_backbone: Path, tmp_path: Path
) -> None:
    numbers = scripted(die=lambda number: "no disk" if number > 1 else None)
    with pytest.raises(OpenMedError, match=f"{MAX_DEATHS} trials in a row died.*no disk"):
        search(plan_in(tmp_path, tiny_backbone), 9)
    assert numbers == list(range(2 + MAX_DEATHS))


def test_a_search_whose_trials_died_goes_on_once_the_reason_is_gone(
    scripted: Callable[..., list[int]], tiny_backbone: Path, tmp_path: Path
) -> None:
    plan = plan_in(tmp_path, tiny_backbone)
    scripted(die=lambda number: "no disk" if number > 1 else None)
    with pytest.raises(OpenMedError, match="the same command goes on"):
        search(plan, 9)
    scripted()
    result = search(plan, 9)
    assert len(result["finished"]) == 9 and len(result["failed"]) == MAX_DEATHS


def test_what_nobody_can_learn_is_refused_before_the_first_trial(
    scripted: Callable[..., list[int]], tiny_backbone: Path, tmp_path: Path
) -> None:
    numbers = scripted()
    found = documents()
    plan = plan_in(tmp_path, tiny_backbone, dev=[ZEBRAS])
    with pytest.raises(OpenMedError, match="dev has labels that train lacks: SPECIES"):
        search(plan, 2)
    with pytest.raises(OpenMedError, match="Nothing to learn"):
        search(replace(plan, dev=[Document("", found[0].text, [])]), 2)
    assert not numbers and not list(tmp_path.glob("study*"))


def test_a_share_of_train_has_the_labels_of_dev(tiny_backbone: Path, tmp_path: Path) -> None:
    found = [*documents() * 5, ZEBRAS]
    for seed in range(5):
        dev = [found[seed], found[-1]]
        plan = plan_in(tmp_path, tiny_backbone, train=found, dev=dev)
        task = replace(plan, settings=replace(SETTINGS, train_characters=10)).task
        assert len(task.train) < len(found)
        assert labels_of(task.dev) <= labels_of(task.train)


def test_a_trial_that_always_takes_the_search_with_it_counts_as_dead(
    scripted: Callable[..., list[int]], tiny_backbone: Path, tmp_path: Path
) -> None:
    scripted()
    plan = plan_in(tmp_path, tiny_backbone)
    search(plan, 2)
    drawn: list[space.Values] = []
    for _ in range(MAX_INTERRUPTIONS + 1):
        _cut_off(plan, SearchStudy(tmp_path, SETTINGS, START, plan.seed, 2), drawn)
    assert all(values == drawn[0] for values in drawn[:MAX_INTERRUPTIONS])
    assert drawn[-1] != drawn[0]


def test_a_worker_that_is_killed_is_reported_and_started_anew(
    tiny_backbone: Path, tmp_path: Path
) -> None:
    plan = plan_in(tmp_path, tiny_backbone)
    values = space.point(SETTINGS, START)
    with Worker(plan.task, tmp_path, 1) as worker:

        def kill(epoch: int, dev_f1: float) -> bool:
            os.kill(worker._process.pid, signal.SIGKILL)
            return False

        with pytest.raises(Died, match="ended by SIGKILL"):
            worker.run(0, values, kill)
        seen: list[tuple[int, float]] = []
        outcome = worker.run(1, values, lambda *told: bool(seen.append(told)))
        assert [f1 for _, f1 in seen] == pytest.approx(outcome.epochs, abs=1e-3)
        assert [epoch for epoch, _ in seen] == [1, 2] and not outcome.pruned
        # Ended after its first epoch.
        outcome = worker.run(2, values, lambda epoch, dev_f1: True)
        assert outcome.pruned and len(outcome.epochs) == 1
        # An error of a trial's own settings is its own.
        with pytest.raises(Died, match=r"^LoRA target_modules = 'nothing'"):
            worker.run(3, {"lora.target_modules": "nothing"}, lambda *told: False)
        assert worker.run(4, values, lambda *told: False).epochs == pytest.approx(
            [f1 for _, f1 in seen], abs=1e-3
        )
    # Only the one that had no chance to clear up.
    assert [path.name for path in (tmp_path / "running").iterdir()] == ["0"]


@pytest.mark.parametrize(
    ("raised", "reason"),
    [
        (Diverged("the loss is not finite"), "the loss is not finite"),
        (MemoryError("no room"), "out of memory \\(no room"),
        (MemoryError(), "out of memory \\(MemoryError"),
        (RuntimeError("CUDA out of memory. Tried"), "out of memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "out of memory"),
    ],
)
def test_what_a_trial_dies_of(
    monkeypatch: pytest.MonkeyPatch,
    tiny_backbone: Path,
    tmp_path: Path,
    raised: Exception,
    reason: str,
) -> None:
    def fit(*args: Any, **kwargs: Any) -> None:
        raise raised

    monkeypatch.setattr(trial, "fit", fit)
    task = plan_in(tmp_path, tiny_backbone).task
    with pytest.raises(Died, match=reason) as caught:
        trial.run_trial(task, {}, tmp_path / "trial", lambda *told: False)
    # Of several processes one alone may run out of memory; weights are the same in all.
    assert caught.value.everywhere == isinstance(raised, Diverged)


def test_other_errors_are_not_taken_for_a_dead_trial(
    monkeypatch: pytest.MonkeyPatch, tiny_backbone: Path, tmp_path: Path
) -> None:
    def fit(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(trial, "fit", fit)
    with pytest.raises(RuntimeError, match="a bug"):
        task = plan_in(tmp_path, tiny_backbone).task
        trial.run_trial(task, {}, tmp_path / "trial", lambda *told: False)


# --- the command -----------------------------------------------------------------------------


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpora" / "ncbi"
    folder.mkdir(parents=True)
    for split in ("train", "dev"):
        lines = [
            {
                "id": str(i),
                "text": document.text,
                "entities": [
                    [e.start, e.end, "Disease"] for e in document.entities if e.label == "DISEASE"
                ],
            }
            for i, document in enumerate(documents())
        ]
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf8")
    return folder.parent


def _write_settings(folder: Path) -> Path:
    import tomli_w

    (folder / "start.toml").write_text(tomli_w.dumps(to_dict(START)))
    chosen = to_dict(replace(SETTINGS, finetune=str(folder / "start.toml")))
    for dimension in chosen["space"].values():
        if dimension["choices"]:
            dimension.update(low=0.0, high=0.0)
    (folder / "search.toml").write_text(tomli_w.dumps(chosen))
    return folder / "search.toml"


def test_the_command_searches_draws_and_train_takes_its_settings(
    tiny_backbone: Path, tmp_path: Path, corpus: Path
) -> None:
    config = _write_settings(tmp_path)
    output = tmp_path / "out"
    given = ["--dataset", "ncbi", "--corpus", str(corpus), "--backbone", str(tiny_backbone)]
    done = CliRunner().invoke(
        app,
        ["search", *given, "--config", str(config), "--trials", "3", "--output", str(output)],
    )
    assert done.exit_code == 0, done.output
    assert "best: trial" in done.output and "over the settings it began with" in done.output
    for name in PLOTS:
        assert (output / "plots" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    done = CliRunner().invoke(
        app,
        ["train", *given, "--config", str(output / BEST), "--output", str(tmp_path / "run")],
    )
    assert done.exit_code == 0, done.output
    record = json.loads((tmp_path / "run" / "adapter" / "training.json").read_text())
    assert record["settings"] == tomllib.loads((output / BEST).read_text())


def test_without_a_dev_split_there_is_no_search(tmp_path: Path, corpus: Path) -> None:
    (corpus / "ncbi" / "dev.jsonl").unlink()
    done = CliRunner().invoke(
        app,
        ["search", "--dataset", "ncbi", "--corpus", str(corpus), "--output", str(tmp_path / "o")],
    )
    assert done.exit_code == 1 and "No dev.jsonl of 'ncbi'" in done.output
    assert not (tmp_path / "o").exists()


def test_a_backbone_out_of_reach_is_said_before_any_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, corpus: Path
) -> None:
    monkeypatch.delenv("OPENMED_HOME", raising=False)
    done = CliRunner().invoke(
        app,
        [
            "search", "--dataset", "ncbi", "--corpus", str(corpus), "--backbone", "elsewhere",
            "--output", str(tmp_path / "o"),
        ],
    )  # fmt: skip
    assert done.exit_code == 1 and "Unknown backbone 'elsewhere'" in done.output


@pytest.mark.parametrize("command", [["search", "--dataset"], ["recipe", "search", "--datasets"]])
def test_plots_that_cannot_be_drawn_are_refused_before_the_search(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # which the recipe sets
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    backbone = "--backbones" if "recipe" in command else "--backbone"
    given = [*command, "ncbi", backbone, "minilm", "--corpus", str(tmp_path)]
    done = CliRunner().invoke(app, given)
    assert done.exit_code == 1 and "pip install 'spacy-openmed[report]'" in done.output
    if "recipe" not in command:
        done = CliRunner().invoke(app, [*given, "--no-plots"])
        assert done.exit_code == 1 and "No train.jsonl of 'ncbi'" in done.output


def test_plots_of_no_study_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OpenMedError, match=r"no study\.db"):
        draw(tmp_path)
