"""The Fibonacci tutorial holds: each excerpt, program and command of its README, on RabbitMQ, Redis and memory."""

from __future__ import annotations

import inspect
import shutil
import signal
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from rpckit import Server
from rpckit.codegen import python_client
from rpckit.schema import contract_of
from rpckit.testing._ports import free_port
from tests.interop.conftest import delete_queue
from tests.interop.processes import ROOT, clean_env, finish, rpckit, running
from tests.tutorials.keys import delete_keys
from tests.tutorials.readme import Command, Excerpt, Program, Stop, read_steps
from tests.tutorials.session import QUIET, Session, stands_in_its_file

TUTORIAL = ROOT / "tutorials" / "fibonacci"
STEPS = read_steps(TUTORIAL / "README.md")
PROGRAMS = [step for step in STEPS if isinstance(step, Program)]
ADDRESSES = ("rpc_queue", "tutorial.slow")
REDIS_KINDS = ("stream", "list", "pubsub")
PROFILES = tomllib.loads((TUTORIAL / "rpckit.toml").read_text())["profiles"]


@pytest.fixture
def broker(amqp_url: str) -> Iterator[str]:
    """The broker's URL, without the tutorial's queues before and after."""
    for end in (False, True):
        for queue in ADDRESSES:
            delete_queue(amqp_url, queue)
        if not end:
            yield amqp_url


@pytest.fixture
def redis(redis_url: str) -> Iterator[str]:
    """The same of Redis."""
    delete_keys(redis_url, *ADDRESSES)
    yield redis_url
    delete_keys(redis_url, *ADDRESSES)


def of_kind(redis_url: str, kind: str) -> str:
    return redis_url.replace("redis://", f"redis+{kind}://")


@pytest.mark.parametrize("excerpt", [step for step in STEPS if isinstance(step, Excerpt)], ids=lambda e: e.path)
def test_each_excerpt_stands_in_its_file(excerpt: Excerpt) -> None:
    assert stands_in_its_file(excerpt)


def test_the_readme_shows_all_kinds_of_steps() -> None:
    """Should its form change, the tests here must not become empty."""
    counts = {kind: sum(isinstance(step, kind) for step in STEPS) for kind in (Excerpt, Program, Command, Stop)}
    assert counts[Excerpt] >= 6
    assert counts[Program] >= 5
    assert counts[Command] >= 14
    assert counts[Stop] == 1


@pytest.mark.timeout(120)
def test_the_readme_from_top_to_bottom(broker: str, redis: str) -> None:
    brokers = {"amqp://localhost": broker, "redis+stream://localhost": of_kind(redis, "stream")}
    with Session(brokers) as reader:
        for step in STEPS:
            reader.play(step)


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


@pytest.mark.parametrize("kind", ["memory", *REDIS_KINDS])
@pytest.mark.parametrize("program", [p for p in PROGRAMS if not p.own_broker], ids=range(len(PROGRAMS) - 1))
async def test_each_program_runs_over_memory_and_redis(
    program: Program, kind: str, redis: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Memory does not leave a process: the server is started around the program's `main`."""
    monkeypatch.setenv("RPCKIT_URL", "memory://readme" if kind == "memory" else of_kind(redis, kind))
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


@pytest.mark.parametrize("kind", [*REDIS_KINDS, "websocket"])
def test_the_url_alone_moves_it(redis: str, kind: str) -> None:
    """Server, client, class and command line; nothing else is said to any of them."""
    url = f"ws://127.0.0.1:{free_port()}/rpc" if kind == "websocket" else of_kind(redis, kind)
    env = clean_env(RPCKIT_URL=url)
    with running(rpckit("serve", "tutorials.fibonacci.service:service"), ready="serving fibonacci", env=env) as server:
        ran = finish([sys.executable, *QUIET, str(TUTORIAL / "client.py")], env=env)
        assert ran == (0, "fib(4) is 3\n", "")
        used = finish([sys.executable, *QUIET, "-"], stdin=f"{WITH_USE}\nasyncio.run(main())\n", env=env)
        assert used == (0, "fib(4) is 3\n", "")
        called = finish(rpckit("call", "rpc_queue.fib", "30"), env=env)
        assert called == (0, "832040\n", "")
        refused = finish(rpckit("call", "rpc_queue.fib", "-1"), env=env)
        assert (refused.code, refused.err.partition(":")[0]) == (1, "remote error")
        server.send(signal.SIGINT)
        assert server.wait() == 0
    alone = finish(rpckit("call", "rpc_queue.fib", "30"), env=env)
    expected = (5, "not sent") if kind == "websocket" else (3, "no responder")  # there the server is all there is
    assert (alone.code, alone.err.partition(":")[0]) == expected


def test_there_is_a_profile_for_each_transport() -> None:
    schemes = {profile["url"].partition("://")[0] for profile in PROFILES.values()}
    assert schemes == {"amqp", "redis+stream", "redis+list", "redis+pubsub", "ws"}


@pytest.fixture
def by_profile(broker: str, redis: str, tmp_path: Path) -> Path:
    """The tutorial's folder, its profiles pointing at the brokers of the tests."""
    here = {"amqp://localhost": broker, "ws://localhost:9000": f"ws://127.0.0.1:{free_port()}"}
    here |= {f"redis+{kind}://localhost": of_kind(redis, kind) for kind in REDIS_KINDS}
    folder = tmp_path / "fibonacci"
    shutil.copytree(TUTORIAL, folder)
    settings = folder / "rpckit.toml"
    settings.write_text(_with_urls(settings.read_text(), here))
    return folder


def _with_urls(text: str, here: Mapping[str, str]) -> str:
    for theirs, ours in here.items():
        assert text.count(f'"{theirs}') == 1
        text = text.replace(f'"{theirs}', f'"{ours}')
    return text


@pytest.mark.parametrize("profile", PROFILES)
def test_the_profile_alone_moves_it(by_profile: Path, profile: str) -> None:
    """In the tutorial's folder, as its README says; nothing else is said to any of them."""
    chosen = ["--profile", profile]
    with running(rpckit("serve", "service:service", *chosen), ready="serving fibonacci", cwd=by_profile):
        ran = finish([sys.executable, *QUIET, "client.py", *chosen], cwd=by_profile, env=clean_env())
        assert ran == (0, "fib(4) is 3\n", "")
        called = finish(rpckit("call", "rpc_queue.fib", "30", *chosen), cwd=by_profile)
        assert called == (0, "832040\n", "")


def test_the_service_as_a_program_takes_a_profile_too(by_profile: Path) -> None:
    chosen = ["--profile", "redis-list"]
    with running([sys.executable, "service.py", *chosen], ready="", cwd=by_profile):
        called = finish(rpckit("call", "rpc_queue.fib", "30", "--wait", *chosen), cwd=by_profile)
        assert called == (0, "832040\n", "")


def test_its_client_is_generated_and_its_service_promises_what_that_of_the_demo_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    from rpckit import demo
    from tutorials.fibonacci import fibonacci_rpc, service

    assert inspect.getsource(fibonacci_rpc) == python_client(contract_of(service.service))
    assert contract_of(service.service)["fingerprint"] == contract_of(demo.service)["fingerprint"]


PLAIN_USE = """
import asyncio
from tutorials.fibonacci.fibonacci_rpc import FibonacciRpcClient

async def main():
    fibonacci_rpc = FibonacciRpcClient()
    result = await fibonacci_rpc.call(4)
    print("fib(4) is %r" % result)
"""

WITH_USE = """
import asyncio
from tutorials.fibonacci.fibonacci_rpc import FibonacciRpcClient

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
