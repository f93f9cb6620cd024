"""Cards of adapters: every figure from a file that is named, nothing empty, nothing hidden."""

import dataclasses
import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import card_files as files
import pytest
from card_checks import body, headings_without_text, numbers, sections, unfounded
from huggingface_hub import ModelCard
from networks import write_pretraining
from typer.testing import CliRunner

from spacy_openmed import adapters, backbones
from spacy_openmed.cli.app import app
from spacy_openmed.corpora import registry
from spacy_openmed.errors import OpenMedError
from spacy_openmed.evaluation.errors import OF_TRAINING
from spacy_openmed.packaging.cards import results_table, write_card
from spacy_openmed.packaging.cards.material import BACKBONES, REGISTRY

pytestmark = pytest.mark.usefixtures("one_torch_thread")

URL = "https://example.org/results"
MEASURED = ["Mentions that training did not have", "Kinds of errors", "Calibration", "Robustness"]
MEASURED.append("Other corpora")
ARTICLES = (9, 10, 11, 12, 13, 14, 15, 26)


class Run:
    """An adapter and its results, in the folders of a run.

    adapter (Path): Folder of the adapter.
    results (Path): Folder of the results.
    """

    def __init__(self, root: Path, backbone: Path, dataset: str, **record: Any) -> None:
        self.dataset = dataset
        self.results = root / "results"
        self.ledger = root / "ledger.jsonl"
        self.adapter = files.write_adapter(backbone, root / "train" / "adapter", dataset, **record)

    def put(self, name: str, content: dict[str, Any]) -> Path:
        return files.put(self.results / name, content)

    def write(self, results: list[Path], base: str = "") -> str:
        write_card(self.adapter, results, base=base)
        return (self.adapter / adapters.CARD).read_text(encoding="utf8")

    def files(self) -> dict[str, Any]:
        """Name to content of all that a card of this run may name."""
        found = {
            path.relative_to(self.results).as_posix(): json.loads(path.read_text(encoding="utf8"))
            for path in self.results.rglob("*.json")
        }
        if self.ledger.is_file():
            lines = self.ledger.read_text(encoding="utf8").splitlines()
            found["ledger.jsonl"] = {str(n): json.loads(line) for n, line in enumerate(lines, 1)}
        package = Path(registry.__file__).parent
        return {
            **found,
            adapters.TRAINING: json.loads((self.adapter / adapters.TRAINING).read_text("utf8")),
            REGISTRY.name: tomllib.loads((package / "registry.toml").read_text("utf8")),
            BACKBONES.name: backbones.registry(),
        }


Make = Callable[..., Run]


@pytest.fixture
def make(tiny_backbone: Path, tmp_path: Path) -> Make:
    return lambda dataset, **record: Run(tmp_path / "run", tiny_backbone, dataset, **record)


def rich(run: Run) -> list[Path]:
    """All that can be measured; the results of ``evaluate`` are returned."""
    name = run.dataset
    paths = []
    for split in ("dev", "test"):
        found = files.result(run.adapter, name, split)
        paths.append(run.put(f"{name}-{split}.json", found))
        run.put(f"{name}-{split}.errors.json", files.errors(run.adapter, found))
    run.put(f"robustness/{name}-test.json", files.robustness(run.adapter, found))
    crossed = files.cross(run.adapter, "bc5cdr-disease", name)
    run.put(f"cross/{name}-on-bc5cdr-disease-dev.json", crossed)
    files.look(run.ledger, found)
    files.look(run.ledger, {**found, "robustness": {"capitals": 40.0}}, "to measure robustness")
    return paths


def titles(card: str) -> list[str]:
    return [title for title, _ in sections(card)]


def section(card: str, title: str) -> str:
    return dict(sections(card))[title]


def check(run: Run, card: str) -> None:
    assert headings_without_text(card) == []
    assert unfounded(card, run.files()) == []
    # Of folders of this machine: the adapter's, the results' and the backbone's.
    assert "/run/" not in card and "pytest-of" not in card
    assert not re.search(r"\b(None|nan|inf)\b", body(card))


