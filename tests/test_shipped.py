"""The adapters inside the package, on the real embedded backbone."""

import json
import re
import subprocess
import sys
import tomllib
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import spacy
import torch
from card_checks import headings_without_text, unfounded
from spacy.tokenizer import Tokenizer

from spacy_openmed import adapters, backbones, pretraining
from spacy_openmed.alignment import align
from spacy_openmed.corpora import registry
from spacy_openmed.corpora.folder import corpus_file, read_split
from spacy_openmed.corpora.formats import jsonl
from spacy_openmed.evaluation import ablation
from spacy_openmed.evaluation.evaluate import evaluate
from spacy_openmed.evaluation.report.collect import collect
from spacy_openmed.evaluation.scores import score_documents
from spacy_openmed.labelling import outermost
from spacy_openmed.packaging import cards
from spacy_openmed.packaging.cards.material import BACKBONES, REGISTRY, gather
from spacy_openmed.packaging.peft_export import export_peft
from spacy_openmed.packaging.pretraining_card import card, perplexity_table
from spacy_openmed.predictor import Predictor

ROOT = Path(__file__).parents[1]
SHIPPED = sorted(path.parent for path in adapters.SHIPPED.glob("*/*/openmed.json"))
sys.path.insert(0, str(ROOT / "benchmarks"))
import speed  # noqa: E402
import suite  # noqa: E402

TEXT = (ROOT / "assets" / "abstract.txt").read_text(encoding="utf8")

pytestmark = pytest.mark.usefixtures("minilm")


@pytest.fixture(scope="module")
def nlp() -> spacy.language.Language:
    nlp = spacy.blank("en")
    nlp.max_length = 10_000_000
    nlp.add_pipe("openmed_ner", config={"dataset": "ncbi"})
    return nlp


def spans(doc: spacy.tokens.Doc) -> list[tuple[int, int, str]]:
    return [(e.start_char, e.end_char, e.label_) for e in doc.ents]


def known_files(folder: Path) -> dict[str, Any]:
    """Name to content of all that the card of an adapter may take figures from."""
    place = suite.SUITE / "results"
    found = {
        path.relative_to(place).as_posix(): json.loads(path.read_text(encoding="utf8"))
        for path in place.rglob("*.json")
    }
    lines = suite.LEDGER.read_text(encoding="utf8").splitlines()
    registered = (Path(registry.__file__).parent / "registry.toml").read_text(encoding="utf8")
    base = adapters.read(folder).pretraining
    text_of_base = [
        path / pretraining.RECORD
        for path in pretraining.SHIPPED.iterdir()
        if base is not None and pretraining.read(path).sha256 == base.sha256
    ]
    return {
        **found,
        "ledger.jsonl": {str(n): json.loads(line) for n, line in enumerate(lines, 1)},
        adapters.TRAINING: json.loads((folder / adapters.TRAINING).read_text(encoding="utf8")),
        REGISTRY.name: tomllib.loads(registered),
        BACKBONES.name: backbones.registry(),
        **{path.name: json.loads(path.read_text(encoding="utf8")) for path in text_of_base},
    }


