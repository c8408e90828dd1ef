"""Whether a worker that ended is replaced, and after how long; where several processes cannot serve."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from rpckit.backoff import Backoff
from rpckit.cli import reload, supervisor, workers
from rpckit.cli.job import ServeJob
from rpckit.cli.workers import BACKOFF, STEADY_S, Crew, Place, check_shared
from rpckit.errors import UsageError

Rpckit = Callable[..., Any]
USAGE, NO_CONNECTION, KILLED = 2, 5, -9


def place(*, must_start: bool = False) -> Place:
    return Place(must_start=must_start, uniform=lambda: 0.0)


@pytest.mark.parametrize("code", [0, 1, USAGE, NO_CONNECTION, KILLED])
def test_what_cannot_start_at_all_is_not_tried_again(code: int) -> None:
    assert place(must_start=True).pause(code, None) is None


@pytest.mark.parametrize("code", [0, 1, USAGE, NO_CONNECTION, KILLED])
def test_a_worker_that_served_is_replaced_however_it_ended(code: int) -> None:
    assert place(must_start=True).pause(code, 1.0) == BACKOFF.first


def test_the_next_of_a_place_that_once_served_may_fail_to_start() -> None:
    filled = place(must_start=True)
    assert filled.pause(KILLED, 1.0) is not None
    assert filled.pause(NO_CONNECTION, None) is not None
    assert filled.pause(USAGE, None) is None


def test_pauses_grow_up_to_a_bound_and_begin_again_after_a_worker_that_lasted() -> None:
    crashing = place()
    pauses = [crashing.pause(1, 0.5) or 0.0 for _ in range(12)]
    assert pauses[0] == BACKOFF.first
    assert pauses == sorted(pauses)
    assert pauses[-1] == BACKOFF.most
    assert crashing.pause(1, STEADY_S) == BACKOFF.first
    assert (crashing.pause(1, None) or 0.0) > BACKOFF.first


async def test_a_process_that_the_system_cannot_spare_holds_up_its_own_place_only(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(workers, "BACKOFF", Backoff(first=0.001, most=0.001))
    crew = Crew(ServeJob(["shop:service"], ["amqp://localhost"]), print, 1)
    outcomes: list[Any] = [(KILLED, 1.0), OSError("no process to spare"), (KILLED, 1.0)]

    async def work(until: asyncio.Event) -> tuple[int, float | None]:
        outcome = outcomes.pop(0)
        if not outcomes:
            crew.stop(0)
        if isinstance(outcome, OSError):
            raise outcome
        return outcome

    monkeypatch.setattr(crew, "work", work)
    await crew._keep(place(must_start=True))
    assert outcomes == []
    assert "a worker cannot be started: no process to spare" in caplog.text


@pytest.mark.parametrize(
    "url,said",
    [
        ("memory://x", "memory://x is inside one process"),
        ("ws://localhost:9000/rpc", "one process listens at ws://localhost:9000/rpc"),
    ],
)
def test_a_transport_of_one_process_is_refused(url: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        check_shared(ServeJob(["shop:service"], ["amqp://localhost", url]))


def test_the_url_of_the_settings_is_looked_at_too(monkeypatch: pytest.MonkeyPatch) -> None:
    check_shared(ServeJob(["shop:service"]))
    monkeypatch.setenv("RPCKIT_URL", "memory://x")
    with pytest.raises(UsageError):
        check_shared(ServeJob(["shop:service"]))


def test_a_job_reaches_its_worker_as_it_is() -> None:
    job = ServeJob(["a:b"], ["amqp://u:p@h/%2F", "ws://h"], 3, None, "info", True)
    assert "\n" not in job.to_json()
    assert ServeJob.from_json(job.to_json()) == job
    assert job.overrides() == {"concurrency": 3}


def test_reloading_says_what_to_install(rpckit: Rpckit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reload, "find_spec", lambda name: None)
    ran = rpckit("serve", "shop:service", "--reload")
    assert (ran.code, ran.out) == (2, "")
    assert "--reload needs watchfiles: pip install" in ran.err


@pytest.mark.parametrize("option", ["--workers", "--reload"])
def test_without_posix_signals_it_is_refused(rpckit: Rpckit, monkeypatch: pytest.MonkeyPatch, option: str) -> None:
    monkeypatch.setattr(supervisor, "POSIX", False)
    ran = rpckit("serve", "shop:service", option, *(["2"] if option == "--workers" else []))
    assert (ran.code, ran.out) == (2, "")
    assert f"{option} needs the signals of POSIX systems" in ran.err


@pytest.mark.parametrize("code,said", [(3, "exit code 3"), (-9, "SIGKILL"), (-40, "signal 40")])
def test_whatever_ended_a_worker_can_be_said(code: int, said: str) -> None:
    """A signal for real time has no name."""
    assert said in workers._said(code)