# Rich and poor


@pytest.mark.parametrize("dataset", ["ncbi", "jnlpba"])
def test_all_that_was_measured_is_in_the_card(make: Make, dataset: str) -> None:
    run = make(dataset, temperature=1.25, energy=files.ENERGY, calibration=files.CALIBRATION)
    card = run.write(rich(run), URL)
    check(run, card)
    assert set(MEASURED) <= set(titles(card))
    test = run.files()[f"{dataset}-test.json"]
    assert results_table([test]).splitlines()[2] in card
    low, high = test["conll"]["f1_ci"]
    assert f"[{low:.2f}, {high:.2f}]" in section(card, "Figures")
    ece = test["calibration"]["after"]["ece"]
    assert f"{100 * ece:.1f} |" in section(card, "Calibration")
    lost = run.files()[f"robustness/{dataset}-test.json"]["disturbed"]["capitals"]["lost"]
    assert f"{lost:.2f}" in section(card, "Robustness")
    assert "4 of 30" in section(card, "Other corpora")
    missing = section(card, "What was not measured")
    assert not [word for word in ("Calibration", "Robustness", "corpora") if word in missing]
    assert "Clinical notes" in missing
    assert ("Per label" in titles(card)) == (dataset == "jnlpba")
    for name in registry.dataset(dataset).types.values():
        assert f"`{name}`" in section(card, "Labels")


def test_the_errors_of_test_are_shown_and_not_those_of_dev(make: Make) -> None:
    run = make("ncbi")
    paths = rich(run)
    card = run.write(paths)
    found = run.files()["ncbi-test.errors.json"]
    assert found["unseen"] == {"mentions": 3, "correct": 1, "recall": pytest.approx(100 / 3)}
    assert "| new | 3 | 33.33 |" in section(card, MEASURED[0])
    assert "| annotated in training | 1 | 100.00 |" in section(card, MEASURED[0])
    assert "| right | 2 | 2 |" in section(card, MEASURED[1])
    assert "| right label, too long | " in section(card, MEASURED[1])
    assert "ncbi-dev.errors.json" not in section(card, MEASURED[1])
    assert "finds 33.33 %, of others 100.00 % (`ncbi-test.errors.json`)" in section(card, "Limits")


def test_new_mentions_are_not_known_without_all_training_data(make: Make) -> None:
    start = {"adapter": "a" * 64, "dataset": "bc5cdr-disease", "types": ["DISEASE"]}
    run = make("ncbi", warm_start=start)
    paths = rich(run)
    names = ["ncbi", "bc5cdr-disease"]
    counted = run.files()["ncbi-test.errors.json"]
    seen = {"datasets": names, "data": {}, "absent": []}
    run.put("ncbi-test.errors.json", {**counted, "train": seen})
    card = run.write(paths)
    check(run, card)
    assert "training data, that of `bc5cdr-disease` included" in section(card, MEASURED[0])
    assert "went on from an adapter for `bc5cdr-disease`: its texts" in section(
        card, "Other corpora"
    )

    absent = {**seen, "absent": names[1:]}
    run.put("ncbi-test.errors.json", {**counted, "train": absent, **dict.fromkeys(OF_TRAINING)})
    card = run.write(paths)
    check(run, card)
    assert section(card, MEASURED[0]).strip().startswith("Not known: its training went on from")
    assert "times in training" not in section(card, MEASURED[1])
    assert "- Mentions that training did not have." in section(card, "What was not measured")
    assert "| right | 2 | 2 |" in section(card, MEASURED[1])


