"""The component: annotation, long and odd texts, streams, and training."""

import copy
import dataclasses
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import spacy
import torch
from spacy.tokenizer import Tokenizer
from spacy.tokens import Doc, Span
from spacy.training import Example
from spacy.util import ignore_error
from thinc.api import Adam

from spacy_openmed import adapters, backbones, recent, sources
from spacy_openmed.adapters import AdapterInfo
from spacy_openmed.alignment import split_tokens
from spacy_openmed.corpora.documents import Document
from spacy_openmed.entities import Entity
from spacy_openmed.errors import OpenMedError
from spacy_openmed.inference import SharedBackbone
from spacy_openmed.network import TokenTagger, tagging_loss, to_adapter
from spacy_openmed.predictor import Predictor
from spacy_openmed.scorer import offset_score
from spacy_openmed.tagger import LINEAR_LAYERS, Tagged
from spacy_openmed.training.lora import wrap
from spacy_openmed.training.samples import collate, samples
from spacy_openmed.training.settings import LoraSettings
from spacy_openmed.windows import encode, encode_batch

TEXT = (
    "Patients with hereditary breast and ovarian cancer carry BRCA1 mutations. CYP)-induced "
    "nephrotoxicity, leukemia\nand p53-deficient tumors of mice were treated with IL-2 therapy."
)
# No randomness and exact arithmetic, so that results can be compared.
EXACT = {
    "@architectures": "spacy-openmed.PeftTokenTagger.v1",
    "rank": 8,
    "alpha": 16,
    "lora_dropout": 0.0,
    "dropout": 0.0,
    "precision": "fp32",
}
GOLD = [
    ("The patient was treated for ovarian cancer in mice.", [(28, 42, "DISEASE")]),
    ("Leukemia is induced by expression of the BRCA1 gene.", [(0, 8, "DISEASE")]),
]


