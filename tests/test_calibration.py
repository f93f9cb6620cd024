"""Calibration: the measures, the temperature, and what is written into an adapter's folder."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss
from sklearn.metrics import log_loss as sklearn_log_loss
from test_select import write_adapter
from typer.testing import CliRunner, Result

from spacy_openmed import adapters
from spacy_openmed.backbones import load_tokenizer
from spacy_openmed.cli.calibrate import calibrate as command
from spacy_openmed.corpora import registry
from spacy_openmed.corpora.documents import Document
from spacy_openmed.corpora.folder import read_split
from spacy_openmed.corpora.statistics import content_hash
from spacy_openmed.decoding import Decoded, best_paths, decode, unit_log_probs, units
from spacy_openmed.entities import Entity
from spacy_openmed.errors import OpenMedError
from spacy_openmed.evaluation import calibration
from spacy_openmed.evaluation.calibration import (
    BOUNDS,
    Judged,
    calibrate,
    fit_temperature,
    judge,
    log_loss,
    of_predictions,
    plot,
    reliability,
)
from spacy_openmed.evaluation.consistency import fit_consistency
from spacy_openmed.predictor import Predictor
from spacy_openmed.windows import encode

pytestmark = pytest.mark.usefixtures("one_torch_thread")

# Own sentences of words that the tiny backbone knows, and some that it must take apart.
SENTENCES = [
    f"{first} of {second} in patients with {third} and a {fourth} receptor"
    for first, second in (("therapy", "mice"), ("mutation", "BRCA1"), ("treatment", "cancer"))
    for third in ("breast cancer", "cardiomyopathy", "neuropathy", "ovarian tumor")
    for fourth in ("kinase", "interleukin", "hyperglycemia")
]


# Measures


def test_figures_by_hand() -> None:
    found = reliability([0.05, 0.1, 0.95, 0.85, 0.9, 1.0], [False, True, True, True, False, True])
    first, ninth, last = found["bins"][0], found["bins"][8], found["bins"][9]
    # An edge belongs to the bin before it.
    assert (first["count"], ninth["count"], last["count"]) == (2, 2, 2)
    assert first["mean_score"] == pytest.approx(0.075) and first["accuracy"] == 0.5
    assert ninth["mean_score"] == pytest.approx(0.875) and ninth["accuracy"] == 0.5
    assert last["mean_score"] == pytest.approx(0.975) and last["accuracy"] == 1.0
    assert found["bins"][4] == {
        "from": pytest.approx(0.4),
        "to": pytest.approx(0.5),
        "count": 0,
        "mean_score": None,
        "accuracy": None,
    }
    assert found["ece"] == pytest.approx((0.425 + 0.375 + 0.025) / 3)
    assert (found["entities"], found["accuracy"]) == (6, pytest.approx(4 / 6))
    json.dumps(found, allow_nan=False)


judgements = st.lists(
    st.tuples(st.floats(0, 1) | st.sampled_from([0.0, 0.1, 0.3, 0.7, 1.0]), st.booleans()),
    min_size=1,
    max_size=60,
)


@given(judgements, st.integers(1, 20))
def test_figures_are_those_of_scikit_learn(pairs: list[tuple[float, bool]], bins: int) -> None:
    scores, right = (np.array(values) for values in zip(*pairs, strict=True))
    found = reliability(scores, right, bins)
    shares, means = calibration_curve(right, scores, n_bins=bins, pos_label=True)
    filled = [row for row in found["bins"] if row["count"]]
    assert [row["accuracy"] for row in filled] == pytest.approx(shares.tolist())
    assert [row["mean_score"] for row in filled] == pytest.approx(means.tolist())
    assert sum(row["count"] for row in found["bins"]) == len(pairs)
    weights = [row["count"] / len(pairs) for row in filled]
    assert found["ece"] == pytest.approx(np.dot(weights, np.abs(shares - means)))
    assert found["brier"] == pytest.approx(brier_score_loss(right, scores, pos_label=True))
    assert found["log_loss"] == pytest.approx(
        sklearn_log_loss(right, scores, labels=[False, True]), abs=1e-12
    )


def test_what_cannot_be_judged_is_refused() -> None:
    for measure in (reliability, log_loss):
        with pytest.raises(OpenMedError, match="No entity was found"):
            measure([], [])
        for score in (-0.01, 1.01, float("nan")):
            with pytest.raises(OpenMedError, match="is no probability"):
                measure([0.5, score], [True, False])
        with pytest.raises(ValueError, match="scores are"):
            measure([0.5, 0.5], [True])


def test_right_is_span_and_label_in_the_same_document() -> None:
    gold = [[Entity(0, 4, "A"), Entity(6, 9, "B")], [Entity(20, 24, "A")], []]
    found = [
        [Entity(0, 4, "A", 0.9), Entity(6, 9, "A", 0.8)],
        [Entity(0, 4, "A", 0.7), Entity(20, 24, "A", 0.6)],
        [],
    ]
    one = judge(found, gold)
    assert one.scores.tolist() == [0.9, 0.8, 0.7, 0.6]
    assert one.right.tolist() == [True, False, False, True]
    assert of_predictions(found, gold) == reliability(one.scores, one.right)


# The temperature


@pytest.mark.parametrize("true", [0.1, 0.6, 3.0])
def test_with_two_classes_it_is_logistic_regression(true: float) -> None:
    """There 1 / T is the one coefficient."""
    rng = np.random.default_rng(0)
    logits = rng.normal(scale=2 * true, size=2000)
    right = rng.random(2000) < 1 / (1 + np.exp(-logits / true))
    fitted = fit_temperature(lambda t: Judged(1 / (1 + np.exp(-logits / t)), right))
    model = LogisticRegression(C=1e9, fit_intercept=False, tol=1e-8)
    model.fit(logits[:, None], right)
    assert fitted == pytest.approx(1 / model.coef_[0, 0], rel=1e-3)
    assert fitted == pytest.approx(true, rel=0.15)


def random_entities(seed: int) -> Callable[[float], Judged]:
    """Entities of several words of random logits, right at random."""
    rng = np.random.default_rng(seed)
    count, labels = int(rng.integers(2, 40)), 2 * int(rng.integers(1, 4)) + 1
    words = rng.integers(1, 5, count)
    logits = [rng.normal(scale=rng.uniform(0.3, 6), size=(n + 1, labels)) for n in words]
    right = rng.random(count) < rng.uniform(0.1, 0.95)

    def judged(temperature: float) -> Judged:
        scores = []
        for rows in logits:
            powers = np.exp((rows - rows.max(axis=1, keepdims=True)) / temperature)
            shares = powers / powers.sum(axis=1, keepdims=True)
            scores.append(shares[:-1].max(axis=1).prod() * (1 - shares[-1].min()))
        return Judged(np.array(scores), right)

    return judged


@given(st.integers(0, 2**32 - 1))
def test_no_temperature_is_better(seed: int) -> None:
    judged = random_entities(seed)

    def loss(temperature: float) -> float:
        one = judged(temperature)
        return log_loss(one.scores, one.right)

    fitted = fit_temperature(judged)
    assert BOUNDS[0] <= fitted <= BOUNDS[1]
    # Where a score cannot be told from 1 its loss is cut off, and no longer says how bad it is.
    others = [t for t in np.geomspace(*BOUNDS, 25) if judged(t).scores.max() < 1 - 1e-9]
    assert loss(fitted) <= min(map(loss, others)) + 1e-4


def test_where_nothing_can_be_fitted() -> None:
    logits = np.array([0.5, 1.0, 2.0])

    def judged(right: Sequence[bool]) -> Callable[[float], Judged]:
        return lambda t: Judged(1 / (1 + np.exp(-logits / t)), np.array(right))

    assert fit_temperature(judged([True] * 3)) == pytest.approx(BOUNDS[0])
    assert fit_temperature(judged([False] * 3)) == pytest.approx(BOUNDS[1])
    nothing = Judged(np.zeros(0), np.zeros(0, dtype=np.bool_))
    with pytest.raises(OpenMedError, match="No entity was found"):
        fit_temperature(lambda _: nothing)


@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.floats(*BOUNDS))
def test_the_best_sequence_does_not_depend_on_the_temperature(
    tiny_backbone: Path, seed: int, types: int, temperature: float
) -> None:
    """But for ties: what is best at any temperature is as good as the best at 1."""
    text = "hypertension, cardiomyopathy and anti-leukemic BRCA1"
    encoding = encode(text, load_tokenizer(tiny_backbone))
    words = units(text, encoding)
    assert max(np.diff(words.pieces)) > 2
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=3, size=(len(encoding), 2 * types + 1)).astype(np.float32)
    plain = unit_log_probs(logits, words)
    scaled = unit_log_probs(logits / np.float32(temperature), words)
    (best,), (other,) = best_paths([plain]), best_paths([scaled])
    rows = np.arange(len(words))
    assert plain[rows, other].sum() == pytest.approx(plain[rows, best].sum(), abs=1e-3)


def test_held_out_scores_are_nearer_to_the_truth(corpora_dir: Path, minilm: Path) -> None:
    predictor = Predictor.load(adapters.SHIPPED / "ncbi" / "minilm")
    documents = read_split(corpora_dir, "ncbi", "dev")[:40]
    texts = [document.text for document in documents]
    gold = [registry.flatten("ncbi")(document.entities) for document in documents]
    encodings, logits = predictor.tag(texts)

    def found(temperature: float) -> list[list[Entity]]:
        return decode(texts, encodings, logits, predictor.info.types, temperature=temperature)

    fitted = fit_temperature(lambda t: judge(found(t)[::2], gold[::2]))
    plain, scaled = found(1.0), found(fitted)
    assert [[e[:3] for e in one] for one in scaled] == [[e[:3] for e in one] for one in plain]
    before = of_predictions(plain[1::2], gold[1::2])
    after = of_predictions(scaled[1::2], gold[1::2])
    assert after["accuracy"] == before["accuracy"]
    assert after["ece"] < before["ece"] and after["log_loss"] < before["log_loss"]


# The folder


def texts_of(dev: Sequence[Document]) -> list[str]:
    return [document.text for document in dev]


@pytest.fixture
def trained(tiny_backbone: Path, tmp_path: Path) -> tuple[Path, list[Document]]:
    """An adapter, and a dev on which two of three entities that it finds are right."""
    folder = write_adapter(tmp_path / "adapter", tiny_backbone)
    found = Predictor.load(folder)(SENTENCES)
    assert sum(map(len, found)) > 20
    count = 0
    dev = []
    for index, (text, entities) in enumerate(zip(SENTENCES, found, strict=True)):
        kept = []
        for entity in entities:
            count += 1
            if count % 3:
                kept.append(entity._replace(score=1.0))
        dev.append(Document(str(index), text, kept))
    note_dev(folder, dev)
    return folder, dev


def note_dev(folder: Path, dev: Sequence[Document]) -> None:
    path = folder / adapters.TRAINING
    record = json.loads(path.read_text(encoding="utf8"))
    record["data"]["dev"] = content_hash(dev)
    path.write_text(json.dumps(record, indent=2), encoding="utf8")


def test_the_temperature_is_written(trained: tuple[Path, list[Document]]) -> None:
    folder, dev = trained
    (folder / "notes.txt").write_text("mine", encoding="utf8")
    old = adapters.read(folder)
    others = {
        path.name: path.read_bytes()
        for path in folder.iterdir()
        if path.name not in (adapters.INFO, adapters.TRAINING)
    }
    plain = Predictor.load(folder)(texts_of(dev))
    result = calibrate(folder, dev)

    new = adapters.read(folder)
    found = result["calibration"]
    assert new.info.temperature == found["temperature"] != 1.0
    assert result["adapter"] == adapters.content_hash(new) != adapters.content_hash(old)
    assert {name: (folder / name).read_bytes() for name in others} == others
    record = json.loads(new.card[adapters.TRAINING])
    assert record.pop("calibration") == found
    assert record.pop("consistency") == result["consistency"]
    assert record == json.loads(old.card[adapters.TRAINING])
    assert (found["split"], found["data"], found["edges"]) == ("dev", content_hash(dev), "word")

    scaled = Predictor.load(folder)(texts_of(dev))
    assert [[e[:3] for e in one] for one in scaled] == [[e[:3] for e in one] for one in plain]
    gold = [document.entities for document in dev]
    for name, one in (("before", plain), ("after", scaled)):
        figures = of_predictions(one, gold)
        assert result[name] == figures
        for key in ("ece", "brier", "log_loss"):
            assert found[key][name] == figures[key]
        assert found["entities"] == figures["entities"]
    assert found["log_loss"]["after"] < found["log_loss"]["before"]


def test_again_gives_the_same(trained: tuple[Path, list[Document]]) -> None:
    folder, dev = trained

    def files() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    first = calibrate(folder, dev)
    written = files()
    assert calibrate(folder, dev) == first
    assert files() == written
    # As it is after a write that was cut off: a temperature without its record.
    record = json.loads(written[adapters.TRAINING])
    del record["calibration"], record["consistency"]
    (folder / adapters.TRAINING).write_text(json.dumps(record), encoding="utf8")
    assert calibrate(folder, dev) == first
    assert files() == written


def test_mentions_are_carried_if_dev_is_better_by_it(tiny_backbone: Path) -> None:
    text = "breast cancer and breast cancer"
    encoding = encode(text, load_tokenizer(tiny_backbone))
    logits = np.zeros((len(encoding), 3), dtype=np.float32)
    logits[0, 1] = logits[1, 2] = 3
    logits[2:, 0] = 9
    decoded = Decoded([text], [encoding], [logits], ["DISEASE"])
    (once,), (twice,) = decoded.entities(), decoded.entities(consistency=0.5)
    assert len(once) == 1 and len(twice) == 2 and 0.8 < once[0].score < 0.9
    carried = fit_consistency(decoded, 1.0, [twice])
    assert carried["least"] == 0.8
    assert carried["f1"] == {
        "off": pytest.approx(100 * 2 / 3),
        "0.5": 100.0,
        "0.7": 100.0,
        "0.8": 100.0,
        "0.9": pytest.approx(100 * 2 / 3),
        "0.95": pytest.approx(100 * 2 / 3),
    }
    kept = fit_consistency(decoded, 1.0, [once])
    assert kept["least"] is None
    assert kept["f1"]["off"] == 100.0 > kept["f1"]["0.8"]
    # What is no better is not done.
    assert fit_consistency(decoded, 10.0, [twice])["least"] is None


def test_what_was_fitted_is_written(trained: tuple[Path, list[Document]]) -> None:
    folder, dev = trained
    for least in (0.5, None):
        with pytest.MonkeyPatch.context() as patch:
            chosen = {"least": least, "f1": {}}
            patch.setattr(calibration, "fit_consistency", Mock(return_value=chosen))
            found = calibrate(folder, dev)
        assert found["consistency"]["least"] == least == adapters.read(folder).info.consistency
        assert found["adapter"] == adapters.content_hash(adapters.read(folder))


def test_only_the_dev_of_the_training_is_taken(trained: tuple[Path, list[Document]]) -> None:
    folder, dev = trained
    content = {path.name: path.read_bytes() for path in folder.iterdir()}
    for other in (dev[:-1], [*dev[:-1], Document("x", dev[-1].text, [])]):
        with pytest.raises(OpenMedError, match=r"fitted on dev only") as caught:
            calibrate(folder, other)
        assert content_hash(other) in str(caught.value)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == content
    for record in ("", "[]", '{"data": {}}', '{"data": null}'):
        (folder / adapters.TRAINING).write_text(record, encoding="utf8")
        with pytest.raises(OpenMedError, match="does not say what dev was"):
            calibrate(folder, dev)
    (folder / adapters.TRAINING).unlink()
    with pytest.raises(OpenMedError, match="does not say what dev was"):
        calibrate(folder, dev)


def test_an_adapter_that_finds_nothing(trained: tuple[Path, list[Document]]) -> None:
    folder, _ = trained
    dev = [Document("1", "", [])]
    note_dev(folder, dev)
    with pytest.raises(OpenMedError, match="No entity was found"):
        calibrate(folder, dev)


# The command


def run(*arguments: object) -> Result:
    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, [*map(str, arguments)])


def write_dev(path: Path, dev: Sequence[Document]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [
        {
            "text": document.text,
            "entities": [[e.start, e.end, "Disease"] for e in document.entities],
        }
        for document in dev
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf8")
    return path


def test_the_command(trained: tuple[Path, list[Document]], tmp_path: Path) -> None:
    folder, dev = trained
    (folder / adapters.CARD).write_text("# A card\n", encoding="utf8")
    write_dev(tmp_path / "corpora" / "ner" / "ncbi" / "dev.jsonl", dev)
    target = tmp_path / "out" / "calibration.json"
    given = ["--adapter", folder, "--dataset", "ncbi", "--corpus", tmp_path / "corpora"]
    outcome = run(*given, "--json", target, "--plot", tmp_path / "before-after.png")
    assert outcome.exit_code == 0, outcome.output
    assert (tmp_path / "before-after.png").read_bytes().startswith(b"\x89PNG")
    result: dict[str, Any] = json.loads(target.read_text(encoding="utf8"))
    found = result["calibration"]
    assert adapters.read(folder).info.temperature == found["temperature"]
    assert f"temperature {found['temperature']:.3f}, from {found['entities']}" in outcome.stdout
    for key in ("ece", "brier", "log_loss"):
        assert f"{found[key]['before']:.4f} -> {found[key]['after']:.4f}" in outcome.stdout
    assert f"F1 {result['consistency']['f1']['off']:.2f}" in outcome.stdout
    assert "README.md is of the adapter as it was before" in outcome.stderr
    assert "at the end of what is allowed" not in outcome.stderr
    (folder / adapters.CARD).write_text(f"# Of {result['adapter']}\n", encoding="utf8")
    again = run(*given)
    assert (again.exit_code, again.stdout, again.stderr) == (0, outcome.stdout, "")


def test_the_command_on_own_files(trained: tuple[Path, list[Document]], tmp_path: Path) -> None:
    folder, dev = trained
    own = [
        Document(d.id, d.text, [e._replace(label="Disease") for e in d.entities])
        for d in dev
        if d.entities
    ]
    note_dev(folder, own)
    path = write_dev(tmp_path / "notes.jsonl", own)
    # The adapter finds DISEASE, and the file has Disease: nothing is right.
    outcome = run("--adapter", folder, "--dev", path)
    assert outcome.exit_code == 0, outcome.output
    assert f"temperature {BOUNDS[1]:.3f}" in outcome.stdout
    assert "at the end of what is allowed (0.05 to 20)" in outcome.stderr
    with path.open("a", encoding="utf8") as file:
        file.write("{torn\n")
    assert isinstance(run("--adapter", folder, "--dev", path).exception, OpenMedError)
    outcome = run("--adapter", folder, "--dev", path, "--keep-going")
    assert outcome.exit_code == 0 and "notes.jsonl" in outcome.stderr
    assert "left out: 1" in outcome.stdout
    for arguments in ([], ["--dataset", "ncbi", "--dev", path]):
        refused = run("--adapter", folder, *arguments).exception
        assert isinstance(refused, OpenMedError) and "either --dataset" in str(refused)


# The plot


def test_the_plot_is_a_file_that_only_the_figures_decide(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    scores = rng.random(300)
    right = rng.random(300) < scores**0.4
    before, after = reliability(scores, right), reliability(scores**0.4, right)
    paths = [tmp_path / "new" / name for name in ("one.png", "two.png", "other.png")]
    plot(before, after, paths[0])
    plot(before, after, paths[1])
    plot(after, before, paths[2])
    one, two, other = (path.read_bytes() for path in paths)
    assert one.startswith(b"\x89PNG") and b"Software" not in one
    assert one == two != other
    # Most bins may be empty.
    plot(reliability([0.93], [True]), reliability([0.99], [True]), paths[0])
    assert paths[0].read_bytes() != one
