"""`rpckit serve --workers`: killed workers are replaced, signals reach all, and nothing is left running."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import psutil
import pytest

from tests.cli.conftest import SERVICE, Command, Serve
from tests.interop.processes import Program, clean_env, rpckit, running

INTERRUPTED = 130  # 128 + SIGINT, as shells have it
AT_ONCE = 3.0  # seconds: far below the sleep that is cut short
SOON = 15.0  # seconds for a worker to start or end; it takes one
COUNT = 3

Start = Callable[..., Program]
Workers = Callable[..., AbstractContextManager[Program]]


@pytest.fixture
def workers(serve: Serve) -> Workers:
    """`rpckit serve --workers`, ready. However it ends, it ends with all of its processes."""

    @contextmanager
    def start(*options: str) -> Iterator[Program]:
        with serve("--workers", f"{COUNT}", *options) as supervisor:
            seen = processes(supervisor)
            yield supervisor
            seen += processes(supervisor)
        _, left = psutil.wait_procs(seen, timeout=SOON)
        for process in left:
            process.kill()
        assert not left

    return start


def processes(supervisor: Program) -> list[psutil.Process]:
    """Its workers."""
    try:
        return psutil.Process(supervisor.pid).children()
    except psutil.NoSuchProcess:
        return []


def pids(supervisor: Program) -> list[int]:
    return [process.pid for process in processes(supervisor)]


def until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SOON
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_all_of_them_answer_and_the_ready_line_comes_once(workers: Workers, run: Command, address: str) -> None:
    with workers() as supervisor:
        answered: set[int] = set()

        def all_answered() -> bool:
            answered.add(int(run("call", f"{address}.pid").out))
            return len(answered) == COUNT

        until(all_answered)
        assert answered == set(pids(supervisor))
        assert supervisor.output.count("serving cases") == 1
        assert f"with {COUNT} workers" in supervisor.output
        supervisor.send(signal.SIGTERM)
        assert supervisor.wait() == 0


def test_a_killed_worker_is_replaced_while_calls_go_on(workers: Workers, start: Start, address: str) -> None:
    with workers() as supervisor:
        before = pids(supervisor)
        bench = start("bench", f"{address}.pid", "-c", "4", "--duration", "4", "--json")
        try:
            time.sleep(1.5)
            os.kill(before[0], signal.SIGKILL)
            until(lambda: len(pids(supervisor)) == COUNT and before[0] not in pids(supervisor))
            assert bench.wait() == 0
            assert '"errors": {}' in bench.output
        finally:
            bench.kill()
        supervisor.wait_for("was ended by SIGKILL; replacing it in 0.")
        assert set(before[1:]) < set(pids(supervisor))
        supervisor.send(signal.SIGTERM)
        assert supervisor.wait() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_signal_drains_all_of_them(workers: Workers, start: Start, address: str, number: signal.Signals) -> None:
    with workers() as supervisor:
        callers = [start("call", f"{address}.sleep", "2") for _ in range(2 * COUNT)]
        try:
            until(lambda: supervisor.output.count("asleep") == len(callers))
            supervisor.send(number)
            assert [caller.wait() for caller in callers] == [0] * len(callers)
            assert supervisor.wait() == 0
        finally:
            for caller in callers:
                caller.kill()
        assert "Traceback" not in supervisor.output


def test_a_second_signal_stops_at_once(workers: Workers, start: Start, address: str) -> None:
    with workers() as supervisor:
        caller = start("call", f"{address}.sleep", "20", "--timeout", "2")
        try:
            supervisor.wait_for("asleep")
            began = time.monotonic()
            supervisor.send(signal.SIGTERM)
            time.sleep(0.3)
            assert supervisor.code is None
            supervisor.send(signal.SIGTERM)
            assert supervisor.wait() == INTERRUPTED
            assert time.monotonic() - began < AT_ONCE
        finally:
            caller.kill()
        assert "Traceback" not in supervisor.output


def test_a_worker_that_does_not_end_is_killed(workers: Workers, start: Start, address: str) -> None:
    with workers("--grace", "0.2") as supervisor:
        caller = start("call", f"{address}.block", "60", "--timeout", "2")
        try:
            supervisor.wait_for("blocking")
            supervisor.send(signal.SIGTERM)
            assert supervisor.wait() == 1
        finally:
            caller.kill()
        assert "did not end within 3.2 s: killed" in supervisor.output


def test_workers_end_with_a_supervisor_that_is_killed(workers: Workers) -> None:
    with workers() as supervisor:
        os.kill(supervisor.pid, signal.SIGKILL)
        supervisor.wait()


@pytest.mark.parametrize(
    "words,code,said",
    [
        (("cases:nosuch",), 2, "cases:nosuch does not exist"),
        (("cases:service", "--url", "amqp://localhost?hartbeat=3"), 2, "unknown amqp:// option 'hartbeat'"),
        (("cases:service", "--url", "amqp://127.0.0.1:1"), 5, "cannot connect to"),
        (("cases:service", "--url", "memory://x"), 2, "memory://x is inside one process"),
        (("cases:service", "--url", "ws://localhost:9000"), 2, "one process listens at ws://localhost:9000"),
        (("cases:service", "--profile", "nosuch"), 2, "unknown profile 'nosuch'"),
        (("cases:service", "--reload"), 2, "--workers and --reload do not go together"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_cannot_start_is_said_once_with_its_exit_code(
    run: Command, words: tuple[str, ...], code: int, said: str
) -> None:
    ran = run("serve", *words, "--workers", "3", ADDRESS="unused")
    assert (ran.code, ran.out) == (code, "")
    assert ran.err.count(said) == 1
    assert "replacing" not in ran.err


def test_a_service_that_can_no_longer_be_imported_ends_them_all(amqp_url: str, address: str, tmp_path: Path) -> None:
    (tmp_path / "cases.py").write_text(SERVICE)
    command = rpckit("serve", "cases:service", "--workers", "2")
    env = clean_env(ADDRESS=address, RPCKIT_URL=amqp_url)
    with running(command, ready="serving cases", env=env, cwd=tmp_path) as supervisor:
        (tmp_path / "cases.py").write_text("1 / 0\n")
        os.kill(pids(supervisor)[0], signal.SIGKILL)
        assert supervisor.wait() == 2
        assert "cases cannot be imported: ZeroDivisionError" in supervisor.output
