"""The Fibonacci tutorial holds: each excerpt, program and command of its README, on RabbitMQ and memory."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from textwrap import dedent, indent

import pytest

from rpckit import Server
from rpckit.testing import RabbitMq
from rpckit.url import Url
from tests.interop.conftest import delete_queue
from tests.interop.processes import ROOT, clean_env, finish, rpckit, running
from tests.interop.processes import Program as Process
from tests.tutorials.readme import Command, Excerpt, Program, Step, Stop, matches, read_steps

TUTORIAL = ROOT / "tutorials" / "fibonacci"
STEPS = read_steps(TUTORIAL / "README.md")
PROGRAMS = [step for step in STEPS if isinstance(step, Program)]
QUIET = ["-W", "error"]  # what a program leaves behind would be complained about
TWO_BROKER_STARTS = 60.0  # seconds; 6 each on two cores


@pytest.fixture
def broker(amqp_url: str) -> Iterator[str]:
    """The broker's URL, without the tutorial's queues before and after."""
    for end in (False, True):
        for queue in ("rpc_queue", "tutorial.slow"):
            delete_queue(amqp_url, queue)
        if not end:
            yield amqp_url


@pytest.mark.parametrize("excerpt", [step for step in STEPS if isinstance(step, Excerpt)], ids=lambda e: e.path)
def test_each_excerpt_stands_in_its_file(excerpt: Excerpt) -> None:
    """But for empty lines and the margin, which a formatter chooses."""
    shown = _lines(dedent(excerpt.text))
    there = (ROOT / excerpt.path).read_text()
    assert shown in _lines(there) or indent(shown, "    ") in _lines(there)


def _lines(text: str) -> str:
    return "".join(line for line in text.splitlines(keepends=True) if line.strip())


def test_the_readme_shows_all_kinds_of_steps() -> None:
    """Should its form change, the tests here must not become empty."""
    counts = {kind: sum(isinstance(step, kind) for step in STEPS) for kind in (Excerpt, Program, Command, Stop)}
    assert counts[Excerpt] >= 6
    assert counts[Program] >= 5
    assert counts[Command] >= 14
    assert counts[Stop] == 1


@pytest.mark.timeout(120)
def test_the_readme_from_top_to_bottom(broker: str) -> None:
    """A reader's session: servers go on in terminals of their own until they are stopped."""
    with ExitStack() as terminals:
        servers: list[Process] = []
        for step in STEPS:
            _play(step, broker, terminals, servers)


def _play(step: Step, url: str, terminals: ExitStack, servers: list[Process]) -> None:
    match step:
        case Command() if step.serves:
            argv = ["/bin/sh", "-c", f"exec {_here(step.line, url)}"]
            ready = _here(step.printed.strip(), _shown(url))
            servers.append(terminals.enter_context(running(argv, ready=ready, env=clean_env(RPCKIT_URL=url))))
        case Command():
            ran = finish(["/bin/sh", "-c", f"exec 2>&1; {_here(step.line, url)}"], env=clean_env(RPCKIT_URL=url))
            assert matches(ran.out, step.printed), f"$ {step.line}\n{ran.out}"
        case Program():
            _run(step, url)
        case Stop():
            while servers:
                _interrupt(servers.pop())


def _interrupt(server: Process) -> None:
    """Ctrl-C. A server of rpckit's ends well; the others end as they do."""
    serves = "serving" in server.output
    server.send(signal.SIGINT)
    code = server.wait()
    assert code == 0 or not serves


def _run(program: Program, url: str) -> None:
    if program.own_broker and not RabbitMq.installed():
        return
    argv, env = [sys.executable, *QUIET, "-"], clean_env(RPCKIT_URL=url)
    ran = finish(argv, stdin=program.text, env=env, timeout=TWO_BROKER_STARTS)
    said = [line for line in ran.err.splitlines() if not (program.own_broker and "reconnect" in line)]
    assert (ran.code, said) == (0, []), ran.err
    assert sorted(ran.out.splitlines()) == sorted(program.printed.splitlines())


def _here(text: str, url: str) -> str:
    """The README's broker is the one on localhost; ours is somewhere else."""
    return text.replace("amqp://localhost", url)


def _shown(url: str) -> str:
    """As rpckit shows it: without its password."""
    return str(Url.parse(url))


# --- the code itself ---------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["as it stands", "async with"])
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_the_client_works_with_and_without_async_with_and_ends_silently(broker: str, way: str, loop: str) -> None:
    program = PLAIN_USE if way == "as it stands" else WITH_USE
    runner = "asyncio.run(main())" if loop == "asyncio" else UVLOOP_RUN
    argv = ["/bin/sh", "-c", "exec rpckit serve tutorials.fibonacci.service:service"]
    with running(argv, ready="serving fibonacci", env=clean_env(RPCKIT_URL=broker)):
        code = f"{program}\n{runner}\n"
        ran = finish([sys.executable, *QUIET, "-"], stdin=code, env=clean_env(RPCKIT_URL=broker))
    assert ran == (0, "fib(4) is 3\n", "")


@pytest.mark.parametrize("program", [p for p in PROGRAMS if not p.own_broker], ids=range(len(PROGRAMS) - 1))
async def test_each_program_runs_over_memory(
    program: Program, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Memory does not leave a process: the server is started around the program's `main`."""
    monkeypatch.setenv("RPCKIT_URL", "memory://readme")
    monkeypatch.syspath_prepend(str(ROOT))
    from tutorials.fibonacci.service import service

    names: dict[str, object] = {"__name__": "program"}
    exec(program.text.removesuffix("asyncio.run(main())\n"), names)
    async with Server(service):
        await names["main"]()  # type: ignore[operator]  # of a program that is text to us
    assert sorted(capsys.readouterr().out.splitlines()) == sorted(program.printed.splitlines())


def test_service_and_client_are_programs_of_their_own(broker: str) -> None:
    env = clean_env(RPCKIT_URL=broker)
    with running([sys.executable, str(TUTORIAL / "service.py")], ready="", env=env):
        waiting = finish(rpckit("call", "rpc_queue.fib", "4", "--wait"), env=env)  # it says nothing when it is ready
        assert waiting.out == "3\n", waiting.err
        ran = finish([sys.executable, *QUIET, str(TUTORIAL / "client.py")], env=env)
        assert ran == (0, "fib(4) is 3\n", "")


def test_the_tutorial_and_the_demo_make_the_same_promises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    from rpckit import demo
    from tutorials.fibonacci import client, service

    assert client.FibonacciRpcClient.address == demo.FibonacciRpcClient.address == service.service.address
    for method, spec in service.service.methods.items():
        assert spec.signature == demo.service.methods[method].signature
        assert spec.doc == demo.service.methods[method].doc
        assert spec.idempotent == demo.service.methods[method].idempotent


PLAIN_USE = """
import asyncio
from tutorials.fibonacci.client import FibonacciRpcClient

async def main():
    fibonacci_rpc = FibonacciRpcClient()
    result = await fibonacci_rpc.call(4)
    print("fib(4) is %r" % result)
"""

WITH_USE = """
import asyncio
from tutorials.fibonacci.client import FibonacciRpcClient

async def main():
    async with FibonacciRpcClient() as fibonacci_rpc:
        result = await fibonacci_rpc.call(4)
    print("fib(4) is %r" % result)
"""

UVLOOP_RUN = """
import uvloop
with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    runner.run(main())
"""