def test_what_was_not_measured_is_left_out_and_named(make: Make) -> None:
    run = make("ncbi")
    paths = [
        run.put(f"ncbi-{split}.json", files.old_result(run.adapter, "ncbi", split))
        for split in ("dev", "test")
    ]
    card = run.write(paths)
    check(run, card)
    assert not set(MEASURED) & set(titles(card))
    missing = section(card, "What was not measured")
    for word in ("Intervals", "Mentions that", "Calibration", "Robustness", "Other corpora"):
        assert word in missing
    assert "Energy" in missing
    assert "Not recorded for the training." in section(card, "Energy and carbon")
    assert "co2_eq_emissions" not in card
    assert "| `ncbi` | test | raw |" in card and "interval" not in section(card, "Figures")


def test_figures_on_dev_only_say_so(make: Make) -> None:
    run = make("ncbi")
    card = run.write([run.put("ncbi-dev.json", files.result(run.adapter, "ncbi", "dev"))])
    check(run, card)
    assert "Scores on test" in section(card, "What was not measured")
    assert "On dev of `ncbi`" in section(card, "Calibration")
    assert "Looks at test" not in titles(card)


def test_a_part_of_a_corpus_is_marked(make: Make) -> None:
    run = make("bc4chemd", data={"train": tenth().splits["train"].raw_sha256, "dev": "cd" * 32})
    found = {**files.result(run.adapter, "bc4chemd", "test"), "partial": True}
    card = run.write([run.put("bc4chemd-test.json", found)])
    check(run, card)
    assert f"**{tenth().about}**" in section(card, titles(card)[1])
    assert "Only a part of the corpus" in section(card, "Figures")
    assert tenth().about in section(card, "Limits")
    assert "BC4CHEMD (CHEMDNER), a part of it" in card


def tenth() -> registry.Edition:
    return registry.dataset("bc4chemd").editions["tenth"]


@pytest.mark.parametrize("dataset", ["", "our-notes"])
def test_a_card_of_the_users_own_data(make: Make, dataset: str) -> None:
    run = make(dataset, energy=files.ENERGY)
    card = run.write([run.put("mine.json", files.own_result(run.adapter, "notes.jsonl"))])
    check(run, card)
    data = ModelCard(card).data
    assert data.license is None
    assert data.eval_results[0].dataset_type == "notes.jsonl"
    assert 'nlp.add_pipe("openmed_ner", config={"adapter": "FOLDER"})' in card
    assert "for its owner to state" in section(card, "Corpus")
    assert "Scores on a public corpus" in section(card, "What was not measured")
    assert "Clinical notes" not in section(card, "What was not measured")
    assert "| `notes.jsonl` |  | raw |" in card
    assert "published" not in section(card, "Limits")
    assert "known to that user only" in section(card, "Data and data governance (Article 10)")


@pytest.mark.parametrize(
    ("dataset", "title", "text"),
    [
        ("anatem", "Corpus", "1.02 % of the runs of words of test are in train of `bionlp13cg`"),
        ("linnaeus", "Corpus", "test in train: 564, of which long 19"),
        ("ncbi", "Limits", "published in 2014"),
        ("sample", "Limits", "Far too small for a model that is of use"),
    ],
)
def test_what_the_registry_knows(make: Make, dataset: str, title: str, text: str) -> None:
    run = make(dataset)
    card = run.write([run.put("x.json", files.result(run.adapter, dataset, "dev"))])
    check(run, card)
    assert text in section(card, title)


def test_data_that_may_not_be_handed_on_leave_the_licence_open(make: Make) -> None:
    run = make("fsu")
    card = run.write([run.put("x.json", files.result(run.adapter, "fsu", "dev"))])
    check(run, card)
    assert ModelCard(card).data.license is None
    assert "the user's own download" in section(card, "Corpus")


def test_rare_mentions_and_weak_labels_are_limits(make: Make) -> None:
    run = make("jnlpba")
    found = files.result(run.adapter, "jnlpba", "test")
    found["raw"]["per_label"]["RNA"].update(f1=12.344, tp=2, fn=30)
    found["raw"].update(tp=120, fn=30)
    limits = section(run.write([run.put("jnlpba-test.json", found)]), "Limits")
    assert "F1 of RNA is 12.34, on 32 mentions" in limits
    assert "Of 150 annotated mentions" in limits and "So few mentions" in limits
    assert "98 of the longer sentences of test are in the training data" in limits


