"""The arithmetic of inference: two engines, four number formats, one result."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    AutoModel,
    BertConfig,
    DebertaV2Config,
    ElectraConfig,
    PretrainedConfig,
    RobertaConfig,
)

from spacy_openmed import backbones
from spacy_openmed.engine import build, has_compiler
from spacy_openmed.engine.attention import attend
from spacy_openmed.engine.bert import BertEngine
from spacy_openmed.engine.linear import apply, linear, product
from spacy_openmed.engine.module import ModuleEngine
from spacy_openmed.errors import OpenMedError
from spacy_openmed.inference import SharedBackbone

pytestmark = pytest.mark.usefixtures("one_torch_thread")

SIZES: dict[str, Any] = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 40,
    # So large that every weight has a say: attention would be even all over otherwise.
    "initializer_range": 0.2,
}
# How far hidden states, which layer norm keeps near 1, may be from fp32's.
TOLERANCE = {"fp32": 1e-5, "bf16": 0.1, "int8": 0.15}


def encoder_of(config: PretrainedConfig) -> Any:
    torch.manual_seed(3)
    return AutoModel.from_config(config).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def bert() -> Any:
    return encoder_of(BertConfig(**SIZES))


def batch(lengths: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.zeros(len(lengths), max(lengths), dtype=torch.long)
    mask = torch.zeros_like(ids)
    draw = np.random.default_rng(0)
    for row, length in enumerate(lengths):
        ids[row, :length] = torch.from_numpy(draw.integers(1, SIZES["vocab_size"], length))
        mask[row, :length] = 1
    return ids, mask


def expected(encoder: Any, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return encoder(input_ids=ids, attention_mask=mask)[0][mask.bool()]


def run(engine: Any, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return engine(ids, mask).float()


@pytest.mark.parametrize("precision", list(TOLERANCE))
@pytest.mark.parametrize(
    "config",
    [
        BertConfig(**SIZES),
        BertConfig(**SIZES, hidden_act="relu"),
        ElectraConfig(**SIZES, embedding_size=16),
        ElectraConfig(**SIZES, embedding_size=32),
    ],
    ids=["bert", "relu", "electra", "electra-square"],
)
def test_the_fast_engine_computes_what_transformers_does(
    config: PretrainedConfig, precision: str
) -> None:
    encoder = encoder_of(config)
    engine = build(encoder, precision)
    assert isinstance(engine, BertEngine)
    ids, mask = batch([17, 17, 9, 3, 1])
    found = run(engine, ids, mask)
    assert (found - expected(encoder, ids, mask)).abs().max() < TOLERANCE[precision]


@pytest.mark.parametrize("config", [RobertaConfig(**SIZES), DebertaV2Config(**SIZES)])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_other_architectures_run_as_they_are(config: PretrainedConfig, precision: str) -> None:
    encoder = encoder_of(config)
    engine = build(encoder, precision)
    assert isinstance(engine, ModuleEngine)
    ids, mask = batch([17, 9, 9])
    found = run(engine, ids, mask)
    assert (found - expected(encoder, ids, mask)).abs().max() < TOLERANCE[precision]
    with pytest.raises(OpenMedError, match=r"'int8' is not possible .*type '.*choose 'fp32'"):
        build(encoder, "int8")


@settings(max_examples=25, deadline=None)
@given(lengths=st.lists(st.integers(1, 30), min_size=1, max_size=8))
def test_a_window_does_not_depend_on_its_batch(lengths: list[int]) -> None:
    encoder = encoder_of(BertConfig(**SIZES))
    engine = build(encoder, "fp32")
    ids, mask = batch(lengths)
    together = run(engine, ids, mask).split(lengths)
    for row, length in enumerate(lengths):
        alone = run(engine, ids[row : row + 1, :length], mask[row : row + 1, :length])
        torch.testing.assert_close(together[row], alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("make", [BertEngine, ModuleEngine])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    "path",
    [
        "embeddings.word_embeddings",
        "encoder.layer.0.attention.self.key",
        "encoder.layer.1.attention.output.dense",
        "encoder.layer.1.intermediate.dense",
    ],
)
def test_a_rebuilt_weight_is_used_and_the_encoder_is_not_touched(
    make: Callable[[Any, str], Any], precision: str, path: str
) -> None:
    encoder, other = encoder_of(BertConfig(**SIZES)), encoder_of(BertConfig(**SIZES))
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    changed = other.get_submodule(path)
    changed.weight.add_(torch.randn_like(changed.weight) * 0.1)
    ids, mask = batch([12, 7])
    engine = make(encoder, precision)
    original = run(engine, ids, mask)
    at_first = engine.weights()
    engine.rebuild([path], lambda name: other.get_submodule(name).weight)
    found = run(engine, ids, mask)
    assert (found - original).abs().max() > 0.01
    changed_weights = engine.weights()
    engine.use(at_first)
    assert torch.equal(run(engine, ids, mask), original)
    engine.use(changed_weights)
    assert torch.equal(run(engine, ids, mask), found)
    assert (found - expected(other, ids, mask)).abs().max() < TOLERANCE[precision]
    engine.rebuild([path], lambda name: encoder.get_submodule(name).weight)
    torch.testing.assert_close(run(engine, ids, mask), original)
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())


def test_fp32_costs_no_second_copy_of_what_no_adapter_changes(bert: Any) -> None:
    """Of a large backbone that would be a gigabyte."""
    path = "encoder.layer.0.intermediate.dense"
    shared = ModuleEngine(bert, "fp32").encoder
    assert all(a is b for a, b in zip(shared.parameters(), bert.parameters(), strict=True))
    shared = ModuleEngine(bert, "bf16").encoder
    assert shared.get_submodule(path).weight.dtype == torch.bfloat16


@pytest.mark.parametrize("scale", [1.0, 30.0, 3000.0])
def test_attention_of_scores_of_any_size(scale: float) -> None:
    """The sums of exponentials overflow where the scores are large: that is seen and mended."""
    torch.manual_seed(0)
    groups = [(9, 2), (4, 1)]
    qkv = torch.randn(22, 3 * 16)
    qkv[:, :32] *= scale**0.5
    exact = attend(qkv, groups, 2)
    found = attend(qkv.bfloat16(), groups, 2)
    assert found.dtype == torch.bfloat16 and torch.isfinite(found.float()).all()
    # Large scores decide between neighbours by a difference that bf16 rounds away.
    close = (found.float() - exact).abs().amax(dim=1) < 0.1
    assert close.float().mean() > (0.99 if scale == 1 else 0.5)


def test_scores_that_are_all_very_small_are_mended_too() -> None:
    torch.manual_seed(0)
    qkv = torch.randn(6, 3 * 8)
    qkv[:, :8], qkv[:, 8:16] = 20.0, -20.0
    exact = attend(qkv, [(6, 1)], 1)
    torch.testing.assert_close(
        attend(qkv.bfloat16(), [(6, 1)], 1).float(), exact, atol=0.02, rtol=0.02
    )


@pytest.mark.parametrize(("score", "value"), [(87.0, 3.0), (86.0, 100.0), (-90.0, 1.0), (0.0, 5.0)])
def test_what_the_sums_weigh_may_overflow_before_they_do(score: float, value: float) -> None:
    """Where all look alike the mean of the values is their value."""
    qkv = torch.zeros(6, 3 * 8)
    qkv[:, 0], qkv[:, 8], qkv[:, 16:] = score, 1.0, value
    # One that counts for a half.
    qkv[0, 8], qkv[0, 16:] = 1.0 - math.log(2.0) / abs(score or 1.0), value / 2
    exact = attend(qkv, [(6, 1)], 1)
    torch.testing.assert_close(
        attend(qkv.bfloat16(), [(6, 1)], 1).float(), exact, atol=0.0, rtol=0.05
    )


def test_8_bits_of_each_row_and_output() -> None:
    torch.manual_seed(0)
    weight, bias = torch.randn(24, 40), torch.randn(24)
    # Rows of very different sizes: one scale for all would lose the small ones.
    rows = torch.randn(7, 40) * torch.tensor([1e-3, 1, 1e3, 1, 0, 1, 1])[:, None]
    found = apply(linear(weight, bias, "int8"), rows)
    exact = rows @ weight.t()
    error = (found - bias - exact).abs().amax(dim=1)
    assert (error <= 0.03 * exact.abs().amax(dim=1) + 1e-4).all()


def test_8_bits_waste_none_on_what_does_not_occur() -> None:
    """All values of a row are at one side of zero, or all the same: both are as exact as others."""
    torch.manual_seed(0)
    layer = linear(torch.randn(24, 40), (bias := torch.randn(24)), "int8")
    for rows in (torch.rand(5, 40) + 3, -torch.rand(5, 40), torch.full((2, 40), -7.0)):
        # Weights have 8 bits as well: what they lose does not count.
        rounded = layer.weight.t().float() * layer.scale[:, None]  # type: ignore[index]
        exact = torch.nn.functional.linear(rows, rounded, bias)
        spread = float(rows.max() - rows.min())
        assert (apply(layer, rows) - exact).abs().mean() <= 0.01 * spread + 1e-3


def test_auto_and_unknown_precisions(tiny_backbone: Path) -> None:
    assert SharedBackbone(tiny_backbone).precision == "fp32"
    assert SharedBackbone(tiny_backbone, precision="auto").precision in ("fp32", "bf16")
    assert SharedBackbone(tiny_backbone, precision="int8").precision == "int8"
    with pytest.raises(OpenMedError, match=r"'fp8': choose .*'int8'"):
        SharedBackbone(tiny_backbone, precision="fp8")


def test_minilm_in_half_precision_is_the_same_model(minilm: Path) -> None:
    encoder = backbones.load_encoder(minilm)
    ids, mask = batch([40, 31, 12])
    for precision, tolerance in (("fp32", 1e-4), ("bf16", 0.15), ("int8", 0.3)):
        found = run(build(encoder, precision), ids, mask)
        assert (found - expected(encoder, ids, mask)).abs().max() < tolerance


@pytest.mark.skipif(not has_compiler(), reason="torch.compile needs a C++ compiler")
@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_compiled_it_computes_the_same(bert: Any, precision: str) -> None:
    ids, mask = batch([5, 9, 9, 30])
    compiled = build(bert, precision, compiled=True)
    again, other = batch([7, 12]), build(bert, precision)
    for one in ((ids, mask), again):
        difference = (run(compiled, *one) - run(other, *one)).abs().max()
        assert difference < TOLERANCE[precision] / 2


def test_without_a_compiler_nothing_is_compiled(bert: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(OpenMedError, match="needs a C\\+\\+ compiler"):
        build(bert, "fp32", compiled=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(5, 8), (2, 3, 8)])
@pytest.mark.parametrize("gelu", [False, True])
@pytest.mark.parametrize("biased", [False, True])
def test_both_libraries_give_the_same_product(
    dtype: torch.dtype, shape: tuple[int, ...], gelu: bool, biased: bool
) -> None:
    torch.manual_seed(0)
    rows, weight = torch.randn(shape).to(dtype), torch.randn(4, 8).to(dtype)
    bias = torch.randn(4).to(dtype) if biased else None
    wanted = torch.nn.functional.linear(rows, weight, bias)
    wanted = torch.nn.functional.gelu(wanted) if gelu else wanted
    with torch.inference_mode():
        found = product(rows, weight, bias, gelu)
        with torch.backends.mkldnn.flags(enabled=False):
            other = product(rows, weight, bias, gelu)
    assert found.shape == other.shape == wanted.shape
    for one in (found, other):
        assert (one - wanted).abs().max() <= (1e-5 if dtype == torch.float32 else 0.1)
