"""One configuration for all corpora: how it is derived, run, kept and reported."""

import json
import math
import random
import shutil
import statistics
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_search import SETTINGS, START, documents, hill
from typer.testing import CliRunner

from spacy_openmed.backbones import BackboneRef
from spacy_openmed.cli.app import app
from spacy_openmed.corpora.documents import Document
from spacy_openmed.corpora.registry import dataset as known_dataset
from spacy_openmed.entities import Entity
from spacy_openmed.errors import OpenMedError
from spacy_openmed.evaluation.common_table import table
from spacy_openmed.training.begun import RUN
from spacy_openmed.training.search import common as module
from spacy_openmed.training.search import run as searching
from spacy_openmed.training.search import space
from spacy_openmed.training.search.common import (
    CONFIGURATION,
    RESULT,
    Finished,
    common,
    derive,
    read,
)
from spacy_openmed.training.search.run import Search, search
from spacy_openmed.training.search.trial import Died, TrialResult, run_trial
from spacy_openmed.training.search.worker import Worker
from spacy_openmed.training.settings import (
    Dimension,
    FinetuneSettings,
    SearchSettings,
    from_dict,
    to_dict,
)

pytestmark = pytest.mark.usefixtures("one_torch_thread")

DATASETS = ("ncbi", "bc5cdr-disease")
SHARED = replace(SETTINGS, fixed={"optim.epochs": 1.0}, pruner="none", train_characters=400)

Split = tuple[list[Document], list[Document]]


def splits(name: str) -> Split:
    """Train and dev with diseases alone, other ones for each corpus."""
    (label,) = known_dataset(name).types.values()
    found = [
        Document(d.id, d.text, [e for e in d.entities if e.label == label]) for d in documents()
    ]
    return (found[:8], found[4:]) if name == "ncbi" else (found[4:], found[:8])


def write_corpora(folder: Path) -> Path:
    for name in DATASETS:
        (folder / name).mkdir(parents=True)
        for split, part in zip(("train", "dev"), splits(name), strict=True):
            lines = [
                json.dumps(
                    {
                        "id": document.id,
                        "text": document.text,
                        "entities": [[e.start, e.end, "Disease"] for e in document.entities],
                    }
                )
                for document in part
            ]
            (folder / name / f"{split}.jsonl").write_text("\n".join(lines), encoding="utf8")
    return folder


class Scripted(Worker):
    """Trials that take no time: their F1 is a function of their settings."""

    def run(self, number: int, values: Mapping[str, Any], report: Any) -> TrialResult:
        f1 = hill(dict(values), 0)
        return TrialResult(f1, [f1], False, 1.0, None)


def run_searches(folder: Path, backbone: Path, trials: int = 8) -> list[Path]:
    """One search for each corpus, scripted; those that are there go on."""
    outputs = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(searching, "Worker", Scripted)
        for seed, name in enumerate(DATASETS):
            output = folder / name
            plan = Search(*splits(name), name, str(backbone), output, SHARED, START, seed=seed)
            search(plan, trials)
            outputs.append(output)
    return outputs


