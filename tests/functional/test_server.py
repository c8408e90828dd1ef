"""A server whose loop is blocked."""

from __future__ import annotations

import asyncio
import time

import pytest

from rpckit import Client, Server, Service


async def test_a_server_names_the_method_that_blocks_its_loop(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("rpckit.watch.BLOCKED_S", 0.005)
    monkeypatch.setattr("rpckit.watch.BEAT_S", 0.002)
    service = Service("s")

    @service.method
    async def blocking() -> None:
        time.sleep(0.03)  # noqa: ASYNC251  # it is what is looked for

    async with Server(service, url="memory://blocked"), Client("memory://blocked", timeout=5) as client:
        await asyncio.sleep(0.003)
        await client.call("s.blocking")
    warnings = [each.getMessage() for each in caplog.records if each.name == "rpckit.watch"]
    assert [each for each in warnings if each.startswith("s.blocking blocks the event loop")]
