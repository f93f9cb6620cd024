"""What came before the runs of an adapter: text that was seen, and time that was spent."""

from typing import Any

from spacy_openmed import lineage


def run(adapter: str, seconds: float = 60.0, **more: Any) -> dict[str, Any]:
    return {"adapter": adapter, "seconds": seconds, "energy": {"kwh": seconds}, **more}


def start(adapter: str, dataset: str, *runs: dict[str, Any]) -> dict[str, Any]:
    return {"adapter": adapter, "dataset": dataset, "types": ["X"], "runs": list(runs)}


def test_all_that_was_seen_through_means_and_what_they_went_on_from() -> None:
    first = start("a", "ncbi", run("a"))
    mean = start("m", "bc5cdr-disease", run("b", warm_start=first), run("c"))
    record = {"dataset": "s800", "averaged": [run("d", warm_start=mean), run("e")]}
    assert lineage.datasets(record) == ["s800", "bc5cdr-disease", "ncbi"]
    assert [one["adapter"] for one in lineage.starts(record)] == ["m", "a"]
    before = lineage.earlier(record)
    assert before is not None and before.whole
    assert sorted(one["adapter"] for one in before.runs) == ["a", "b", "c"]
    assert before.seconds == 180
    assert lineage.datasets({"dataset": "ncbi"}) == ["ncbi"]
    assert lineage.earlier({"dataset": "ncbi", "averaged": [run("a"), run("b")]}) is None


def test_a_run_counts_once() -> None:
    """Of a mean and of a run that went on from it the mean has both, and each run once."""
    mean = start("m", "ncbi", run("a"), run("b"))
    parts = [run("a"), run("b"), run("c", warm_start=mean)]
    before = lineage.earlier({"dataset": "ncbi", "averaged": parts})
    assert before is not None and before.whole and before.runs == []
    alone = lineage.earlier({"dataset": "ncbi", "warm_start": mean})
    assert alone is not None and alone.seconds == 120


def test_what_a_record_lacks_is_not_guessed() -> None:
    old = {"adapter": "m", "dataset": "ncbi", "types": ["X"]}
    before = lineage.earlier({"dataset": "s800", "warm_start": old})
    assert before is not None and not before.whole and before.seconds == 0
    assert lineage.datasets({"dataset": "s800", "warm_start": old}) == ["s800", "ncbi"]
    without = start("m", "ncbi", {**run("a"), "energy": None})
    before = lineage.earlier({"dataset": "s800", "warm_start": without})
    assert before is not None and not before.whole and before.seconds == 60


def test_what_a_run_says_of_where_it_began() -> None:
    own = {"dataset": "ncbi", "seconds": 5.0, "energy": None, "epochs": []}
    (made,) = lineage.made_by("aa", own)
    assert made == {"adapter": "aa", "seconds": 5.0, "energy": None, "warm_start": None}
    mean = {"dataset": "ncbi", "seconds": 9.0, "averaged": [run("a"), run("b")]}
    assert [one["adapter"] for one in lineage.made_by("mm", mean)] == ["a", "b"]