# Where figures are from


def test_files_are_linked_where_readers_find_them(make: Make) -> None:
    run = make("ncbi")
    paths = rich(run)
    card = run.write(paths, "../../results/")
    check(run, card)
    for name in ("ncbi-test.json", "ncbi-test.errors.json", "robustness/ncbi-test.json"):
        assert f"[`{name}`](../../results/{name})" in card
        assert f" `{name}`" not in card
    assert "[`ledger.jsonl`](../../results/../ledger.jsonl)" in card
    assert f"[`{adapters.TRAINING}`](./{adapters.TRAINING})" in card
    for link in re.findall(r"\]\((\.[^)]*)\)", card):
        assert (run.adapter / link).is_file(), link
    assert "source_url" not in card and "url: .." not in card

    card = run.write(paths)
    assert "](" + "../" not in card and "`ncbi-test.json`" in card
    origins = {one.source_url for one in ModelCard(run.write(paths, URL)).data.eval_results}
    assert origins == {f"{URL}/ncbi-dev.json", f"{URL}/ncbi-test.json"}


def test_every_file_is_listed_with_its_hash(make: Make) -> None:
    run = make("ncbi")
    card = run.write(rich(run))
    listed = section(card, "Files that this card was made from")
    for path in [*run.results.rglob("*.json"), run.adapter / adapters.TRAINING]:
        assert f"`{path.name}" in listed or f"/{path.name}`" in listed
        assert backbones.file_sha256(path) in listed
    # It grows, and every line that counts is listed with a hash of its own.
    assert run.ledger.name not in listed
    assert files.sha256(run.adapter) in section(card, "Audit trail")


def test_the_code_is_named_where_it_was_recorded(make: Make) -> None:
    run = make("ncbi", code="c0" * 32)
    old = files.result(run.adapter, "ncbi", "dev")
    new = {**files.result(run.adapter, "ncbi", "test"), "spacy_openmed": "0.2", "code": "c1" * 32}
    card = run.write([run.put("ncbi-dev.json", old), run.put("ncbi-test.json", new)])
    check(run, card)
    audit = section(card, "Audit trail")
    for line in (
        f"| Code of the training | spacy-openmed 0.1.0, sha256 of its Python files `{'c0' * 32}` |",
        "| Code that measured `ncbi-dev.json` | no hash of it recorded |",
        f"| Code that measured `ncbi-test.json` | spacy-openmed 0.2, sha256 of its Python files "
        f"`{'c1' * 32}` |",
    ):
        assert line in audit


def test_the_same_files_give_the_same_card(make: Make) -> None:
    run = make("ncbi")
    paths = rich(run)
    first = run.write(paths, URL)
    assert run.write(paths, URL) == first
    assert ModelCard(first).content == first


def test_files_of_another_adapter_or_other_data(make: Make) -> None:
    run = make("ncbi")
    paths = rich(run)
    of_test = run.files()["ncbi-test.errors.json"]
    run.put("ncbi-test.errors.json", {**of_test, "adapter": "0" * 64})
    forms = run.files()["robustness/ncbi-test.json"]
    run.put("robustness/ncbi-test.json", {**forms, "data": {"test.jsonl": "1" * 64}})
    card = run.write(paths)
    check(run, card)
    assert "Robustness" not in titles(card)
    missing = section(card, "What was not measured")
    assert "`ncbi-test.errors.json` is there, but of another adapter" in missing
    assert "`robustness/ncbi-test.json` is there" in missing
    # That of dev is still right, and is what there is.
    assert "On raw text, dev of `ncbi`" in section(card, MEASURED[1])

    found = run.files()["ncbi-test.json"]
    run.put("ncbi-test.json", {**found, "adapter": "0" * 64})
    before = (run.adapter / adapters.CARD).read_bytes()
    with pytest.raises(OpenMedError, match=r"ncbi-test\.json was measured on another adapter"):
        run.write(paths)
    assert (run.adapter / adapters.CARD).read_bytes() == before


