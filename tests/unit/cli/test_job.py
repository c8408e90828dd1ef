"""What a process of `rpckit serve` says of where it serves."""

from __future__ import annotations

import pytest

from rpckit.cli.job import _AnnouncedServer
from rpckit.demo import service


async def test_who_serves_inside_one_process_is_warned(url: str, caplog: pytest.LogCaptureFixture) -> None:
    server, said = _AnnouncedServer(service, url=url), list[str]()
    server.announce = said.extend
    async with server:
        assert said == [f"serving fibonacci (fib) at rpc_queue on {url}"]
    assert caplog.messages == [f"{url} is inside this process: no other one can reach it; use a broker for that"]
