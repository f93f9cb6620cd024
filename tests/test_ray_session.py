"""Shares of GPUs on Ray."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spacy_openmed.ray_session import gpu_share


@given(workers=st.integers(1, 200), gpus=st.integers(1, 40))
def test_all_workers_find_a_gpu_or_a_part_of_one(workers: int, gpus: int) -> None:
    share = gpu_share(workers, gpus)
    # Ray keeps ten-thousandths, rounded.
    asked = round(share * 10_000)
    assert asked == pytest.approx(share * 10_000)
    free = [10_000] * gpus
    for _ in range(workers):
        place = next((place for place, left in enumerate(free) if left >= asked), None)
        assert place is not None
        free[place] -= asked
    if workers <= gpus:
        assert share == 1


@pytest.mark.parametrize(
    ("workers", "gpus", "share"),
    [(3, 2, 0.5), (2, 2, 1.0), (1, 8, 1.0), (6, 1, 0.1666), (4, 0, 0.0), (4, 2.0, 0.5)],
)
def test_shares(workers: int, gpus: float, share: float) -> None:
    assert gpu_share(workers, gpus) == share
