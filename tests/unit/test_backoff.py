"""Delays before connecting again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpckit.backoff import Backoff


def no_jitter() -> float:
    return 0.0


@pytest.mark.parametrize("attempt, seconds", [(0, 0.05), (1, 0.1), (2, 0.2), (3, 0.4), (4, 0.5), (50, 0.5)])
def test_delays_double_from_50_ms_to_half_a_second(attempt: int, seconds: float) -> None:
    assert Backoff().delay(attempt, 0.0, no_jitter) == pytest.approx(seconds)


def test_after_five_minutes_delays_grow_to_five_seconds() -> None:
    assert Backoff().delay(1_000, 299.9, no_jitter) == 0.5
    assert Backoff().delay(1_000, 300.0, no_jitter) == 5.0


@given(st.integers(0, 10**6), st.floats(0, 1e9), st.floats(0, 1, exclude_max=True))
def test_jitter_takes_away_at_most_half(attempt: int, elapsed: float, u: float) -> None:
    full = Backoff().delay(attempt, elapsed, no_jitter)
    assert full / 2 <= Backoff().delay(attempt, elapsed, lambda: u) <= full