def test_what_is_given_need_not_lie_beside(make: Make, tmp_path: Path) -> None:
    run = make("ncbi")
    found = files.result(run.adapter, "ncbi", "test")
    path = run.put("ncbi-test.json", found)
    elsewhere = files.put(tmp_path / "x" / "y" / "e.json", files.errors(run.adapter, found))
    card = run.write([path, elsewhere], URL)
    assert "From `e.json`." in section(card, MEASURED[1])
    assert "/x/y/" not in card
    # A plain result on another corpus, as before there was a command for it.
    plain = files.result(run.adapter, "bc5cdr-disease", "dev")
    card = run.write([path, run.put("on-another.json", plain)])
    check(run, card)
    assert "| `bc5cdr-disease` | dev |" in section(card, "Other corpora")
    assert "bc5cdr-disease" not in section(card, "Figures")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"ncbi-test\.json is broken"),
        ("[]", "not a JSON object"),
        (None, "cannot be read"),
        ("figures", "has no figures that a card could show"),
    ],
)
def test_bad_files(make: Make, content: str | None, message: str) -> None:
    run = make("ncbi")
    path = run.results / "ncbi-test.json"
    path.parent.mkdir()
    if content == "figures":
        content = json.dumps({"adapter": files.sha256(run.adapter), "passages": 3})
    if content is not None:
        path.write_text(content, encoding="utf8")
    with pytest.raises(OpenMedError, match=message):
        run.write([path])
    assert not (run.adapter / adapters.CARD).exists()


def test_a_card_needs_a_record_and_a_result(make: Make) -> None:
    run = make("ncbi")
    with pytest.raises(OpenMedError, match="needs a result"):
        run.write([])
    path = run.put("ncbi-test.json", files.result(run.adapter, "ncbi", "test"))
    (run.adapter / adapters.TRAINING).unlink()
    with pytest.raises(OpenMedError, match=r"has no training\.json"):
        run.write([path])


# The audit trail


def test_looks_at_test_are_those_of_the_ledger(make: Make) -> None:
    run = make("ncbi")
    paths = rich(run)
    other = {**run.files()["ncbi-test.json"], "adapter": "0" * 64}
    files.look(run.ledger, other, "another adapter")
    looks = section(run.write(paths), "Looks at test")
    lines = [json.loads(line) for line in run.ledger.read_text(encoding="utf8").splitlines()]
    assert f"| 1 | {lines[0]['time']} | `ncbi` | the figures | 1 |" in looks
    assert "| robustness | 2 | to measure robustness |" in looks
    # Each line holds the hash of the one before.
    for line in lines[1:]:
        assert line["previous"] in looks
    assert "another adapter" not in looks and "is not as it was written" not in looks

    run.ledger.write_bytes(b"".join(run.ledger.read_bytes().splitlines(keepends=True)[1:]))
    looks = section(run.write(paths), "Looks at test")
    assert "is not as it was written: line 1 does not follow" in looks


def test_figures_on_test_that_no_ledger_has(make: Make, tmp_path: Path) -> None:
    run = make("ncbi")
    path = run.put("ncbi-test.json", files.result(run.adapter, "ncbi", "test"))
    assert "No ledger was given" in section(run.write([path]), "Looks at test")
    other = files.result(run.adapter, "ncbi", "test") | {"adapter": "0" * 64}
    files.look(tmp_path / "other.jsonl", other)
    write_card(run.adapter, [path], ledger=tmp_path / "other.jsonl")
    card = (run.adapter / adapters.CARD).read_text(encoding="utf8")
    assert "that nobody recorded" in section(card, "Looks at test")
    with pytest.raises(OpenMedError, match=r"none\.jsonl cannot be read"):
        write_card(run.adapter, [path], ledger=tmp_path / "none.jsonl")


