"""`rpckit services`, `describe`, `stats` and `ping` as programs, against servers on a RabbitMQ."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Command, Serve
from tests.interop.processes import Program

WAIT = ("--wait", "1")  # a busy machine may need more than 0.3 s
GONE = 10.0  # seconds for the broker to see that a process is dead

Start = Callable[..., Program]


@pytest.fixture(autouse=True)
def server(serve: Serve) -> Iterator[Program]:
    with serve() as server:
        yield server


def test_services_are_listed_with_their_instances(run: Command, serve: Serve, address: str, server: Program) -> None:
    with serve() as second:
        ran = run("services", *WAIT)
        assert (ran.code, ran.err) == (0, "")
        for word in ("cases", address, f":{server.pid}", f":{second.pid}", "double, refuse, fail, sleep"):
            assert word in ran.out
        answers = json.loads(run("services", "--json", *WAIT).out)
        ours = [each for each in answers if each["services"][0]["address"] == address]
        assert {each["instance"]["pid"] for each in ours} == {server.pid, second.pid}


def test_an_address_is_described(run: Command, address: str) -> None:
    ran = run("describe", address)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith(f"cases at {address}\n")
    assert "double(n: int) -> int\n" in ran.out
    assert json.loads(run("describe", address, "--json").out)["methods"]["double"]["result"] == {"type": "integer"}


def test_ping_shows_who_answers_and_how_soon(run: Command, address: str, server: Program) -> None:
    assert f":{server.pid}" in run("ping", address, *WAIT).out
    (answer,) = json.loads(run("ping", address, "--json", *WAIT).out)
    assert (answer["instance"]["pid"], answer["instance"]["transports"]) == (server.pid, ["amqp"])
    assert 0 < answer["ms"] < 1000
    assert run("ping", "test.nobody").code == 3


def test_stats_show_calls_and_errors(run: Command, address: str) -> None:
    run("call", f"{address}.double", "2")
    run("call", f"{address}.refuse")
    (answer,) = json.loads(run("stats", address, "--json", *WAIT).out)
    entries = {each["method"]: each for each in answer["stats"]}
    assert (entries["double"]["calls"], entries["double"]["errors"]) == (1, {})
    assert (entries["refuse"]["calls"], entries["refuse"]["errors"]) == (1, {"PERMISSION_DENIED": 1})
    assert "1 permission denied" in run("stats", address, *WAIT).out


def test_watching_shows_the_load_and_the_dead_disappear(
    start: Start, serve: Serve, address: str, server: Program
) -> None:
    watching = start("stats", address, "--watch", "--json")
    bench = start("bench", f"{address}.double", "2", "-c", "4", "--duration", "4", "--json")
    try:
        with serve() as second:
            _until(lambda: _pids(watching) == {server.pid, second.pid}, watching)
            _until(lambda: max(_rates(watching, "double"), default=0) > 10, watching)
            second.send(signal.SIGKILL)
            second.wait()
            _until(lambda: _pids(watching) == {server.pid}, watching)
        watching.send(signal.SIGINT)
        assert watching.wait() == 0
        assert "Traceback" not in watching.output
    finally:
        bench.kill()
        watching.kill()


def test_an_interrupted_bench_shows_what_it_measured(start: Start, address: str) -> None:
    bench = start("bench", f"{address}.double", "2", "-c", "4", "--duration", "60", "--json")
    watching = start("stats", address, "--watch", "--json")
    try:
        _until(lambda: max(_rates(watching, "double"), default=0) > 10, watching)
        bench.send(signal.SIGINT)
        assert bench.wait() == 130
        bench.wait_for('"calls": ')
        assert "Traceback" not in bench.output
    finally:
        bench.kill()
        watching.kill()


def test_a_table_is_watched_until_it_is_interrupted(start: Start, address: str) -> None:
    watching = start("stats", address, "--watch")
    try:
        watching.wait_for("calls/s")
        watching.wait_for(f"{address}.double")
        watching.send(signal.SIGINT)
        assert watching.wait() == 0
        assert "Traceback" not in watching.output
    finally:
        watching.kill()


def test_a_silent_server_serves_and_is_not_described(
    run: Command, serve: Serve, address: str, folder: Path, server: Program
) -> None:
    server.send(signal.SIGTERM)
    assert server.wait() == 0
    settings = folder / "rpckit.toml"
    settings.write_text("discovery = false")
    try:
        with serve():
            assert run("call", f"{address}.double", "2").out == "4\n"
            ran = run("describe", address)
            assert (ran.code, ran.out) == (3, "")
            assert "discovery = false" in ran.err
    finally:
        settings.unlink()


def _looks(watching: Program) -> list[Any]:
    return [json.loads(line) for line in watching.output.splitlines(keepends=True) if line.endswith("]\n")]


def _pids(watching: Program) -> set[int]:
    looks = _looks(watching)
    return {answer["instance"]["pid"] for answer in looks[-1]} if looks else set()


def _rates(watching: Program, method: str) -> list[float]:
    entries = [entry for look in _looks(watching) for answer in look for entry in answer["stats"]]
    return [entry["per_second"] or 0 for entry in entries if entry["method"] == method]


def _until(condition: Callable[[], bool], watching: Program) -> None:
    deadline = time.monotonic() + GONE
    while not condition():
        assert time.monotonic() < deadline, watching.output
        time.sleep(0.05)
