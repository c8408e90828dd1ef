"""The Redis RPC tutorial holds: each excerpt, program and command of its README, FastStream's own among them."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from rpckit import Client, Server
from tests.interop.processes import ROOT, clean_env, finish, running
from tests.tutorials.keys import delete_keys
from tests.tutorials.readme import Command, Excerpt, Program, Stop, read_steps
from tests.tutorials.session import QUIET, Session, stands_in_its_file

TUTORIAL = ROOT / "tutorials" / "redis_rpc"
STEPS = read_steps(TUTORIAL / "README.md")
NAMES = ("list", "stream", "redis-response", "no-reply", "divide")


@pytest.fixture
def broker(redis_url: str) -> Iterator[str]:
    """The broker's URL, without the tutorial's keys before and after."""
    for end in (False, True):
        delete_keys(redis_url, *(f"test-{name}" for name in NAMES), "rpckit:reply:tutorial")
        if not end:
            yield redis_url


@pytest.mark.parametrize("excerpt", [step for step in STEPS if isinstance(step, Excerpt)], ids=lambda e: e.path)
def test_each_excerpt_stands_in_its_file(excerpt: Excerpt) -> None:
    assert stands_in_its_file(excerpt)


def test_the_readme_shows_all_kinds_of_steps() -> None:
    """Should its form change, the tests here must not become empty."""
    counts = {kind: sum(isinstance(step, kind) for step in STEPS) for kind in (Excerpt, Program, Command, Stop)}
    assert counts[Excerpt] >= 8
    assert counts[Program] >= 8
    assert counts[Command] >= 9
    assert counts[Stop] == 2


@pytest.mark.timeout(120)
def test_the_readme_from_top_to_bottom(broker: str) -> None:
    with Session({"redis://localhost:6379": broker}) as reader:
        for step in STEPS:
            reader.play(step)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_service_and_client_are_programs_of_their_own(broker: str, loop: str) -> None:
    """They say nothing but what they should, and end well."""
    env = clean_env(RPCKIT_URL=broker)
    run = "uvloop.run(main())" if loop == "uvloop" else "asyncio.run(main())"
    code = f"import asyncio, uvloop\nfrom tutorials.redis_rpc.client import main\n{run}\n"
    with running([sys.executable, str(TUTORIAL / "service.py")], ready="connected", env=env) as server:
        ran = finish([sys.executable, *QUIET, "-"], stdin=code, env=env)
        assert ran == (0, "channel, list and stream answered\n", "")
        for kind in ("channel", "list", "stream"):
            server.wait_for(f"INFO rpckit.call.{kind}:test-{kind}: Hi!\n")


async def test_every_handler_answers_as_faststreams_page_says(broker: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    from tutorials.redis_rpc.service import server as tutorial

    async with Server(*tutorial.services, url=broker), Client(broker) as client:
        for address in ("channel:test-response", "stream:test-redis-response"):
            response = await client.request(address, "Hello, Redis!", timeout=3.0)
            assert response.body == b"Processed: Hello, Redis!"
            assert response.headers["x-token"] == "some-token"
            assert response.correlation_id == "some-correlation-id"
