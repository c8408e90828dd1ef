"""`rpckit serve` as a process: it drains when told to stop, and stops at once when told twice."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

import pytest

from tests.cli.conftest import Command, Serve
from tests.interop.processes import Program

INTERRUPTED = 130  # 128 + SIGINT, as shells have it
MAY_HAVE_RUN = 6
AT_ONCE = 3.0  # seconds: far below the sleep that is cut short

Start = Callable[..., Program]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_signal_drains_the_call_under_way_completes_and_the_exit_code_is_0(
    serve: Serve, start: Start, address: str, number: signal.Signals
) -> None:
    with serve() as server:
        caller = start("call", f"{address}.sleep", "1")
        try:
            server.wait_for("asleep")
            server.send(number)
            assert caller.wait() == 0
            assert "1.0" in caller.output
            assert server.wait() == 0
        finally:
            caller.kill()
        assert "Traceback" not in server.output


def test_while_it_drains_it_takes_nothing_new(serve: Serve, start: Start, run: Command, address: str) -> None:
    with serve() as server:
        caller = start("call", f"{address}.sleep", "1.5")
        try:
            server.wait_for("asleep")
            server.send(signal.SIGTERM)
            time.sleep(0.3)
            assert run("call", f"{address}.double", "1").code == 3
            assert caller.wait() == 0
        finally:
            caller.kill()
        assert server.wait() == 0


def test_a_server_that_does_nothing_stops_at_once(serve: Serve) -> None:
    with serve() as server:
        began = time.monotonic()
        server.send(signal.SIGTERM)
        assert server.wait() == 0
        assert time.monotonic() - began < AT_ONCE


def test_what_does_not_end_within_the_grace_is_stopped_and_its_caller_told(
    serve: Serve, start: Start, address: str
) -> None:
    with serve("--grace", "0.3") as server:
        caller = start("call", f"{address}.sleep", "20")
        try:
            server.wait_for("asleep")
            began = time.monotonic()
            server.send(signal.SIGTERM)
            assert caller.wait() == MAY_HAVE_RUN
            assert "outcome unknown: " in caller.output
            assert server.wait() == 0
        finally:
            caller.kill()
        assert time.monotonic() - began < AT_ONCE


def test_a_second_signal_stops_at_once_and_the_caller_is_told(serve: Serve, start: Start, address: str) -> None:
    with serve() as server:
        caller = start("call", f"{address}.sleep", "20", "--timeout", "20")
        try:
            server.wait_for("asleep")
            began = time.monotonic()
            server.send(signal.SIGTERM)
            time.sleep(0.3)
            assert server.code is None
            server.send(signal.SIGTERM)
            assert server.wait() == INTERRUPTED
            assert caller.wait() == MAY_HAVE_RUN
            assert "outcome unknown: " in caller.output
            assert time.monotonic() - began < AT_ONCE
        finally:
            caller.kill()
        assert "Traceback" not in server.output


def test_two_servers_may_replace_one_another_without_a_call_lost(serve: Serve, start: Start, address: str) -> None:
    """A rolling restart under load: every call is answered."""
    bench = None
    with serve() as old:
        try:
            with serve():
                bench = start("bench", f"{address}.double", "2", "-c", "4", "--duration", "2", "--json")
                time.sleep(1)
                old.send(signal.SIGTERM)
                assert old.wait() == 0
                assert bench.wait() == 0
                assert '"errors": {}' in bench.output
        finally:
            if bench is not None:
                bench.kill()
