"""FakeClock stands still until it is told to move."""

from __future__ import annotations

import pytest

from rpckit.testing import FakeClock


def test_time_stands_still() -> None:
    clock = FakeClock()
    assert clock() == clock()


def test_advance_moves_by_the_seconds_given() -> None:
    clock = FakeClock(10.0)
    assert clock.advance(2.5) == 12.5
    assert clock() == 12.5


def test_time_never_runs_backwards() -> None:
    clock = FakeClock(10.0)
    with pytest.raises(ValueError, match="does not go back"):
        clock.advance(-1)
    assert clock() == 10.0