def test_settings_and_seeds_are_all_there(make: Make) -> None:
    runs = [
        {"seed": seed, "epochs": [{"epoch": 1.0, "dev_f1": 70.0 + seed}], "seconds": 60.0}
        for seed in (3, 4)
    ]
    run = make("ncbi", averaged=runs, outside_bias=0.5)
    card = run.write([run.put("ncbi-dev.json", files.result(run.adapter, "ncbi", "dev"))])
    check(run, card)
    assert "| Seeds | 3, 4 |" in section(card, "Audit trail")
    assert "of 2 runs with seeds 3, 4; 0.5 added" in section(card, "Training")
    shared = [{**run, "share": share} for run, share in zip(runs, (0.25, 0.75), strict=True)]
    other = make("ncbi", averaged=shared, outside_bias=0.5)
    card = other.write([other.put("ncbi-dev.json", files.result(other.adapter, "ncbi", "dev"))])
    assert "with seeds 3, 4 and shares 0.25, 0.75; 0.5" in section(card, "Training")
    settings = run.files()[adapters.TRAINING]["settings"]
    shown = section(card, "Settings")
    for name in [f"optim.{key}" for key in settings["optim"]] + ["window", "label_smoothing"]:
        assert f"| `{name}` |" in shown


def test_what_is_carried_is_said_with_what_it_gained(make: Make) -> None:
    for least, best, said in (
        (0.9, 81.25, "at least 0.9 are carried to the same words"),
        (None, 79.5, "not carried, chosen on dev: F1 there 80.00 without, at best 79.50 with it"),
    ):
        f1 = {"off": 80.0, "0.8": 79.1, "0.9": best}
        run = make("ncbi", consistency={"least": least, "f1": f1})
        if least is not None:
            adapter = adapters.read(run.adapter)
            info = dataclasses.replace(adapter.info, consistency=least)
            adapters.write(dataclasses.replace(adapter, info=info), run.adapter)
        card = run.write([run.put("ncbi-dev.json", files.result(run.adapter, "ncbi", "dev"))])
        assert said in section(card, "Training")
        assert ("80.00 without, 81.25 with it" in section(card, "Training")) == (least is not None)


def test_an_adapter_that_a_run_went_on_from_is_named(make: Make) -> None:
    start = {"adapter": "a" * 64, "dataset": "bc4chemd", "types": ["CHEMICAL"]}
    run = make("ncbi", warm_start=start)
    card = run.write([run.put("ncbi-dev.json", files.result(run.adapter, "ncbi", "dev"))])
    check(run, card)
    assert "| Warm start | an adapter for `bc4chemd`, hash `aaaa" in section(card, "Training")
    assert "(`bc4chemd`) |" in section(card, "Corpora that it went on from")
    assert "without those of what it went on from, which the record" in section(card, "Training")


def test_the_runs_before_are_in_its_cost(make: Make) -> None:
    before = {"adapter": "b" * 64, "seconds": 1380.0, "energy": files.ENERGY, "warm_start": None}
    start = {"adapter": "a" * 64, "dataset": "bc4chemd", "types": ["X"], "runs": [before]}
    for runs, whole in (([before], True), ([{**before, "energy": None}], False)):
        run = make("ncbi", warm_start={**start, "runs": runs}, energy=files.ENERGY)
        card = run.write([run.put("ncbi-dev.json", files.result(run.adapter, "ncbi", "dev"))])
        check(run, card)
        assert "72 minutes, after runs of 23 minutes" in section(card, "Training")
        cost = section(card, "Energy and carbon")
        assert ("| A run before: energy and carbon by TDP | 0.144 kWh" in cost) is whole
        assert ("Not recorded for the runs of what it went on from" in cost) is not whole
        grams = files.ENERGY["codecarbon"]["g_co2"] * (2 if whole else 1)
        emissions = ModelCard(card).data.co2_eq_emissions["emissions"]
        assert emissions == pytest.approx(grams, abs=0.001)


