"""Dropout for processors: the share it zeroes, what it leaves, and its gradient."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spacy_openmed.training.dropout import CpuDropout, use_cpu_dropout

pytestmark = pytest.mark.usefixtures("one_torch_thread")


@given(
    p=st.floats(0.01, 0.9),
    seed=st.integers(0, 2**31),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
)
def test_every_place_of_four_is_zeroed_as_often(p: float, seed: int, dtype: torch.dtype) -> None:
    """Four elements share the 64 bits of one draw: none may be favoured."""
    torch.manual_seed(seed)
    out = CpuDropout(p)(torch.ones(200, 400, dtype=dtype))
    zeros = (out.view(-1, 4) == 0).double().mean(dim=0)
    # Five standard errors of 20,000 draws.
    assert zeros.tolist() == pytest.approx([p] * 4, abs=5 * (p * (1 - p) / 20_000) ** 0.5)
    kept = out[out != 0].unique()
    assert kept.tolist() == pytest.approx([1 / (1 - p)], rel=1e-2)


@given(shape=st.lists(st.integers(0, 7), max_size=4))
def test_any_shape_is_kept(shape: list[int]) -> None:
    assert CpuDropout(0.5)(torch.ones(shape)).shape == torch.Size(shape)


def test_its_gradient_is_its_mask() -> None:
    x = torch.ones(33, 5, requires_grad=True)
    out = CpuDropout(0.3)(x)
    out.sum().backward()
    assert torch.equal(x.grad, out.detach())


def test_it_follows_torchs_seed_and_rests_in_evaluation() -> None:
    layer, x = CpuDropout(0.4), torch.ones(50, 50)
    torch.manual_seed(1)
    first = layer(x)
    torch.manual_seed(1)
    assert torch.equal(first, layer(x))
    assert not torch.equal(first, layer(x))
    assert layer.eval()(x) is x
    assert CpuDropout(0.0)(x) is x or torch.equal(CpuDropout(0.0)(x), x)
    assert not CpuDropout(1.0)(x).any()


def test_it_takes_the_place_of_every_dropout_and_nothing_else() -> None:
    model = torch.nn.Sequential(
        torch.nn.Linear(2, 2),
        torch.nn.Dropout(0.1),
        torch.nn.ModuleDict({"lora": torch.nn.Sequential(torch.nn.Dropout(0.2))}),
        torch.nn.Dropout1d(0.3),
    )
    use_cpu_dropout(model)
    found = [type(m) for m in model.modules() if "Dropout" in type(m).__name__]
    assert found == [CpuDropout, CpuDropout, torch.nn.Dropout1d]
    assert [m.p for m in model.modules() if isinstance(m, CpuDropout)] == [0.1, 0.2]
