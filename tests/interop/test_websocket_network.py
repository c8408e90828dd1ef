"""What may stand between the two sides: TLS, and a proxy that the environment names."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme

from rpckit import Client, NotSent, Server, Service, UsageError
from rpckit.testing._ports import LOOPBACK, free_port

pytestmark = pytest.mark.timeout(30)


def calculator() -> Service:
    service = Service("calculator")

    @service.method
    async def add(a: int, b: int) -> int:
        return a + b

    return service


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    """cert.pem, key.pem and ca.pem of 127.0.0.1."""
    authority = trustme.CA()
    certificate = authority.issue_cert(LOOPBACK)
    certificate.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "cert.pem"))
    certificate.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return tmp_path


async def test_over_tls_when_the_authority_is_named(certificates: Path) -> None:
    url = f"wss://{LOOPBACK}:{free_port()}/ws"
    keys = f"certfile={certificates / 'cert.pem'}&keyfile={certificates / 'key.pem'}"
    async with Server(calculator(), url=f"{url}?{keys}"):
        async with Client(f"{url}?cafile={certificates / 'ca.pem'}") as client:
            assert await client.other.add(1, 2) == 3
        with pytest.raises(UsageError, match="not trusted"):
            await Client(url).connect()
        with pytest.raises(NotSent):
            await Client(url.replace("wss://", "ws://")).connect()


async def test_a_listening_wss_wants_a_certificate() -> None:
    with pytest.raises(UsageError, match="certfile"):
        await Server(calculator(), url=f"wss://{LOOPBACK}:{free_port()}/ws").start()


@asynccontextmanager
async def http_proxy() -> AsyncIterator[tuple[str, list[str]]]:
    """A proxy that tunnels; its URL, and what it was asked for."""
    asked: list[str] = []
    tunnels: set[asyncio.Task[None]] = set()

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = (await reader.readuntil(b"\r\n\r\n")).decode()
        asked.append(request.splitlines()[0])
        host, _, port = request.split()[1].partition(":")
        far_reader, far_writer = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        for pair in ((reader, far_writer), (far_reader, writer)):
            task = asyncio.create_task(copy(*pair))
            tunnels.add(task)
            task.add_done_callback(tunnels.discard)

    server = await asyncio.start_server(tunnel, LOOPBACK, 0)
    async with server:
        yield f"http://{LOOPBACK}:{server.sockets[0].getsockname()[1]}", asked
    for task in tunnels:
        task.cancel()
    await asyncio.gather(*tunnels, return_exceptions=True)


async def test_through_the_proxy_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also to calls back; `?proxy=false` goes straight."""
    port = free_port()
    url = f"ws://{LOOPBACK}:{port}/ws"
    async with http_proxy() as (proxy, asked), Server(calculator(), url=url):
        monkeypatch.setenv("http_proxy", proxy)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        async with Client(url) as client:
            assert await client.other.add(1, 2) == 3
        assert asked == [f"CONNECT {LOOPBACK}:{port} HTTP/1.1"]
        async with Client(f"{url}?proxy=false") as client:
            assert await client.other.add(1, 2) == 3
        assert len(asked) == 1


async def test_loggers_of_the_application_are_left_alone() -> None:
    """Neither a level nor a handler of any logger is touched, whatever runs."""
    import logging

    def everything() -> dict[str, tuple[int, bool, int]]:
        known = {"": logging.getLogger(), **logging.root.manager.loggerDict}
        loggers = {name: logger for name, logger in known.items() if isinstance(logger, logging.Logger)}
        return {name: (each.level, each.disabled, len(each.handlers)) for name, each in loggers.items()}

    mine = logging.getLogger("the.application")
    mine.setLevel(logging.DEBUG)
    before = everything()
    url = f"ws://{LOOPBACK}:{free_port()}/ws"
    async with Server(calculator(), url=url), Client(url) as client:
        assert await client.other.add(1, 2) == 3
    assert {name: each for name, each in everything().items() if name in before} == before