def test_the_text_of_the_pretraining(
    make: Make, tiny_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "home" / "pretraining" / "mine"
    write_pretraining(tiny_backbone, place, 0)
    record = json.loads((place / "dapt.json").read_text(encoding="utf8"))
    texts = {"passages.txt": "9a" * 32}
    record |= {"texts": texts, "wordpieces": 15750038, "windows": 90469, "energy": files.ENERGY}
    (place / "dapt.json").write_text(json.dumps(record), encoding="utf8")
    weights = backbones.file_sha256(place / "adapter_model.safetensors")
    run = make("ncbi", init_adapter=weights)
    path = run.put("ncbi-dev.json", files.result(run.adapter, "ncbi", "dev"))
    assert "not at hand" in section(run.write([path]), "Text of the pre-training")
    monkeypatch.setenv("OPENMED_HOME", str(tmp_path / "home"))
    card = run.write([path])
    assert unfounded(card, {**run.files(), "dapt.json": record}) == []
    shown = section(card, "Text of the pre-training")
    assert "15,750,038 wordpieces" in shown and texts["passages.txt"] in shown
    energy = section(card, "Energy and carbon")
    assert "| Pre-training: time and device | 1.20 hours" in energy
    assert "Not recorded for the training." in energy
    assert weights in section(card, "Audit trail")


# The rest


def test_energy_is_shown_and_told_to_the_hub(make: Make) -> None:
    run = make("ncbi", energy=files.ENERGY)
    path = run.put("ncbi-dev.json", files.result(run.adapter, "ncbi", "dev"))
    card = run.write([path])
    check(run, card)
    energy = section(card, "Energy and carbon")
    assert "| Energy and carbon by TDP | 0.144 kWh, 34.9 g CO2" in energy
    assert "0.0422 kWh, 2.35 g CO2 with the grid of FRA" in energy
    assert "Not recorded" not in energy
    assert "Energy" not in section(card, "What was not measured")
    told = ModelCard(card).data.to_dict()["co2_eq_emissions"]
    assert (told["emissions"], told["geographical_location"]) == (2.346, "FRA")

    run = make("bc2gm", energy={**files.ENERGY, "codecarbon": None})
    path = run.put("bc2gm-dev.json", files.result(run.adapter, "bc2gm", "dev"))
    told = ModelCard(run.write([path])).data.to_dict()["co2_eq_emissions"]
    assert told["emissions"] == 34.856 and "TDP" in told["source"]
    assert "geographical_location" not in told


def test_the_hub_gets_the_results(make: Make) -> None:
    run = make("ncbi")
    data = ModelCard(run.write(rich(run))).data
    assert (data.license, data.library_name) == ("apache-2.0", "spacy-openmed")
    assert data.pipeline_tag == "token-classification" and "spacy" in data.tags
    shown = {(one.dataset_split, one.metric_name): one.metric_value for one in data.eval_results}
    for split in ("dev", "test"):
        result = run.files()[f"ncbi-{split}.json"]
        assert shown[split, "F1 on raw text"] == round(result["raw"]["f1"], 2)
        assert shown[split, "F1 on the tokens of the corpus"] == round(result["conll"]["f1"], 2)
    assert {one.dataset_type for one in data.eval_results} == {"ncbi"} and len(shown) == 4


def test_each_article_has_facts_and_what_is_left_to_do(make: Make) -> None:
    run = make("ncbi")
    card = run.write(rich(run))
    found = {title: text for title, text in sections(card) if "(Article " in title}
    assert [int(re.findall(r"\d+", title)[0]) for title in found] == list(ARTICLES)
    for title, text in found.items():
        if "26" not in title:
            assert "**This adapter.** " in text and "**Left to you.** " in text
    assert "no legal assessment" in section(card, "Headings of the EU AI Act")
    assert "`ncbi-test.json`" in found["Accuracy, robustness and cybersecurity (Article 15)"]


def test_command(make: Make, tiny_backbone: Path, tmp_path: Path) -> None:
    run = make("ncbi")
    given = [text for path in rich(run) for text in ("--result", str(path))]
    command = ["card", str(run.adapter), *given, "--source", URL, "--ledger", str(run.ledger)]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert f"]({URL}/ncbi-test.json)" in (run.adapter / adapters.CARD).read_text(encoding="utf8")
    other = write_pretraining(tiny_backbone, tmp_path / "pretraining", 0)
    done = CliRunner().invoke(app, ["card", str(other), *given[:2], "--source", URL])
    assert done.exit_code == 1 and "leave --ledger and --source out" in done.output


# The checks themselves


def test_a_changed_figure_is_noticed(make: Make) -> None:
    run = make("jnlpba", temperature=1.25, energy=files.ENERGY, calibration=files.CALIBRATION)
    card = run.write(rich(run))
    known = run.files()
    places = [m for m in re.finditer(r"(?<![\w.])\d\d\.\d\d(?![\w.])", body(card))]
    assert len(places) > 50
    text = body(card)
    noticed = 0
    for place in places[::7]:
        changed = text[: place.start()] + f"{float(place[0]) + 200:.2f}" + text[place.end() :]
        noticed += unfounded(f"x\n---\n{changed}", known) != []
    assert noticed == len(places[::7])


def test_a_figure_needs_its_file_beside_it() -> None:
    known = {"a.json": {"f1": 81.234, "tp": 3, "fn": 4, "note": "of 12 runs"}, "b.json": {"f1": 5}}
    start = "x\n---\n# T\n\n"
    assert unfounded(f"{start}F1 81.23 of 7 mentions in 12 runs (`a.json`)", known) == []
    assert unfounded(f"{start}F1 81.23", known) == ["T: 81.23 (no file named)"]
    assert unfounded(f"{start}F1 81.23 (`b.json`)", known) == ["T: 81.23 (b.json)"]
    assert unfounded(f"{start}F1 81.24 (`a.json`)", known) == ["T: 81.24 (a.json)"]
    assert unfounded(f"{start}- F1 81.23\n- 5 (`b.json`)\n\n`a.json`", known) != []
    assert numbers("sha256 `12`, Article 9, BRCA1, [x](3.html), 26(4) and 1,328.5") == ["1,328.5"]


def test_a_figure_of_another_field_is_noticed(make: Make) -> None:
    run = make("jnlpba")
    paths = rich(run)
    card = run.write(paths)
    test = run.files()["jnlpba-test.json"]
    for score, row in (
        (test["raw"], "| `jnlpba` | test | raw |"),
        (test["conll"]["per_label"]["RNA"], "| RNA | conll |"),
    ):
        right = " | ".join(f"{score[key]:.2f}" for key in ("precision", "recall", "f1"))
        wrong = " | ".join(f"{score[key]:.2f}" for key in ("precision", "f1", "recall"))
        assert right != wrong
        swapped = card.replace(f"{row} {right} |", f"{row} {wrong} |")
        assert swapped != card and len(unfounded(swapped, run.files())) == 1


def test_an_empty_heading_is_noticed() -> None:
    start = "x\n---\n"
    assert headings_without_text(f"{start}# A\n\n## B\n\ntext\n") == []
    assert headings_without_text(f"{start}# A\n\ntext\n\n## B\n\n## C\n\ntext\n") == ["B"]
    assert headings_without_text(f"{start}# A\n\n### B\n\n## C\n") == ["B", "C"]
    assert headings_without_text(f"{start}# A\n\n```\n# B\n# C\n```\n") == []