@pytest.fixture(scope="module")
def searched(tiny_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("searched")
    run_searches(folder, tiny_backbone)
    return folder


@pytest.fixture
def folders(searched: Path, tmp_path: Path) -> list[Path]:
    """Searches of both corpora, of eight trials each, to change at will."""
    shutil.copytree(searched, tmp_path / "search")
    return [tmp_path / "search" / name for name in DATASETS]


def corpora() -> dict[str, Split]:
    return {name: splits(name) for name in DATASETS}


def finished(
    rows: list[tuple[float, dict[str, Any]]],
    settings: SearchSettings = SETTINGS,
    name: str = "ncbi",
    pruned: int = 0,
) -> Finished:
    """A search with these trials: dev F1 and settings; the last ones are pruned."""
    trials = [
        {"number": i, "state": "COMPLETE", "dev_f1": f1, "params": params}
        for i, (f1, params) in enumerate(rows)
    ]
    for trial in trials[len(trials) - pruned :]:
        trial["state"] = "PRUNED"
    return Finished(
        folder=Path(name),
        dataset=name,
        backbone=BackboneRef("tiny"),
        init_adapter="none",
        settings=settings,
        start=START,
        seed=1,
        precision="fp32",
        data={},
        rows=trials,
        defaults=None,
        best=trials[0],
    )


# --- how it is derived -----------------------------------------------------------------------


def only(**dimension: Any) -> SearchSettings:
    return SearchSettings(space={"optim.batch_size": Dimension(**dimension)})


def sizes(*values: int, pruned: int = 0, settings: SearchSettings) -> Finished:
    """Trials with these batch sizes, the best first."""
    rows = [(90.0 - i, {"optim.batch_size": v}) for i, v in enumerate(values)]
    return finished(rows, settings, pruned=pruned)


def test_the_best_quarter_is_of_trials_that_ran_to_their_end() -> None:
    settings = only(low=1, high=64)
    many = sizes(*range(1, 41), settings=settings)
    assert [row["number"] for row in many.best_quarter] == list(range(10))
    assert len(sizes(*range(1, 42), settings=settings).best_quarter) == 11
    # At least three; and one that was pruned never, however good it looked.
    assert len(sizes(1, 2, 3, 4, settings=settings).best_quarter) == 3
    few = sizes(1, 2, 3, 4, pruned=2, settings=settings)
    assert [row["number"] for row in few.best_quarter] == [0, 1]
    # The order of numbers is not that of merit; the first of equals comes first.
    mixed = finished([(f1, {}) for f1 in (10.0, 50.0, 30.0, 50.0, 20.0)])
    assert [row["number"] for row in mixed.best_quarter] == [1, 3, 2]


def test_each_corpus_counts_the_same_however_many_trials_it_had() -> None:
    settings = only(low=1, high=64)
    small = sizes(2, 2, 2, settings=settings)
    large = sizes(*[10] * 40, settings=settings)
    assert derive([small, large]) == {"optim.batch_size": 6}
    choices = only(choices=[2, 4, 8])
    one, two = sizes(2, 2, 4, settings=choices), sizes(*[8] * 5, *[4] * 7, settings=choices)
    # 8 has the larger part of the second, where three are counted, as in the first.
    assert derive([one, two]) == {"optim.batch_size": 8}
    third = sizes(2, 2, 4, settings=choices)
    assert derive([one, two, third]) == {"optim.batch_size": 2}


def test_of_choices_that_are_equal_the_smaller_one_is_taken() -> None:
    settings = only(choices=[8, 2, 4])
    assert derive([sizes(8, 8, 8, settings=settings), sizes(4, 4, 4, settings=settings)]) == {
        "optim.batch_size": 4
    }
    # A third and a third and a third, which floats would not add up to the same.
    thirds = [sizes(8, 4, 2, settings=settings), sizes(4, 8, 2, settings=settings)]
    assert derive(thirds) == {"optim.batch_size": 2}


def test_numbers_have_the_median_of_their_own_scale() -> None:
    def rates(log: bool, *values: float) -> Finished:
        settings = SearchSettings(space={"optim.learning_rate": Dimension(1e-4, 1e-2, log=log)})
        return finished([(90.0, {"optim.learning_rate": v}) for v in values], settings)

    pair = (1e-4, 1e-4, 1e-2), (1e-2, 1e-2, 1e-2)
    log = derive([rates(True, *values) for values in pair])
    assert log["optim.learning_rate"] == pytest.approx(1e-3)
    plain = derive([rates(False, *values) for values in pair])
    assert plain["optim.learning_rate"] == pytest.approx(5.05e-3)
    # Not a bit of it changes where all agree.
    for value in (3e-4, 1e-3, 0.0023):
        agreed = derive([rates(True, *[value] * 4), rates(True, *[value] * 3)])
        assert agreed == {"optim.learning_rate": value}


def test_whole_numbers_stay_whole() -> None:
    settings = only(low=1, high=64)
    values = derive([sizes(3, 3, 3, settings=settings), sizes(6, 6, 6, settings=settings)])
    assert values == {"optim.batch_size": 4} and type(values["optim.batch_size"]) is int


@st.composite
def several(draw: st.DrawFn) -> list[Finished]:
    """Searches in ``SETTINGS``' space, of different lengths."""
    params = st.fixed_dictionaries(
        {
            "optim.learning_rate": st.floats(1e-4, 1e-2),
            "optim.warmup_ratio": st.floats(0.0, 0.3),
            "optim.batch_size": st.integers(1, 4),
            "lora.rank": st.sampled_from([2, 4, 8]),
        }
    )
    rows = st.lists(st.tuples(st.floats(0, 100), params), min_size=3, max_size=20)
    return [finished(each) for each in draw(st.lists(rows, min_size=2, max_size=6))]


@given(searches=several(), shuffle=st.randoms(use_true_random=False))
def test_it_lies_in_the_space_and_the_order_of_searches_does_not_matter(
    searches: list[Finished], shuffle: random.Random
) -> None:
    values = derive(searches)
    assert 1e-4 <= values["optim.learning_rate"] <= 1e-2
    assert 0.0 <= values["optim.warmup_ratio"] <= 0.3
    assert values["optim.batch_size"] in (1, 2, 3, 4) and values["lora.rank"] in (2, 4, 8)
    # What starts from it could be searched.
    space.check(SETTINGS, space.apply(START, values))
    shuffled = list(searches)
    shuffle.shuffle(shuffled)
    assert derive(shuffled) == values


# --- the command -----------------------------------------------------------------------------


def test_the_command_runs_it_on_each_corpus_as_its_search_did(
    folders: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out"
    given = [
        "common", *map(str, reversed(folders)), "--output", str(output), "--threads", "1",
        "--corpus", str(write_corpora(tmp_path / "corpora")),
    ]  # fmt: skip
    done = CliRunner().invoke(app, given)
    assert done.exit_code == 0, done.output
    result = json.loads((output / RESULT).read_text(encoding="utf8"))
    searches = read(folders)
    values = derive(searches)
    assert result["configuration"] == values
    assert not (output / "running").exists()

    for row, one in zip(result["corpora"], searches, strict=True):
        train, dev = splits(one.dataset)
        plan = Search(
            train, dev, one.dataset, one.backbone.id, tmp_path, SHARED, START, seed=one.seed
        )
        assert len(plan.task.train) < len(train)
        alike = run_trial(plan.task, values, tmp_path / "trial", lambda *told: False)
        kept = json.loads((output / "runs" / f"{one.dataset}.json").read_text(encoding="utf8"))
        assert kept["epochs"] == pytest.approx(alike.epochs, abs=1e-3) and len(alike.epochs) == 1
        assert kept["facts"]["settings"] == to_dict(space.apply(plan.task.settings, values))
        assert row["common"] == kept["dev_f1"]
        assert row["train_mentions"] == sum(len(d.entities) for d in plan.task.train)
    # What was fixed in the searches holds there alone.
    settings = tomllib.loads((output / CONFIGURATION).read_text(encoding="utf8"))
    assert from_dict(FinetuneSettings, settings, CONFIGURATION) == space.apply(START, values)
    assert settings["optim"]["epochs"] == START.optim.epochs
    assert table(result) in done.output and result["note"] in done.output

    def refuse(*args: object) -> None:
        raise AssertionError("run again")

    monkeypatch.setattr(module, "Worker", refuse)
    again = CliRunner().invoke(app, given)
    assert again.exit_code == 0, again.output
    assert json.loads((output / RESULT).read_text(encoding="utf8")) == result


# --- what is kept, and what is reported ------------------------------------------------------


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Replaces the runs by scripted ones, and lists the corpora that were run."""
    ran: list[str] = []

    class Listed(Scripted):
        def run(self, number: int, values: Mapping[str, Any], report: Any) -> TrialResult:
            ran.append(self.task.dataset)
            return super().run(number, values, report)

    monkeypatch.setattr(module, "Worker", Listed)
    return ran


def test_finished_runs_are_kept_and_others_run_anew(
    folders: list[Path],
    tmp_path: Path,
    runs: list[str],
    tiny_backbone: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scripted = module.Worker

    class Dies(scripted):  # type: ignore[misc, valid-type]
        def run(self, number: int, values: Mapping[str, Any], report: Any) -> TrialResult:
            if self.task.dataset == "ncbi":
                raise Died("out of memory")
            return super().run(number, values, report)  # type: ignore[no-any-return]

    monkeypatch.setattr(module, "Worker", Dies)
    with pytest.raises(OpenMedError, match=r"cannot be run on 'ncbi': out of memory.*trials\.log"):
        common(read(folders), corpora(), tmp_path / "out")
    assert runs == ["bc5cdr-disease"] and not (tmp_path / "out" / RESULT).exists()
    monkeypatch.setattr(module, "Worker", scripted)
    first = common(read(folders), corpora(), tmp_path / "out")
    assert runs == ["bc5cdr-disease", "ncbi"]
    assert common(read(folders), corpora(), tmp_path / "out") == first and len(runs) == 2
    # Longer searches, another configuration.
    run_searches(tmp_path / "search", tiny_backbone, 16)
    second = common(read(folders), corpora(), tmp_path / "out")
    assert second["configuration"] != first["configuration"] and len(runs) == 4
    (tmp_path / "out" / "runs" / "ncbi.json").write_text("{", encoding="utf8")
    with pytest.raises(OpenMedError, match=r"ncbi\.json is broken.*Remove it"):
        common(read(folders), corpora(), tmp_path / "out")


def test_the_report_says_what_it_costs_and_what_each_corpus_likes(
    folders: list[Path], tmp_path: Path, runs: list[str]
) -> None:
    searches = read(folders)
    result = common(searches, corpora(), tmp_path / "out")
    values = result["configuration"]
    assert [row["dataset"] for row in result["corpora"]] == ["bc5cdr-disease", "ncbi"]
    for row, one in zip(result["corpora"], searches, strict=True):
        assert row["common"] == hill(values, 0) and row["trials"] == 8
        assert row["defaults"] == hill(space.point(SETTINGS, START), 0)
        assert row["own_best"] == max(trial["dev_f1"] for trial in one.rows)
        assert row["cost"] == pytest.approx(row["own_best"] - row["common"], abs=1e-3)
        assert row["gain"] == pytest.approx(row["common"] - row["defaults"], abs=1e-3)
        assert row["best"] == {
            name: one.best["params"][name]
            for name in ("optim.batch_size", "optim.learning_rate", "lora.rank")
        }
        quarter = [trial["params"] for trial in one.best_quarter]
        assert len(row["quarter"]["trials"]) == 3
        assert row["quarter"]["optim.batch_size"] == statistics.median(
            params["optim.batch_size"] for params in quarter
        )
        assert math.log(row["quarter"]["optim.learning_rate"]) == pytest.approx(
            statistics.median(math.log(params["optim.learning_rate"]) for params in quarter)
        )
    costs = [row["cost"] for row in result["corpora"]]
    assert result["mean"]["cost"] == pytest.approx(statistics.fmean(costs), abs=1e-3)
    assert "maximum over all its trials" in result["note"]

    lines = table(result).splitlines()
    assert len(lines) == 5 and len({line.count("|") for line in lines}) == 1
    cells = [cell.strip() for cell in lines[-1].split("|")[1:-1]]
    means = [result["mean"][name] for name in ("defaults", "own_best", "common")]
    assert cells[:5] == ["mean", "", *(f"{mean:.2f}" for mean in means)]
    assert cells[5] == f"{result['mean']['cost']:+.2f}"


def test_where_the_start_died_there_is_no_gain(
    folders: list[Path], tmp_path: Path, runs: list[str]
) -> None:
    first, second = read(folders)
    result = common([replace(first, defaults=None), second], corpora(), tmp_path / "out")
    assert result["corpora"][0]["gain"] is None and result["mean"]["gain"] is None
    assert result["corpora"][1]["gain"] is not None and result["mean"]["cost"] is not None
    assert [line.split("|")[3].strip() for line in table(result).splitlines()[2:]] == [
        "–", f"{second.defaults:.2f}", "–",
    ]  # fmt: skip


def test_a_setting_that_is_not_searched_has_the_pattern_of_the_start(
    folders: list[Path], tmp_path: Path, runs: list[str]
) -> None:
    searches = read(folders)
    fewer = {n: d for n, d in SHARED.space.items() if n != "optim.batch_size"}
    without = [
        replace(
            one,
            settings=replace(one.settings, space=fewer),
            rows=[{**r, "params": {n: r["params"][n] for n in fewer}} for r in one.rows],
            best={**one.best, "params": {n: one.best["params"][n] for n in fewer}},
        )
        for one in searches
    ]
    result = common(without, corpora(), tmp_path / "out")
    assert "optim.batch_size" not in result["configuration"]
    assert [row["best"]["optim.batch_size"] for row in result["corpora"]] == [2, 2]


# --- refusals --------------------------------------------------------------------------------


def _edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}), encoding="utf8")


@pytest.mark.parametrize(
    ("second", "named"),
    [
        ({"start": replace(START, dropout=0.2)}, r"start\.dropout is 0\.0 and 0\.2"),
        (
            {"settings": replace(SHARED, fixed={"optim.epochs": 2.0})},
            r"fixed\.optim\.epochs is 1\.0 and 2\.0",
        ),
        (
            {"settings": replace(SHARED, space={"lora.rank": Dimension(choices=[2, 4])})},
            r"space\.optim\.learning_rate\.low is 0\.0001 and absent.*rank\.choices is \[2, 4, 8\]",
        ),
    ],
)
def test_searches_that_differ_have_no_common_configuration(
    folders: list[Path], second: dict[str, Any], named: str
) -> None:
    _edit(folders[1] / RUN, **{name: to_dict(value) for name, value in second.items()})
    with pytest.raises(OpenMedError, match=f"ncbi and .*bc5cdr-disease differ.*{named}"):
        read(folders)


def test_shares_and_pruners_may_differ(folders: list[Path]) -> None:
    _edit(folders[1] / RUN, settings=to_dict(replace(SHARED, train_characters=0, pruner="median")))
    assert [one.settings.train_characters for one in read(folders)] == [0, 400]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("backbone", "0" * 64, "backbone is .* and 0000"),
        ("pre-training adapter", "1" * 64, "pre-training adapter is none and 1111"),
        ("seed", 7, "run.json and search.json are of different searches"),
        ("data", {}, "are of different searches"),
        ("settings", {"spaces": {}}, "unknown setting spaces"),
        ("start", 1, "not what 'spacy openmed search' writes"),
    ],
)
def test_other_facts_of_a_search_are_refused(
    folders: list[Path], name: str, value: Any, message: str
) -> None:
    _edit(folders[1] / RUN, **{name: value})
    with pytest.raises(OpenMedError, match=message):
        read(folders)


def test_folders_that_cannot_be_used_are_refused(folders: list[Path]) -> None:
    with pytest.raises(OpenMedError, match="at least two searches"):
        read(folders[:1])
    with pytest.raises(OpenMedError, match="More than one search on ncbi"):
        read([*folders, folders[0]])
    result = folders[1] / searching.RESULT
    text = result.read_text(encoding="utf8")
    rows = json.loads(text)["finished"]
    _edit(result, finished=rows[:2])
    with pytest.raises(OpenMedError, match=r"2 trial\(s\) ran to their end, and 3 are needed"):
        read(folders)
    result.write_text(text[:-9], encoding="utf8")
    with pytest.raises(OpenMedError, match="is not what 'spacy openmed search' writes"):
        read(folders)
    result.unlink()
    with pytest.raises(OpenMedError, match=r"No finished search in .*search\.json cannot be read"):
        read(folders)
    for name in (RUN, searching.RESULT):
        _edit(folders[0] / name, dataset="wards")
    with pytest.raises(OpenMedError, match="'wards', which is no known dataset"):
        read([folders[0], folders[0]])


def test_other_documents_adapter_or_weights_are_refused_before_any_run(
    folders: list[Path], tmp_path: Path, runs: list[str]
) -> None:
    searches = read(folders)
    train, dev = splits("ncbi")
    text = dev[0].text
    changed = [Document("0", text, [Entity(0, len(text), "DISEASE")]), *dev[1:]]
    output = tmp_path / "out"
    with pytest.raises(OpenMedError, match="The dev data of 'ncbi' are not those of the search"):
        common(searches, {**corpora(), "ncbi": (train, changed)}, output)
    with pytest.raises(OpenMedError, match="No pre-training adapter in"):
        common(searches, corpora(), output, tmp_path)
    (tmp_path / "adapter_model.safetensors").write_bytes(b"weights")
    with pytest.raises(OpenMedError, match="had the pre-training adapter none"):
        common(searches, corpora(), output, tmp_path)
    other = replace(searches[0].backbone, sha256="0" * 64)
    with pytest.raises(OpenMedError, match=r"are not the recorded ones.*expected 0000"):
        common([replace(one, backbone=other) for one in searches], corpora(), output)
    output.write_text("in the way", encoding="utf8")
    with pytest.raises(OpenMedError, match="out cannot be made"):
        common(searches, corpora(), output)
    assert runs == []


def test_runs_compute_in_the_precision_of_their_search(
    folders: list[Path], tmp_path: Path, runs: list[str]
) -> None:
    """What "auto" means depends on the machine."""
    first, second = read(folders)
    common([replace(first, precision="bf16"), second], corpora(), tmp_path / "out")
    used = [
        json.loads((tmp_path / "out" / "runs" / f"{one.dataset}.json").read_text())["facts"]
        for one in (first, second)
    ]
    assert [facts["settings"]["optim"]["precision"] for facts in used] == ["bf16", "fp32"]
    assert to_dict(START)["optim"]["precision"] == "fp32"