def make_adapter(
    backbone: Path, folder: Path, dataset: str = "ncbi", types=("DISEASE",), seed: int = 0
) -> Path:
    """An adapter folder with random weights, which find something in most texts."""
    info = AdapterInfo(dataset, tuple(types), backbones.reference(str(backbone)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        lora = LoraSettings(rank=4, alpha=8, target_modules=LINEAR_LAYERS)
        tagger = TokenTagger(wrap(backbones.load_encoder(backbone), lora), len(info.labels))
        for name, parameter in tagger.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.3)
        torch.nn.init.normal_(tagger.head.weight)
        # Logits around zero, so that labels differ from word to word.
        encoding = encode(TEXT, backbones.load_tokenizer(backbone))
        ids = torch.from_numpy(encoding.ids.astype("int64"))[None]
        with torch.no_grad():
            logits = tagger.eval()(ids, torch.ones_like(ids))[0]
            tagger.head.bias -= logits.mean(dim=0)
    adapters.write(to_adapter(tagger, info), folder)
    return folder


def make_nlp(**config):
    # Exact, so that figures can be compared; half precision has a test of its own.
    nlp = spacy.blank("en")
    return nlp, nlp.add_pipe("openmed_ner", config={"precision": "fp32", **config})


def offsets(spans):
    return [(span.start_char, span.end_char, span.label_) for span in spans]


def annotations(doc):
    """All that the component writes, in comparable form."""
    return (
        [token.text for token in doc],
        [(*e, s._.openmed_score) for e, s in zip(offsets(doc.ents), doc.ents, strict=True)],
        {key: (offsets(g), list(g.attrs["scores"])) for key, g in doc.spans.items()},
    )


def texts_like(text, count):
    """Different texts of the same words."""
    words = text.split()
    return [" ".join(random.Random(i).sample(words, 5 + i % 15)) for i in range(count)]


@pytest.fixture(scope="module")
def adapter(tiny_backbone, tmp_path_factory):
    return make_adapter(tiny_backbone, tmp_path_factory.mktemp("one") / "adapter")


@pytest.fixture(scope="module")
def other(tiny_backbone, tmp_path_factory):
    folder = tmp_path_factory.mktemp("two") / "adapter"
    return make_adapter(tiny_backbone, folder, "bc5cdr-chem", ("GENE", "CHEMICAL"), seed=1)


@pytest.fixture()
def oracle(monkeypatch, tiny_backbone):
    """Instead of the network: every "cancer" is an entity, and nothing else is."""
    cancer = backbones.load_tokenizer(tiny_backbone).token_to_id("cancer")

    def logits(self, adapter, ids, mask):
        scores = np.zeros((*ids.shape, len(adapter.info.labels)), dtype=np.float32)
        scores[..., 0] = np.where(ids == cancer, 0, 9)
        scores[..., 1] = np.where(ids == cancer, 9, 0)
        return scores

    monkeypatch.setattr(SharedBackbone, "logits", logits)


# Annotation. Entities are given, no network runs.


def annotate(text, entities, before=(), **config):
    nlp, pipe = make_nlp(**config)
    doc = nlp.make_doc(text)
    if before:
        doc.set_ents([doc.char_span(*span) for span in before], default="outside")
    pipe.set_annotations([doc], [entities])
    return doc


GIVEN = [Entity(0, 8, "DISEASE", 0.75), Entity(10, 13, "GENE", 0.5)]


def test_annotate_ents():
    doc = annotate("Leukemia, p53", GIVEN)
    assert offsets(doc.ents) == [(0, 8, "DISEASE"), (10, 13, "GENE")]
    assert [e._.openmed_score for e in doc.ents] == [0.75, 0.5]
    assert not doc.spans
    assert [t.ent_iob_ for t in doc] == ["B", "O", "B"]


def test_annotate_spans():
    doc = annotate("Leukemia, p53", GIVEN, annotate="spans", spans_key="found")
    assert not doc.ents
    group = doc.spans["found"]
    assert offsets(group) == [(0, 8, "DISEASE"), (10, 13, "GENE")]
    assert group.attrs["scores"].tolist() == [0.75, 0.5]
    assert [s._.openmed_score for s in group] == [0.75, 0.5]


def test_spans_say_who_found_them_also_when_tokens_are_split_later():
    found = [Entity(0, 8, "DISEASE", 0.75, "ncbi"), Entity(10, 13, "GENE", 0.5)]
    doc = annotate("Leukemia, p53-positive", found, annotate="both")
    split_tokens(doc, [4])
    for spans in (doc.ents, doc.spans["openmed"]):
        assert [span.id_ for span in spans] == ["ncbi", ""]


def test_annotate_both():
    doc = annotate("Leukemia, p53", GIVEN, annotate="both")
    assert offsets(doc.ents) == offsets(doc.spans["openmed"]) == offsets(doc.spans["openmed"])
    assert [s._.openmed_score for s in doc.spans["openmed"]] == [0.75, 0.5]
    assert [s._.openmed_score for s in doc.ents] == [0.75, 0.5]


def test_nothing_found_means_outside_and_an_empty_group():
    doc = annotate("Leukemia", [], annotate="both")
    assert doc.has_annotation("ENT_IOB") and not doc.ents
    assert len(doc.spans["openmed"]) == 0 and len(doc.spans["openmed"].attrs["scores"]) == 0


def test_conflicts_are_resolved_by_score_then_length():
    text = "hereditary breast cancer and leukemia"
    scored = [Entity(0, 17, "A", 0.4), Entity(11, 24, "B", 0.6)]
    assert offsets(annotate(text, scored).ents) == [(11, 24, "B")]
    equal = [Entity(18, 24, "A", 0.5), Entity(0, 24, "B", 0.5), Entity(29, 37, "C", 0.1)]
    doc = annotate(text, equal, annotate="both")
    assert offsets(doc.ents) == [(0, 24, "B"), (29, 37, "C")]
    assert len(doc.spans["openmed"]) == 3


def test_score_of_a_range_with_two_labels_is_that_of_the_entity():
    doc = annotate("p53", [Entity(0, 3, "A", 0.75), Entity(0, 3, "B", 0.25)], annotate="both")
    assert offsets(doc.ents) == [(0, 3, "A")]
    assert doc.ents[0]._.openmed_score == 0.75
    assert doc.spans["openmed"].attrs["scores"].tolist() == [0.75, 0.25]


def test_entities_of_others_stay_unless_overwritten():
    text = "hereditary breast cancer"
    new = [Entity(11, 24, "DISEASE", 0.99)]
    kept = annotate(text, new, before=[(0, 17, "SITE")])
    assert offsets(kept.ents) == [(0, 17, "SITE")]
    replaced = annotate(text, new, before=[(0, 17, "SITE")], overwrite=True)
    assert offsets(replaced.ents) == [(11, 24, "DISEASE")]
    beside = annotate(text, new, before=[(0, 10, "SITE")], overwrite=True)
    assert offsets(beside.ents) == [(0, 10, "SITE"), (11, 24, "DISEASE")]


def test_an_entity_that_lost_leaves_no_score_on_the_winner():
    doc = annotate("leukemia", [Entity(0, 8, "DISEASE", 0.9)], before=[(0, 8, "RULE")])
    assert offsets(doc.ents) == [(0, 8, "RULE")]
    assert doc.ents[0]._.openmed_score is None


def test_entity_ruler_before(adapter):
    nlp, _ = make_nlp(adapter=str(adapter))
    ruler = nlp.add_pipe("entity_ruler", before="openmed_ner")
    ruler.add_patterns([{"label": "DRUG", "pattern": "IL-2", "id": "il2"}])
    doc = nlp(TEXT)
    (drug,) = [e for e in doc.ents if e.label_ == "DRUG"]
    assert drug.ent_id_ == "il2" and drug.text == "IL-2"
    assert any(e.label_ == "DISEASE" for e in doc.ents)


@pytest.mark.parametrize(
    ("mode", "found", "tokens"),
    [
        ("split", ["CYP", "leukemia"], 5),
        ("expand", ["CYP)-induced", "leukemia"], 2),
        ("contract", ["leukemia"], 2),
        ("strict", ["leukemia"], 2),
    ],
)
def test_alignment_modes(mode, found, tokens):
    nlp, pipe = make_nlp(alignment=mode)
    nlp.tokenizer = Tokenizer(nlp.vocab)
    doc = nlp.make_doc("CYP)-induced leukemia")
    pipe.set_annotations([doc], [[Entity(0, 3, "GENE", 0.5), Entity(13, 21, "DISEASE", 0.5)]])
    assert [e.text for e in doc.ents] == found
    assert len(doc) == (3 if mode == "split" else tokens)


def test_second_component_adds_to_the_first_ones_group():
    doc = annotate("CYP)-induced leukemia", [Entity(13, 21, "DISEASE", 0.75)], annotate="both")
    doc.spans["mine"] = [doc.char_span(13, 21, "NOTE")]
    _, second = make_nlp(annotate="both")
    new = [Entity(0, 2, "GENE", 0.5), Entity(13, 21, "SYMPTOM", 0.25)]
    second.set_annotations([doc], [new])
    group = doc.spans["openmed"]
    assert offsets(group) == [(13, 21, "DISEASE"), (0, 2, "GENE"), (13, 21, "SYMPTOM")]
    assert group.attrs["scores"].tolist() == [0.75, 0.5, 0.25]
    assert offsets(doc.ents) == [(0, 2, "GENE"), (13, 21, "DISEASE")]
    assert [e._.openmed_score for e in doc.ents] == [0.5, 0.75]
    assert offsets(doc.spans["mine"]) == [(13, 21, "NOTE")]


def test_scores_are_probabilities_in_every_mode(adapter):
    for mode in ("ents", "spans", "both"):
        nlp, _ = make_nlp(adapter=str(adapter), annotate=mode)
        doc = nlp(TEXT)
        groups = {"ents": [doc.ents], "spans": [doc.spans.get("openmed", [])]}
        groups["both"] = [*groups["ents"], *groups["spans"]]
        for spans in groups[mode]:
            assert len(spans) > 2
            assert all(0.0 <= span._.openmed_score <= 1.0 for span in spans)


def test_threshold(adapter):
    nlp, pipe = make_nlp(adapter=str(adapter))
    scores = sorted(e._.openmed_score for e in nlp(TEXT).ents)
    limit = scores[len(scores) // 2]
    wanted = [s for s in scores if s >= limit]
    assert 0 < len(wanted) < len(scores)
    for threshold in (limit, {"DISEASE": limit}):
        pipe.cfg["threshold"] = threshold
        assert sorted(e._.openmed_score for e in nlp(TEXT).ents) == wanted
    pipe.cfg["threshold"] = {"GENE": 1.0}
    assert len(nlp(TEXT).ents) == len(scores)


def test_consistency(adapter, tmp_path):
    """The config's score, else the adapter's; "off" is neither."""
    text = f"{TEXT}\n{TEXT}"
    nlp, pipe = make_nlp(adapter=str(adapter))

    def found(**cfg):
        pipe.cfg.update(cfg)
        return pipe.predict([nlp.make_doc(text)])[0]

    plain, carried = found(), found(consistency=0.0)
    assert set(plain) < set(carried)
    assert found(consistency="off") == plain
    own = adapters.read(adapter)
    own = dataclasses.replace(own, info=dataclasses.replace(own.info, consistency=0.0))
    adapters.write(own, tmp_path / "carrying")
    nlp, pipe = make_nlp(adapter=str(tmp_path / "carrying"))
    assert found() == carried
    assert found(consistency="off") == plain
    alone = Predictor.load(tmp_path / "carrying")([text])[0]
    assert [entity._replace(source="ncbi") for entity in alone] == carried


def test_training_lets_go_of_what_was_fitted_to_other_weights(adapter, tmp_path):
    own = adapters.read(adapter)
    info = dataclasses.replace(own.info, consistency=0.0, temperature=2.0)
    adapters.write(dataclasses.replace(own, info=info), tmp_path / "fitted")
    nlp, pipe = make_nlp(adapter=str(tmp_path / "fitted"), model=EXACT)
    doc = nlp.make_doc(TEXT)
    pipe.predict([doc])
    (head,) = pipe.shim.heads()
    assert (head.consistency, head.temperature) == (0.0, 2.0)
    pipe.update([Example.from_dict(doc, {"entities": [(14, 50, "DISEASE")]})], sgd=Adam(0.001))
    (head,) = pipe.shim.heads()
    assert (head.consistency, head.temperature) == (None, 1.0)
    before = [e[:3] for e in pipe.predict([doc])[0]]
    pipe.from_bytes(pipe.to_bytes())
    assert [e[:3] for e in pipe.predict([doc])[0]] == before


def test_weights_are_loaded_once(adapter, monkeypatch):
    """A stream encodes ahead of the network, and that must not load it in another precision."""
    loads = []
    real = sources.shared_backbone

    def counted(*given):
        loads.append(given[2:])
        return real(*given)

    monkeypatch.setattr(sources, "shared_backbone", counted)
    nlp, _ = make_nlp(adapter=str(adapter), precision="int8")
    assert len(list(nlp.pipe([TEXT, TEXT]))) == 2
    assert loads == [("int8", False)]


def test_labels_are_renamed(adapter):
    nlp, pipe = make_nlp(
        adapter=str(adapter), labels={"DISEASE": "Illness"}, threshold={"Illness": 0.01}
    )
    plain, _ = make_nlp(adapter=str(adapter), threshold=0.01)
    expected = [(start, end, "Illness") for start, end, _ in offsets(plain(TEXT).ents)]
    assert offsets(nlp(TEXT).ents) == expected != []
    assert pipe.labels == ("Illness",) and nlp.pipe_labels["openmed_ner"] == ["Illness"]


def test_changes_of_cfg_count(adapter):
    nlp, pipe = make_nlp(adapter=str(adapter))
    long = TEXT * 4
    whole = offsets(nlp(long).ents)
    pipe.cfg.update(window=8, overlap=2)
    assert offsets(nlp(long).ents) != whole


def test_texts_are_cut_as_for_training(adapter, other, tmp_path):
    """An adapter's figures are of its own windows, which need not be those of another."""
    read = adapters.read(adapter)
    info = dataclasses.replace(read.info, window=24, overlap=6)
    adapters.write(dataclasses.replace(read, info=info), tmp_path / "short")
    long = TEXT * 4
    expected = Predictor.load(tmp_path / "short")([long])[0]
    assert expected != Predictor.load(adapter)([long])[0]
    nlp, pipe = make_nlp(adapter=str(tmp_path / "short"))
    assert [(e.start_char, e.end_char) for e in nlp(long).ents] == [e[:2] for e in expected]
    # The config may ask for others.
    nlp, _ = make_nlp(adapter=str(tmp_path / "short"), window=256, overlap=50)
    plain, _ = make_nlp(adapter=str(adapter))
    assert offsets(nlp(long).ents) == offsets(plain(long).ents)
    # Each of several adapters has its own.
    pipe.cfg["annotate"] = "spans"
    pipe.shim.set_adapters([adapters.read(tmp_path / "short"), adapters.read(other)])
    both = sorted(expected + Predictor.load(other)([long])[0])
    doc = pipe(spacy.blank("en").make_doc(long))
    found = sorted((s.start_char, s.end_char) for s in doc.spans["openmed"])
    assert found == [e[:2] for e in both]


# Several adapters


def test_two_components_share_a_backbone_and_leave_each_other_alone(adapter, other):
    nlp, first = make_nlp(adapter=str(adapter), annotate="both", spans_key="one")
    config = {"adapter": str(other), "annotate": "both", "spans_key": "two"}
    second = nlp.add_pipe("openmed_ner", name="second", config={"precision": "fp32", **config})
    # A tokenizer that splits at blanks only: both components must split tokens.
    nlp.tokenizer = Tokenizer(nlp.vocab)
    doc = nlp(TEXT)
    assert first.shim.backbone is second.shim.backbone
    assert len(doc) > len(nlp.make_doc(TEXT))
    for folder, key in ((adapter, "one"), (other, "two")):
        alone, _ = make_nlp(adapter=str(folder), annotate="both", spans_key=key)
        single = alone(TEXT)
        assert offsets(doc.spans[key]) == offsets(single.spans[key]) != []
        scores = single.spans[key].attrs["scores"].tolist()
        assert doc.spans[key].attrs["scores"].tolist() == pytest.approx(scores, abs=1e-5)
        if key == "one":
            assert set(offsets(single.ents)) <= set(offsets(doc.ents))
    assert {e.label_ for e in doc.ents} - {"DISEASE"}


def test_list_of_datasets_merges(adapter, other, monkeypatch):
    folders = {"ncbi": adapter, "bc5cdr-chem": other}
    monkeypatch.setattr(adapters, "find", lambda dataset, backbone=None: folders[dataset])
    nlp, pipe = make_nlp(dataset=["ncbi", "bc5cdr-chem"], annotate="both")
    doc = nlp(TEXT)
    assert pipe.labels == ("DISEASE", "GENE", "CHEMICAL")
    singles = []
    for dataset in folders:
        single, _ = make_nlp(dataset=dataset, annotate="spans")
        found = single(TEXT)
        singles += offsets(found.spans["openmed"])
    group = doc.spans["openmed"]
    assert sorted(offsets(group)) == sorted(singles)
    # The ents are what remains of all when the likeliest goes first.
    ranked = sorted(
        zip(group, group.attrs["scores"], strict=True),
        key=lambda item: (-item[1], item[0].start_char - item[0].end_char),
    )
    free, expected = set(range(len(TEXT))), []
    for span, _ in ranked:
        if free.issuperset(range(span.start_char, span.end_char)):
            free.difference_update(range(span.start_char, span.end_char))
            expected.append(span)
    assert sorted(offsets(expected)) == offsets(doc.ents)
    assert len(expected) < len(group)


@pytest.mark.parametrize("keep", [False, True])
def test_merged_weights_are_kept_for_whom_asks(adapter, other, monkeypatch, tmp_path, keep):
    folders = {"ncbi": adapter, "bc5cdr-chem": other}
    monkeypatch.setattr(adapters, "find", lambda dataset, backbone=None: folders[dataset])
    nlp, pipe = make_nlp(dataset=list(folders), keep_merged=keep)
    plain, _ = make_nlp(dataset=list(folders))
    found = [offsets(nlp(TEXT).ents) for _ in range(3)]
    assert found == [offsets(plain(TEXT).ents)] * 3
    backbone = pipe.shim.backbone
    assert len(backbone._kept) == (2 if keep else 0)
    pipe.cfg["keep_merged"] = not keep
    assert offsets(nlp(TEXT).ents) == found[0]
    assert pipe.shim.backbone is backbone
    assert len(backbone._kept) == (0 if keep else 2)
    pipe.cfg["keep_merged"] = keep
    nlp.to_disk(tmp_path / "saved")
    again = spacy.load(tmp_path / "saved")
    assert offsets(again(TEXT).ents) == found[0]
    assert again.get_pipe("openmed_ner").cfg["keep_merged"] is keep


def test_a_list_of_datasets_cannot_be_trained(adapter, other, monkeypatch):
    folders = {"ncbi": adapter, "bc5cdr-chem": other}
    monkeypatch.setattr(adapters, "find", lambda dataset, backbone=None: folders[dataset])
    nlp, _ = make_nlp(dataset=["ncbi", "bc5cdr-chem"])
    with pytest.raises(OpenMedError, match="only one can be trained"):
        nlp.initialize(lambda: examples(nlp))


# Odd and long texts


@pytest.mark.parametrize("text", ["", " ", "\n\t  \n", " ", "\x00", "…", "e\u0301"])
def test_texts_without_content(adapter, text):
    nlp, _ = make_nlp(adapter=str(adapter), annotate="both")
    doc = nlp(text)
    assert doc.text == text
    assert all(span.text.strip() for span in doc.ents)


ODD = [
    "Naïve 👩‍👩‍👧 cancer 🧬🧬 cancer of cafe\u0301 cancer\u0301 and αβ-cancer.",
    "cancer \u200b\u202f cancer\r\ncancer\x0ccancer",
    "a" * 150 + " cancer",
    "a" * 150 + "-cancer",
    "ab" * 10_000 + " then cancer" + " of the" * 200 + " cancer",
]


@pytest.mark.parametrize("text", ODD)
@pytest.mark.parametrize("blanks_only", [False, True])
def test_mentions_in_odd_texts_are_found(adapter, oracle, text, blanks_only):
    nlp, _ = make_nlp(adapter=str(adapter))
    if blanks_only:
        nlp.tokenizer = Tokenizer(nlp.vocab)
    doc = nlp(text)
    assert doc.text == text
    # "cancer" with a combining mark is another wordpiece or the whole grapheme.
    found = [e.text.rstrip("\u0301") for e in doc.ents]
    assert found == ["cancer"] * text.count("cancer")
    starts = [i for i in range(len(text)) if text.startswith("cancer", i)]
    assert [e.start_char for e in doc.ents] == starts


def test_long_text_has_no_gap(adapter, oracle):
    text = "The cancer of a patient, in the human. " * 5200
    assert len(text) > 200_000
    nlp, _ = make_nlp(adapter=str(adapter))
    doc = nlp(text)
    assert len(doc.ents) == 5200
    assert {e.text for e in doc.ents} == {"cancer"}


def test_split_does_not_depend_on_the_tokenizer(adapter):
    texts = [TEXT, *ODD[:2], "(CYP)-induced/ovarian-cancer;p53+IL-2 mice"]
    english, _ = make_nlp(adapter=str(adapter))
    blanks, pipe = make_nlp(adapter=str(adapter))
    blanks.tokenizer = Tokenizer(blanks.vocab)
    for text in texts:
        doc = blanks(text)
        assert offsets(english(text).ents) == offsets(doc.ents)
        predicted = [(e.start, e.end, e.label) for e in pipe.predict([doc])[0]]
        assert offsets(doc.ents) == predicted
        assert "".join(t.text_with_ws for t in doc) == text


# Streams


def poison(monkeypatch, pipe):
    tag = pipe._tag

    def fail(docs):
        if any("poison" in doc.text for doc in docs):
            raise RuntimeError("poisoned")
        return tag(docs)

    monkeypatch.setattr(pipe, "_tag", fail)


def test_a_failing_doc_costs_no_other(adapter, monkeypatch):
    nlp, pipe = make_nlp(adapter=str(adapter))
    good = texts_like(TEXT, 7)
    expected = [(doc.text, offsets(doc.ents)) for doc in nlp.pipe(good)]
    poison(monkeypatch, pipe)
    seen = []
    nlp.set_error_handler(lambda name, proc, docs, error: seen.append((name, docs, str(error))))
    for size in (1, 3, 100):
        seen.clear()
        stream = [*good[:4], "poison", *good[4:]]
        docs = list(nlp.pipe(stream, batch_size=size))
        assert [(doc.text, offsets(doc.ents)) for doc in docs] == expected
        ((name, failed, message),) = seen
        assert name == "openmed_ner" and message == "poisoned"
        assert [doc.text for doc in failed] == ["poison"]


def test_a_doc_that_fails_when_annotated_costs_no_other(adapter, monkeypatch):
    nlp, pipe = make_nlp(adapter=str(adapter))
    write = pipe.set_annotations

    def fail(docs, scores):
        if any("poison" in doc.text for doc in docs):
            raise RuntimeError("poisoned")
        write(docs, scores)

    monkeypatch.setattr(pipe, "set_annotations", fail)
    nlp.set_error_handler(ignore_error)
    docs = list(nlp.pipe([TEXT, "poison", "breast cancer"]))
    assert [doc.text for doc in docs] == [TEXT, "breast cancer"]
    assert all(doc.has_annotation("ENT_IOB") for doc in docs)


def test_by_default_a_failing_doc_raises(adapter, monkeypatch):
    nlp, pipe = make_nlp(adapter=str(adapter))
    poison(monkeypatch, pipe)
    stream = nlp.pipe(["breast cancer", "poison", "leukemia"], batch_size=3)
    assert next(stream).text == "breast cancer"
    with pytest.raises(RuntimeError, match="poisoned"):
        next(stream)
    with pytest.raises(RuntimeError, match="poisoned"):
        nlp("poison")


def test_batches_threads_and_processes_agree(adapter, other):
    nlp, _ = make_nlp(adapter=str(adapter), annotate="both", spans_key="one")
    config = {"adapter": str(other), "annotate": "both", "spans_key": "two"}
    nlp.add_pipe("openmed_ner", name="second", config={"precision": "fp32", **config})
    texts = texts_like(TEXT, 200)

    def found(doc):
        words, ents, spans = annotations(doc)
        return words, [e[:3] for e in ents], {key: group[0] for key, group in spans.items()}

    singly = [nlp(text) for text in texts]
    expected = [found(doc) for doc in singly]
    assert sum(len(doc.ents) for doc in singly) > 200
    with ThreadPoolExecutor(4) as pool:
        threaded = [found(doc) for doc in pool.map(nlp, texts)]
    assert sum(a == b for a, b in zip(threaded, expected, strict=True)) == 200
    for size in (7, 1000):
        docs = list(nlp.pipe(texts, batch_size=size))
        assert [found(doc) for doc in docs] == expected
        scores = [doc.spans["two"].attrs["scores"].tolist() for doc in docs]
        for doc, row in zip(singly, scores, strict=True):
            assert doc.spans["two"].attrs["scores"].tolist() == pytest.approx(row, abs=1e-4)
    pairs = list(nlp.pipe(((text, i) for i, text in enumerate(texts)), as_tuples=True))
    assert [i for _, i in pairs] == list(range(200))
    assert [found(doc) for doc, _ in pairs] == expected


@pytest.mark.timeout(300)
@pytest.mark.filterwarnings("ignore:.*fork.*")
def test_two_processes(adapter):
    nlp, _ = make_nlp(adapter=str(adapter), annotate="both")
    texts = texts_like(TEXT, 20)
    expected = [annotations(nlp(text)) for text in texts]
    torch.rand(300, 300) @ torch.rand(300, 300)  # torch's threads are warm
    found = [annotations(doc) for doc in nlp.pipe(texts, n_process=2, batch_size=5)]
    for (words, ents, spans), (words2, ents2, spans2) in zip(found, expected, strict=True):
        assert words == words2 and [e[:3] for e in ents] == [e[:3] for e in ents2]
        assert [e[3] for e in ents] == pytest.approx([e[3] for e in ents2], abs=1e-4)
        assert spans["openmed"][0] == spans2["openmed"][0]


# Training


def examples(nlp, gold=GOLD):
    return [
        Example.from_dict(nlp.make_doc(text), {"entities": entities}) for text, entities in gold
    ]


def make_trainable(backbone, gold=GOLD, **config):
    nlp, pipe = make_nlp(backbone=str(backbone), model=EXACT, **config)
    torch.manual_seed(3)
    nlp.initialize(lambda: examples(nlp, gold))
    return nlp, pipe


def base_weights(encoder):
    return {
        name.replace("base_model.model.", "").replace(".base_layer.", "."): parameter.detach()
        for name, parameter in encoder.named_parameters()
        if "lora_" not in name
    }


def logits_of(pipe, text=TEXT):
    pipe.predict([])  # loads what there is to load
    return pipe.model.predict([Doc(pipe.vocab, words=text.split())])[0].logits[0]


def assert_same_weights(one, two):
    assert one.lora.keys() == two.lora.keys()
    assert all(torch.equal(one.lora[name], two.lora[name]) for name in one.lora)
    assert torch.equal(one.weight, two.weight) and torch.equal(one.bias, two.bias)


def test_learns_and_leaves_the_backbone_alone(tiny_backbone, adapter):
    bystander, _ = make_nlp(adapter=str(adapter))
    before = annotations(bystander(TEXT))
    nlp, pipe = make_trainable(tiny_backbone)
    assert pipe.labels == ("DISEASE",) and pipe.label_data == ["DISEASE"]
    start = pipe.shim.adapter
    optimizer = Adam(0.01)
    losses = [nlp.update(examples(nlp), sgd=optimizer)["openmed_ner"] for _ in range(40)]
    assert losses[-1] < 0.6 * losses[0]
    scores = nlp.evaluate(examples(nlp))
    assert scores["ents_f"] == 1.0 and scores["ents_per_type"]["DISEASE"]["r"] == 1.0
    assert offsets(nlp(GOLD[0][0]).ents) == GOLD[0][1]
    assert any(
        not torch.equal(start.lora[name], tensor)
        for name, tensor in pipe.shim.adapter.lora.items()
        if "lora_A" in name
    )
    original = base_weights(backbones.load_encoder(tiny_backbone))
    now = base_weights(pipe.shim._model.encoder)
    assert now.keys() == original.keys()
    assert all(torch.equal(now[name], original[name]) for name in original)
    assert annotations(bystander(TEXT)) == before
    # The merged weights, which others will run, find the same.
    fresh, other_pipe = make_nlp()
    other_pipe.shim.set_adapters([pipe.shim.adapter])
    assert logits_of(other_pipe) == pytest.approx(logits_of(pipe), abs=1e-4)
    assert [offsets(fresh(text).ents) for text, _ in GOLD] == [entities for _, entities in GOLD]


def test_precision_is_of_inference_and_can_be_changed(adapter):
    _, pipe = make_nlp(adapter=str(adapter))
    exact = logits_of(pipe)
    for precision, close in (("bf16", 0.5), ("int8", 1.0), ("fp32", 1e-6)):
        pipe.cfg["precision"] = precision
        found = logits_of(pipe)
        assert pipe.shim.backbone.precision == precision
        assert found == pytest.approx(exact, abs=close)
        # A few may be so far off, not many.
        assert np.abs(np.subtract(found, exact)).mean() <= close / 5
        assert (precision == "fp32") == np.array_equal(found, exact)


def test_components_on_one_backbone_encode_a_batch_once(monkeypatch, adapter):
    batches = []

    def counting(texts, tokenizer):
        batches.append(list(texts))
        return encode_batch(texts, tokenizer)

    monkeypatch.setattr(recent, "encode_batch", counting)
    config = {"adapter": str(adapter), "annotate": "spans"}
    nlp, first = make_nlp(**config, spans_key="1")
    for key in ("2", "3"):
        nlp.add_pipe(
            "openmed_ner", name=key, config={**config, "precision": "fp32", "spans_key": key}
        )
    texts = [f"{TEXT} {i}" for i in range(7)]
    docs = list(nlp.pipe(texts, batch_size=2))
    assert batches == [texts[:2], texts[2:4], texts[4:6], texts[6:]]
    alone = list(first.pipe(map(nlp.make_doc, texts)))
    for doc, other in zip(docs, alone, strict=True):
        found = [[(s.start_char, s.end_char) for s in doc.spans[key]] for key in "123"]
        assert found == [[(s.start_char, s.end_char) for s in other.spans["1"]]] * 3


def test_pipe_reads_on_while_the_network_works(adapter):
    nlp, pipe = make_nlp(adapter=str(adapter))
    read = []

    def stream():
        for i in range(9):
            read.append(i)
            yield nlp.make_doc(f"{TEXT} {i}")

    found = pipe.pipe(stream(), batch_size=2)
    next(found)
    assert len(read) == 4
    # Left in the middle, it ends with the batch that it is at.
    found.close()
    assert len(read) == 4


def test_update_of_nothing(tiny_backbone):
    nlp, _ = make_trainable(tiny_backbone)
    assert nlp.update(examples(nlp, [("", [])])) == {"openmed_ner": 0.0}


def test_initialize_keeps_an_adapter_with_the_same_labels(adapter):
    nlp, pipe = make_nlp(adapter=str(adapter), model=EXACT)
    before = logits_of(pipe)
    nlp.initialize(lambda: examples(nlp))
    assert_same_weights(pipe.shim.adapter, adapters.read(adapter))
    assert logits_of(pipe) == pytest.approx(before, abs=1e-4)


def test_initialize_keeps_the_lora_for_other_labels(adapter):
    nlp, pipe = make_nlp(adapter=str(adapter), model=EXACT)
    gold = [(GOLD[0][0], [(28, 42, "TUMOR"), (46, 50, "SPECIES")])]
    nlp.initialize(lambda: examples(nlp, gold))
    assert pipe.labels == ("SPECIES", "TUMOR")
    old, new = adapters.read(adapter), pipe.shim.adapter
    assert all(torch.equal(old.lora[name], new.lora[name]) for name in old.lora)
    assert new.weight.shape[0] == 5
    nlp.update(examples(nlp, gold))


def test_labels_argument_and_renaming(tiny_backbone):
    nlp, pipe = make_nlp(backbone=str(tiny_backbone), model=EXACT, labels={"DISEASE": "Illness"})
    pipe.initialize(lambda: examples(nlp), labels=["Illness", "GENE"])
    assert pipe.shim.adapter.info.types == ("DISEASE", "GENE")
    assert pipe.labels == ("Illness", "GENE")
    gold = [(text, [(s, e, "Illness") for s, e, _ in entities]) for text, entities in GOLD]
    optimizer = Adam(0.01)
    for _ in range(40):
        nlp.update(examples(nlp, gold), sgd=optimizer)
    assert nlp.evaluate(examples(nlp, gold))["ents_f"] == 1.0
    assert {e.label_ for e in nlp(GOLD[0][0]).ents} == {"Illness"}
    assert pipe.add_label("GENE") == 0
    with pytest.raises(OpenMedError, match="'NEW' cannot be added"):
        pipe.add_label("NEW")
    with pytest.raises(OpenMedError, match=r"cannot learn the label NEW.*Illness, GENE"):
        nlp.update(examples(nlp, [("IL-2", [(0, 4, "NEW")])]))


def test_initialize_without_entities_says_so(tiny_backbone):
    nlp, _ = make_nlp(backbone=str(tiny_backbone))
    with pytest.raises(OpenMedError, match="no example has an entity"):
        nlp.initialize(lambda: examples(nlp, [("IL-2", [])]))


def test_renaming_two_labels_to_one_keeps_the_adapter(other):
    nlp, pipe = make_nlp(adapter=str(other), labels={"GENE": "X", "CHEMICAL": "X"}, model=EXACT)
    nlp.initialize(lambda: examples(nlp, [("IL-2", [(0, 4, "X")])]))
    assert_same_weights(pipe.shim.adapter, adapters.read(other))


def test_resume_training(adapter):
    nlp, pipe = make_nlp(adapter=str(adapter), model=EXACT)
    optimizer = nlp.resume_training()
    first = nlp.update(examples(nlp), sgd=optimizer)["openmed_ner"]
    for _ in range(10):
        last = nlp.update(examples(nlp), sgd=optimizer)["openmed_ner"]
    assert last < first
    old, new = adapters.read(adapter), pipe.shim.adapter
    assert not torch.equal(old.weight, new.weight)
    # All of the adapter learns, not its head alone.
    assert all(not torch.equal(old.lora[name], new.lora[name]) for name in old.lora)


@pytest.mark.parametrize(("window", "overlap"), [(256, 50), (16, 4)])
def test_loss_and_gradients_are_those_of_finetune(tiny_backbone, window, overlap):
    spans = [("hereditary breast and ovarian cancer", "DISEASE"), ("BRCA1", "GENE")]
    entities = [(TEXT.index(t), TEXT.index(t) + len(t), label) for t, label in spans]
    gold = [(TEXT, entities), *GOLD]
    nlp, pipe = make_trainable(tiny_backbone, gold, window=window, overlap=overlap)
    loss = pipe.update(examples(nlp, gold), drop=0.0)["openmed_ner"]
    tagger = pipe.shim._model
    found = {n: p.grad.clone() for n, p in tagger.named_parameters() if p.grad is not None}
    tagger.zero_grad()

    documents = [
        Document("", text, [Entity(*entity) for entity in entities]) for text, entities in gold
    ]
    ids = {label: i for i, label in enumerate(pipe.shim.adapter.info.labels)}
    tokenizer = backbones.load_tokenizer(tiny_backbone)
    windows = samples(documents, tokenizer, pipe.shim.special, ids, window, overlap, False)
    assert (len(windows) > len(documents)) == (window == 16)
    batch = collate(windows, pipe.shim.special.pad)
    logits = tagger(batch["input_ids"], batch["attention_mask"])
    wanted = tagging_loss(logits, batch["labels"], 0.1)
    wanted.backward()
    assert loss == pytest.approx(wanted.item(), abs=1e-5)
    trained = {n: p.grad for n, p in tagger.named_parameters() if p.requires_grad}
    assert trained.keys() == found.keys()
    assert all(("lora_" in name) or name.startswith("head.") for name in trained)
    for name, gradient in trained.items():
        assert torch.allclose(found[name], gradient, atol=1e-5), name
    assert any(g.abs().max() > 1e-3 for n, g in found.items() if "lora_B" in n)


def test_gradient_of_the_loss_is_numerically_right(adapter):
    nlp, pipe = make_nlp(adapter=str(adapter))
    batch = examples(nlp)
    pipe.predict([])
    tagged = pipe.model.predict([eg.predicted for eg in batch])
    tagged = [Tagged(t.encoding, [t.logits[0].astype(np.float64)]) for t in tagged]
    _, gradients = pipe.get_loss(batch, tagged)
    assert [g.shape for g in gradients] == [t.logits[0].shape for t in tagged]
    rng = np.random.default_rng(0)
    for _ in range(20):
        doc = rng.integers(len(tagged))
        logits = tagged[doc].logits[0]
        cell = rng.integers(logits.shape[0]), rng.integers(logits.shape[1])
        value, values = logits[cell], []
        for step in (1e-4, -1e-4):
            logits[cell] = value + step
            values.append(pipe.get_loss(batch, tagged)[0])
        logits[cell] = value
        numeric = (values[0] - values[1]) / 2e-4
        assert gradients[doc][cell] == pytest.approx(numeric, abs=1e-7)
        assert gradients[doc][cell] != 0


def test_what_is_not_annotated_does_not_count(adapter):
    nlp, pipe = make_nlp(adapter=str(adapter))
    text = GOLD[0][0]
    partly = nlp.make_doc(text)
    ents = [partly.char_span(28, 42, "DISEASE")]
    partly.set_ents(ents, outside=[partly[0:2]], default="missing")
    batch = [Example(nlp.make_doc(text), partly), Example(nlp.make_doc(text), nlp.make_doc(text))]
    pipe.predict([])
    tagged = pipe.model.predict([eg.predicted for eg in batch])
    loss, (first, second) = pipe.get_loss(batch, tagged)
    starts = tagged[0].encoding.starts
    counts = (starts < 11) | ((starts >= 28) & (starts < 42))
    assert loss > 0
    assert (np.abs(first).sum(axis=1) > 0).tolist() == counts.tolist()
    assert not second.any()
    assert nlp.update(batch[1:]) == {"openmed_ner": 0.0}


def test_use_params_swaps_and_restores(tiny_backbone):
    nlp, pipe = make_trainable(tiny_backbone)
    optimizer = Adam(0.05, use_averages=True)
    for _ in range(5):
        nlp.update(examples(nlp), sgd=optimizer)
    now = logits_of(pipe)
    weights = {n: p.detach().clone() for n, p in pipe.shim._model.named_parameters()}
    with pipe.model.use_params(optimizer.averages):
        averaged = logits_of(pipe)
        head = pipe.shim._model.head.weight.detach().numpy()
        assert np.array_equal(head, optimizer.averages[pipe.shim.id, "head.weight"])
    assert np.abs(averaged - now).max() > 1e-3
    with pytest.raises(KeyError), nlp.use_params(optimizer.averages):
        assert np.array_equal(logits_of(pipe), averaged)
        raise KeyError
    assert np.array_equal(logits_of(pipe), now)
    for name, parameter in pipe.shim._model.named_parameters():
        assert torch.equal(parameter, weights[name])


def test_dropout_of_an_update_reaches_the_network(tiny_backbone):
    nlp, pipe = make_trainable(tiny_backbone)
    losses = {pipe.update(examples(nlp), drop=0.5)["openmed_ner"] for _ in range(3)}
    assert len(losses) == 3
    losses = {pipe.update(examples(nlp), drop=0.0)["openmed_ner"] for _ in range(3)}
    assert len(losses) == 1
    assert np.array_equal(logits_of(pipe), logits_of(pipe))


def test_a_copy_of_the_model_is_independent(tiny_backbone):
    nlp, pipe = make_trainable(tiny_backbone)
    twin = copy.deepcopy(pipe.model)
    before = logits_of(pipe)
    for _ in range(3):
        nlp.update(examples(nlp), sgd=Adam(0.05))
    doc = Doc(pipe.vocab, words=TEXT.split())
    assert twin.predict([doc])[0].logits[0] == pytest.approx(before, abs=1e-4)
    assert np.abs(logits_of(pipe) - before).max() > 1e-2


# Scores


def scored(nlp, gold, predicted, **config):
    pairs = []
    for reference, found in zip(gold, predicted, strict=True):
        doc = nlp.make_doc("CYP)-induced leukemia")
        if found is not None:
            doc.set_ents([doc.char_span(*span) for span in found])
        gold_doc = Doc(nlp.vocab, words=["CYP)-induced", "leukemia"])
        if reference is not None:
            gold_doc.set_ents([gold_doc.char_span(*span) for span in reference])
        pairs.append(Example(doc, gold_doc))
    return pairs, offset_score(pairs, **config)


def test_scorer_compares_characters():
    from spacy.scorer import Scorer

    nlp = spacy.blank("en")
    nlp.tokenizer.infix_finditer = None
    nlp.tokenizer = Tokenizer(nlp.vocab, infix_finditer=__import__("re").compile(r"\)").finditer)
    whole, part, right = (0, 12, "GENE"), (0, 3, "GENE"), (13, 21, "DISEASE")
    pairs, scores = scored(nlp, [[whole, right]], [[part, right]])
    assert (scores["ents_p"], scores["ents_r"], scores["ents_f"]) == (0.5, 0.5, 0.5)
    assert scores["ents_per_type"]["GENE"] == {"p": 0.0, "r": 0.0, "f": 0.0}
    assert scores["ents_per_type"]["DISEASE"]["f"] == 1.0
    # What spaCy says of the same is why this scorer exists.
    assert Scorer().score(pairs)["ents_f"] != scores["ents_f"]


def test_scorer_skips_what_nobody_annotated():
    nlp = spacy.blank("en")
    right = [(13, 21, "DISEASE")]
    _, scores = scored(nlp, [None, right], [right, right])
    assert scores["ents_f"] == 1.0
    _, scores = scored(nlp, [None], [right])
    assert scores["ents_f"] is None and scores["ents_per_type"] is None


def test_scorer_of_spans(adapter):
    nlp, pipe = make_nlp(adapter=str(adapter), annotate="spans", spans_key="found")
    doc = nlp(TEXT)
    gold = nlp.make_doc(TEXT)
    spans = list(doc.spans["found"])
    gold.spans["found"] = [
        gold.char_span(*span) for span in offsets(spans) if gold.char_span(*span)
    ]
    scores = pipe.score([Example(doc, gold)])
    assert 0 < scores["spans_found_p"] <= 1 and scores["spans_found_r"] == 1.0
    assert scores["spans_found_p"] == len(gold.spans["found"]) / len(spans)
    # What the default score weights choose the best model by.
    assert scores["ents_f"] == scores["spans_found_f"]
    # A reference with ents only is taken by those.
    by_ents = nlp.make_doc(TEXT)
    by_ents.set_ents([Span(by_ents, 0, 1, label="DISEASE")])
    assert pipe.score([Example(doc, by_ents)])["spans_found_r"] in (0.0, 1.0)