def test_something_is_shipped() -> None:
    assert SHIPPED == suite.shipped() != []


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda f: f"{f.parent.name}-{f.name}")
def test_an_adapter_is_small_safe_and_documented(folder: Path) -> None:
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 3_000_000
    assert {path.suffix for path in folder.iterdir()} == {".json", ".safetensors", ".md"}
    adapter = adapters.read(folder)
    assert adapter.info.temperature != 1
    written = (folder / adapters.CARD).read_text(encoding="utf8")
    results = suite.results_of(folder)
    assert results[0].name == f"{adapter.info.dataset}-dev.json"
    material = gather(folder, results, suite.LEDGER, suite.SOURCE)
    assert written == cards.card(material)
    assert headings_without_text(written) == [] == unfounded(written, known_files(folder))


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda f: f"{f.parent.name}-{f.name}")
def test_every_look_at_test_is_in_the_ledger(folder: Path) -> None:
    lines = suite.LEDGER.read_text(encoding="utf8").splitlines()
    recorded = [(one["adapter"], one["raw_f1"]) for one in map(json.loads, lines)]
    for path in suite.results_of(folder)[1:]:
        result = json.loads(path.read_text(encoding="utf8"))
        assert (result["adapter"], pytest.approx(result["raw"]["f1"], abs=0.005)) in recorded


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda f: f"{f.parent.name}-{f.name}")
def test_plain_peft_computes_the_same(folder: Path, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForTokenClassification

    predictor = Predictor.load(folder)
    backbone = backbones.find(predictor.adapter.info.backbone)
    export_peft(predictor.adapter, tmp_path / "peft")
    labels = json.loads((tmp_path / "peft" / "labels.json").read_text(encoding="utf8"))
    base = AutoModelForTokenClassification.from_pretrained(str(backbone), **labels)
    plain = PeftModel.from_pretrained(base, str(tmp_path / "peft")).eval()
    ids = np.array([[101, 17446, 2099, 4456, 2003, 4319, 1012, 102]])
    with torch.no_grad():
        expected = plain(input_ids=torch.from_numpy(ids))[0].numpy()
    found = predictor.backbone.logits(predictor.adapter, ids, np.ones_like(ids))
    assert np.abs(expected).max() > 1
    np.testing.assert_allclose(
        found / predictor.adapter.info.temperature, expected, atol=2e-3, rtol=1e-3
    )


def test_readme_shows_the_recorded_figures() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf8")
    assert suite.written(readme) == readme


def test_readme_shows_the_measured_speed() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf8")
    assert speed.written(readme) == readme


def test_readme_says_how_large_adapters_and_backbones_are() -> None:
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf8").split())
    sizes = [sum(f.stat().st_size for f in folder.glob("*.safetensors")) for folder in SHIPPED]
    assert f"in the package, {min(sizes) / 1e6:.1f} to {max(sizes) / 1e6:.1f} MB each" in readme
    found = json.loads((ROOT / "benchmarks" / "results" / "true_size.json").read_text())
    small, *large = [row["encoder"] for row in found["rows"]]
    times = f"{min(large) / small:.0f} to {max(large) / small:.0f} times as large"
    assert readme.count(times) == 2


def test_the_report_is_of_the_recorded_figures() -> None:
    folder = suite.SUITE / "report"
    found = collect(suite.SUITE, folder, suite.LEDGER)
    assert json.loads((folder / "report.json").read_text(encoding="utf8")) == json.loads(
        json.dumps(found)
    )


def test_readme_and_card_show_the_perplexity_of_the_shipped_pretraining() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf8")
    for folder in pretraining.SHIPPED.iterdir():
        adapter = pretraining.read(folder)
        path = ROOT / "benchmarks" / "results" / f"perplexity-{adapter.backbone.id}.json"
        result = json.loads(path.read_text(encoding="utf8"))
        assert result["adapter"] == adapter.sha256
        row = perplexity_table([result]).splitlines()[2]
        assert row in readme
        record = json.loads((folder / pretraining.RECORD).read_text(encoding="utf8"))
        assert (folder / "README.md").read_text(encoding="utf8") == card(adapter, record, [result])


def test_readme_shows_the_ablation() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf8")
    report = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf8")
    path = ROOT / "benchmarks" / "results" / "ablation-minilm.json"
    result = json.loads(path.read_text(encoding="utf8"))
    assert ablation.f1_table(result) in readme
    assert ablation.f1_table(result) in report and ablation.cost_table(result) in report
    shipped = {pretraining.read(folder).sha256 for folder in pretraining.SHIPPED.iterdir()}
    assert result["pretraining_sha256"] in shipped


def test_the_readme_example_finds_diseases(nlp: spacy.language.Language) -> None:
    found = {" ".join(ent.text.split()) for ent in nlp(TEXT).ents}
    assert {"Fabry disease", "multiple sclerosis", "breast or ovarian cancer"} <= found
    assert all(0 <= ent._.openmed_score <= 1 for ent in nlp(TEXT).ents)


def test_show_command_prints_them() -> None:
    command = [sys.executable, "-m", "spacy", "openmed", "show", str(ROOT / "assets/abstract.txt")]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "Fabry disease" in output and "DISEASE" in output


def test_entities_do_not_depend_on_the_tokenizer(nlp: spacy.language.Language) -> None:
    other = spacy.blank("en")
    other.tokenizer = Tokenizer(other.vocab)  # splits on blanks only
    other.add_pipe("openmed_ner", config={"dataset": "ncbi"})
    text = TEXT + " (Fabry disease)-associated stroke; ataxia-telangiectasia/breast-cancer."
    assert len(nlp.make_doc(text)) != len(other.make_doc(text))
    assert spans(nlp(text)) == spans(other(text)) != []


@pytest.mark.parametrize(
    "prefix", ["x" * 150, "y" * 20_000, "ab-" * 300, "e\u0301" * 120, "\u200b"]
)
def test_a_mention_after_a_long_token_is_found(nlp: spacy.language.Language, prefix: str) -> None:
    doc = nlp(f"{prefix} The patient was diagnosed with cystic fibrosis in infancy.")
    assert "cystic fibrosis" in {ent.text for ent in doc.ents}


@pytest.mark.parametrize(
    "text", ["", " \n\t ", "👩🏽‍⚕️ 🧬", "e\u0301\u0301", "\x00\x01", "\r\n" * 50]
)
def test_odd_texts_do_no_harm(nlp: spacy.language.Language, text: str) -> None:
    assert nlp(text).text == text


def test_a_long_text_is_read_to_its_end(nlp: spacy.language.Language) -> None:
    doc = nlp(TEXT * 100)
    starts = {ent.start_char for ent in doc.ents if ent.text == "Fabry disease"}
    mentions = [match.start() for match in re.finditer("Fabry disease", doc.text)]
    assert len(mentions) == 200
    assert starts == set(mentions)


def test_threads_and_processes_agree(nlp: spacy.language.Language) -> None:
    from concurrent.futures import ThreadPoolExecutor

    sentences = [s.strip() for s in TEXT.replace("\n", " ").split(".") if s.strip()] * 5
    expected = [spans(nlp(s)) for s in sentences]
    assert any(expected)
    with ThreadPoolExecutor(4) as pool:
        assert [spans(doc) for doc in pool.map(nlp, sentences)] == expected
    parallel = nlp.pipe(sentences, n_process=2, batch_size=10)
    assert [spans(doc) for doc in parallel] == expected


@pytest.mark.parametrize("dataset", ["ncbi", "bc5cdr-chem", "bc5cdr-disease", "s800"])
def test_every_gold_mention_can_be_put_on_tokens(corpora_dir: Path, dataset: str) -> None:
    nlp = spacy.blank("en")
    for document in jsonl.read(corpus_file(corpora_dir, dataset, "test", ".jsonl")):
        gold = outermost(document.entities)
        placed = align(nlp.make_doc(document.text), gold, "split")
        assert [(s.start_char, s.end_char) for s, _ in placed] == [(e.start, e.end) for e in gold]


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda f: f"{f.parent.name}-{f.name}")
def test_figures_of_documents_are_reproduced(corpora_dir: Path, folder: Path) -> None:
    """On the first texts of dev, document by document; all of test takes a quarter of an hour."""
    (recorded, *_) = suite.results_of(folder)
    result = json.loads(recorded.read_text(encoding="utf8"))
    wanted = result["raw"]["documents"]
    documents = read_split(corpora_dir, result["dataset"], "dev")
    assert len(documents) == len(wanted)
    some = 300 if len(documents) > 600 else 30
    predict = Predictor.load(folder)
    flatten = registry.flatten(result["dataset"])
    gold = [flatten(document.entities) for document in documents[:some]]
    found = predict([document.text for document in documents[:some]], result["edges"])
    counts = [[s.micro.tp, s.micro.fp, s.micro.fn] for s in score_documents(gold, found)]
    # Another processor may round a logit otherwise, and decide otherwise where two are equal.
    different = np.abs(np.array(counts) - np.array(wanted[:some])).sum()
    assert different <= 0.01 * np.sum(wanted[:some])


def test_figures_on_test_are_reproduced(corpora_dir: Path) -> None:
    (folder,) = (folder for folder in SHIPPED if folder.parent.name == "ncbi")
    recorded = json.loads(suite.results_of(folder)[1].read_text(encoding="utf8"))
    predict = partial(Predictor.load(folder), edges=recorded["edges"])
    found = evaluate(predict, "ncbi", "test", corpora_dir)
    for kind in ("raw", "conll"):
        assert found[kind]["f1"] == pytest.approx(recorded[kind]["f1"], abs=0.1)
