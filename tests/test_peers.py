"""The benchmark against peers: what it computes from their results, and how it runs them."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))
import peers  # noqa: E402
from peers import HUGGING_FACE, NONE, OWN, SAME, Measured, Setting  # noqa: E402

ENTITIES = {
    "sentences": [[[0, 4, "DISEASE"], [9, 12, "DISEASE"]], []],
    "abstracts": [[[0, 4, "DISEASE"]]],
    "papers": [[[0, 4, "DISEASE"], [900, 904, "DISEASE"]]],
}
WORDS = {"sentences": [4, 2], "abstracts": [10], "papers": [100]}
LIMITS = [500]
# A peer that says that every text is one entity.
PEER = """
import sys
sys.path.insert(0, {folder!r})
from measure import serve

def load(job):
    if job["options"].get("fails"):
        print("warned", file=sys.stderr)
        raise ValueError("no such model")
    return lambda texts: lambda: [[(0, len(text), job["adapter"])] for text in texts]

serve(load, ["pip"])
"""


def of(peer: str, name: str = "fp32", weights: str = SAME, share: int | None = None) -> Setting:
    return Setting(peer, name, "run.py", {}, weights, share)


def measured(
    seconds: float, entities: dict[str, Any] | None = None, *more: float, peak: float = 100.0
) -> Measured:
    rounds = [
        {
            "load_seconds": 1.0,
            "seconds": dict.fromkeys(WORDS, each),
            "peak_mb": peak,
            "entities": entities or dict.fromkeys(WORDS),
            "versions": {"pip": "1"},
        }
        for each in (seconds, *more)
    ]
    return Measured(rounds)


def row(setting: Setting, results: Measured, pipeline: Any = ENTITIES) -> dict[str, Any]:
    return peers.row(setting, results, ENTITIES, pipeline, WORDS, LIMITS)


def without(**sets: list[Any]) -> dict[str, Any]:
    return {**ENTITIES, **sets}


def test_agreement_is_the_f1_of_sets() -> None:
    one = [[(0, 4, "A"), (5, 9, "A")], [(0, 1, "B")]]
    assert peers.agreement(one, one) == 100
    assert peers.agreement([[[0, 4, "A"]]], [[(0, 4, "A")]]) == 100
    assert peers.agreement([[], []], [[], []]) == 100
    assert peers.agreement(one, [[], []]) == 0
    assert peers.agreement(one, [[(0, 4, "A")], [(0, 1, "A")]]) == pytest.approx(40)
    # The same entity in another text is another one.
    assert peers.agreement([[(0, 1, "A")], []], [[], [(0, 1, "A")]]) == 0
    with pytest.raises(ValueError):
        peers.agreement(one, [[]])


def test_speed_is_of_the_median_round() -> None:
    figures = row(of(OWN), measured(2.0, ENTITIES, 4.0, 100.0))
    assert figures["sets"]["papers"]["words_per_second"] == 25
    assert figures["sets"]["sentences"]["entities"] == 2
    assert figures["sets"]["sentences"]["agreement_percent"] == 100
    assert figures["notes"] == []


def test_a_share_is_compared_with_the_same_texts() -> None:
    first = {name: some[:1] for name, some in ENTITIES.items()}
    figures = row(of("openmed", share=1), measured(2.0, first))
    assert figures["sets"]["sentences"]["words_per_second"] == 2
    assert figures["sets"]["sentences"]["agreement_percent"] == 100
    assert figures["notes"] == ["the first 1 texts of each set"]


def test_other_work_is_marked() -> None:
    other = without(abstracts=[[[5, 9, "DISEASE"]]])
    assert row(of("openmed"), measured(1.0, other))["notes"] == [peers.UNLIKE]
    assert row(of("openmed"), measured(1.0, other), other)["notes"] == [peers.DECODING]
    assert row(of("openmed"), measured(1.0, other), None)["notes"] == [peers.UNLIKE]
    # Papers alone say nothing: windows are cut in other places.
    assert row(of("openmed"), measured(1.0, without(papers=[[[900, 904, "A"]]])))["notes"] == []


def test_texts_that_are_cut_off_are_marked() -> None:
    short = without(papers=[[[0, 4, "DISEASE"]]])
    assert row(of("openmed"), measured(1.0, short))["notes"] == ["drops the rest of papers"]


def test_the_fastest_pipeline_is_chosen_for_each_set() -> None:
    one, other = measured(1.0, ENTITIES), measured(2.0, ENTITIES)
    other.first["seconds"]["papers"] = 0.5
    bfloat = measured(0.25, ENTITIES)
    rows = [
        row(of(OWN), measured(0.5, ENTITIES)),
        row(of(HUGGING_FACE, "fp32, batch 1"), one),
        row(of(HUGGING_FACE, "fp32, batch 4"), other),
        row(of(HUGGING_FACE, "bf16, batch 1"), bfloat),
        row(of(HUGGING_FACE, "fp32, batch 8"), Measured(failed="no memory")),
    ]
    best = peers.compare(rows)
    assert best["times_transformers_fp32"] == {
        "sentences": "fp32, batch 1",
        "abstracts": "fp32, batch 1",
        "papers": "fp32, batch 4",
    }
    assert set(best["times_transformers"].values()) == {"bf16, batch 1"}
    figures = rows[0]["sets"]
    assert figures["abstracts"]["times_transformers_fp32"] == 2
    assert figures["papers"]["times_transformers_fp32"] == 1
    assert figures["papers"]["times_transformers"] == 0.5


def test_without_the_pipeline_there_are_no_ratios() -> None:
    rows = [row(of(OWN), measured(0.5, ENTITIES))]
    assert peers.compare(rows) == {}
    assert "×" not in peers.table(rows)


def test_the_table_has_every_row() -> None:
    rows = [
        row(of(OWN), measured(0.001, ENTITIES)),
        row(of("forward", weights=NONE), measured(1.0)),
        row(of(HUGGING_FACE), Measured(failed="a | b")),
    ]
    peers.compare(rows)
    lines = peers.table(rows).split("\n")
    assert len(lines) == 5
    assert "| 100,000 |" in lines[2] and "100.0 / 100.0 / 100.0" in lines[2]
    assert lines[3].endswith("| no entities |")
    assert lines[4].endswith("| failed: a \\| b |")
    assert len({line.replace("\\|", "").count("|") for line in lines}) == 1


def test_the_plot_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    rows = [
        row(of(OWN), measured(1.0, ENTITIES)),
        row(of("forward", weights=NONE), measured(2.0)),
        row(of("openmed"), Measured(failed="no")),
    ]
    peers.draw(rows, tmp_path / "peers.svg", 2)
    drawn = (tmp_path / "peers.svg").read_text(encoding="utf8")
    assert drawn.startswith("<?xml") and drawn.rstrip().endswith("</svg>")


def test_names_of_settings_and_their_files_are_unique() -> None:
    every = peers.settings(Path("model-best"))
    assert len({s.file for s in every}) == len({str(s) for s in every}) == len(every)
    assert {s.peer for s in every} == set(peers.PEERS)
    assert (OWN, "fp32") in {(s.peer, s.name) for s in every}
    assert all((peers.HERE / s.script).is_file() for s in every)
    assert all((peers.HERE / f"requirements-{peer}.txt").is_file() for peer in peers.APART)
    assert len(peers.settings(None)) == len(every) - 1


def test_a_peer_that_fails_is_said_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = str(peers.HERE)
    monkeypatch.setattr(peers, "HERE", tmp_path)
    (tmp_path / "run.py").write_text(PEER.format(folder=folder), encoding="utf8")
    texts = {"sentences": ["one two", "three"], "abstracts": ["four"], "papers": ["five"]}
    (tmp_path / "texts.json").write_text(json.dumps(texts), encoding="utf8")
    job = {"texts": str(tmp_path / "texts.json"), "adapter": "DISEASE", "threads": 1}
    good = Setting("good", "one", "run.py", {}, share=1)
    bad = Setting("bad", "one", "run.py", {"fails": True})
    found = peers.take_turns([bad, good], 2, tmp_path / "venvs", job, tmp_path / "work")
    assert found[bad].failed == "ValueError: no such model"
    assert found[good].failed is None
    assert [result["entities"] for result in found[good].rounds] == [
        {
            "sentences": [[[0, 7, "DISEASE"]]],
            "abstracts": [[[0, 4, "DISEASE"]]],
            "papers": [[[0, 4, "DISEASE"]]],
        }
    ] * 2
    assert found[good].median("peak_mb") > 1
    assert found[good].median("seconds", "papers") >= 0
    assert set(found[good].first["versions"]) == {"pip"}


def test_nothing_is_compared_with_a_reference_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "HERE", tmp_path)
    chosen = [of(*peers.REFERENCE), of(HUGGING_FACE)]
    first = peers.settings(None)[0]
    assert (first.peer, first.name) == peers.REFERENCE
    with pytest.raises(SystemExit, match="openmed_ner, fp32"):
        peers.take_turns(chosen, 1, tmp_path, {"threads": 1}, tmp_path)
    assert not list(tmp_path.glob("round-1/transformers*"))


def test_a_peer_that_leaves_no_result_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "HERE", tmp_path)
    (tmp_path / "run.py").touch()
    with pytest.raises(peers.Failed, match="without a result"):
        peers.measure(of("good"), sys.executable, {"threads": 1}, tmp_path)


@pytest.mark.parametrize(
    "options", [["--rounds", "0"], ["--limit", "0"], ["--plot", "peers"]], ids=" ".join
)
def test_what_cannot_be_measured_or_drawn_is_refused_before(
    options: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    work = tmp_path / "work"
    monkeypatch.setattr(sys, "argv", ["peers.py", str(tmp_path), "--work", str(work), *options])
    with pytest.raises(SystemExit):
        peers.main()
    said = capsys.readouterr().err.split("error: ")[1]
    assert options[0] in said
    assert not work.exists()


def test_an_environment_that_cannot_be_made_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def create(folder: Path, with_pip: bool) -> None:
        Path(folder).mkdir(parents=True)

    monkeypatch.setattr(peers.venv, "create", create)
    with pytest.raises(peers.Failed):
        peers.interpreter("openmed", tmp_path / "venvs")
    assert not (tmp_path / "venvs" / "openmed").exists()


def test_peers_with_our_requirements_run_in_our_python(tmp_path: Path) -> None:
    assert peers.interpreter(HUGGING_FACE, tmp_path) == sys.executable
