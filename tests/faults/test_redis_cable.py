"""The cable is pulled: a network interface between us and Redis goes down, as no proxy can feign (row R12).

In a network namespace of its own, which takes root and `ip`. The links of the driver spun for ever here.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rpckit import Client, Server, Service
from rpckit._redis_server import find_redis_server
from rpckit.errors import RpcError
from tests.faults.conftest import Figure

pytestmark = [
    pytest.mark.timeout(60),
    pytest.mark.skipif(os.geteuid() != 0 or shutil.which("ip") is None, reason="needs root, and ip of iproute2"),
]

NAMESPACE, NEAR, FAR = "rpckit-cable", "rpckit-near", "rpckit-far"
HERE, THERE, PORT = "10.203.77.1", "10.203.77.2", "6379"
HEARTBEAT_S = 1.0
CALL_S = 1.5  # seconds a call may take
DEAD_S = 4.0  # seconds without the cable
MOST_CPU = 0.02  # share of a core while waiting: the promise
SLOW_MACHINE = 5.0  # the factor by which a loaded CI machine may miss it; a busy loop misses it by 50


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, timeout=10)


class Cable:
    def pull(self) -> None:
        ip("link", "set", NEAR, "down")

    def plug_in(self) -> None:
        ip("link", "set", NEAR, "up")


@pytest.fixture
def cable(tmp_path: Path) -> Iterator[Cable]:
    """Redis at the other end of it."""
    program = find_redis_server()
    assert program is not None
    try:
        ip("netns", "add", NAMESPACE)
    except subprocess.CalledProcessError:  # a container's root may not
        pytest.skip("no network namespace can be made here")
    try:
        ip("link", "add", NEAR, "type", "veth", "peer", "name", FAR, "netns", NAMESPACE)
        ip("addr", "add", f"{HERE}/30", "dev", NEAR)
        ip("-n", NAMESPACE, "addr", "add", f"{THERE}/30", "dev", FAR)
        ip("-n", NAMESPACE, "link", "set", FAR, "up")
        ip("link", "set", NEAR, "up")
        options = ["--bind", THERE, "--port", PORT, "--protected-mode", "no", "--save", "", "--dir", str(tmp_path)]
        command = ["ip", "netns", "exec", NAMESPACE, program, *options]
        with (tmp_path / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as redis:
            try:
                yield Cable()
            finally:
                redis.kill()
        ip("link", "del", NEAR)  # with its other end; the namespace would take its time over it
    finally:
        ip("netns", "del", NAMESPACE)


@pytest.mark.parametrize("kind", ["stream", "list", "pubsub"])
async def test_a_pulled_cable_is_survived(cable: Cable, kind: str, figure: Figure) -> None:
    """Every call ends in its time, waiting costs nothing, and the service is back soon after the cable."""
    service = Service("cable")

    @service.method(idempotent=True)
    async def double(n: int) -> int:
        return 2 * n

    url = f"redis+{kind}://{THERE}:{PORT}?heartbeat={HEARTBEAT_S}&connect_timeout=1"
    await _until_up()
    async with Server(service, url=url), Client(url, send_wait=0.5) as client:
        assert await client.call("cable.double", 1) == 2
        cable.pull()
        pulled = time.monotonic()
        await asyncio.gather(*(_ends_in_time(client) for _ in range(16)))
        await asyncio.sleep(max(0.0, 2.5 * HEARTBEAT_S - (time.monotonic() - pulled)))
        began, cpu = time.monotonic(), time.process_time()
        await asyncio.sleep(max(1.0, DEAD_S - (began - pulled)))
        share = (time.process_time() - cpu) / (time.monotonic() - began)
        cable.plug_in()
        plugged_in = time.monotonic()
        while not await _answered(client):
            assert time.monotonic() - plugged_in < 10
        figure(f"Redis, {kind}: cable pulled for {DEAD_S:g} s: until the first answer", time.monotonic() - plugged_in)
        figure(f"Redis, {kind}: share of a core without the cable", share)
        assert share < MOST_CPU * SLOW_MACHINE


async def _ends_in_time(client: Client) -> None:
    began = time.monotonic()
    with pytest.raises(RpcError):
        await client.call("cable.double", 21, timeout=CALL_S)
    assert time.monotonic() - began < CALL_S + 0.2


async def _answered(client: Client) -> bool:
    try:
        return bool(await client.call("cable.double", 21, timeout=0.5, idempotent=True) == 42)
    except RpcError:
        await asyncio.sleep(0.02)
        return False


async def _until_up() -> None:
    async with asyncio.timeout(10):
        while True:
            try:
                _, writer = await asyncio.open_connection(THERE, int(PORT))
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return
