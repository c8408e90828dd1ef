"""The checker finds each kind of broken promise, so that the tests built on it can fail."""

from __future__ import annotations

import pytest

from rpckit.errors import DeadlineExceeded, NotSent

from .history import Entry, History


def history_of(*, executions: int = 1, idempotent: bool = False, **ending: object) -> History:
    history = History()
    entry = history.invoke("a", idempotent=idempotent, now=0.0, timeout=1.0)
    for name, value in {"ended": 0.5, "value": "a", **ending}.items():
        setattr(entry, name, value)
    for _ in range(executions):
        history.executed("a")
    return history


@pytest.mark.parametrize(
    "history",
    [
        history_of(),
        history_of(executions=3, idempotent=True),
        history_of(executions=0, value=None, error=NotSent("n")),
        history_of(executions=0, value=None, error=DeadlineExceeded("d")),
        history_of(ended=1.09, value=None, error=DeadlineExceeded("d")),
    ],
)
def test_a_kept_promise_passes(history: History) -> None:
    assert history.problems() == []


@pytest.mark.parametrize(
    "history, problem",
    [
        (history_of(ended=None), "never ended"),
        (history_of(ended=1.2, value=None, error=DeadlineExceeded("d")), "after its deadline"),
        (history_of(value=None, error=ValueError("v")), "something else than an RpcError"),
        (history_of(value="b"), "a reply of another call"),
        (history_of(executions=0), "a result without an execution"),
        (history_of(value=None, error=NotSent("n")), "said not to have run"),
        (history_of(executions=2), "not idempotent, and ran 2 times"),
    ],
)
def test_a_broken_promise_is_found(history: History, problem: str) -> None:
    (found,) = history.problems()
    assert problem in found


def test_an_execution_nobody_called_is_found() -> None:
    history = History()
    history.executed("ghost")
    assert history.problems() == ["executed, and never called: ghost"]


def test_the_loops_own_sleep_is_allowed_for() -> None:
    history = history_of(ended=1.3, value=None, error=DeadlineExceeded("d"))
    assert history.problems()
    assert history.problems(slept=0.25) == []


def test_outcomes_are_counted() -> None:
    assert history_of(value=None, error=NotSent("n")).outcomes() == {"NotSent": 1}
    assert isinstance(history_of().entries["a"], Entry)
