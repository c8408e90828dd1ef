"""A Sentinel failover, of a killed and of a frozen master: the service comes back at the new one by itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from rpckit import Client, Server, Service
from rpckit.errors import RpcError, UsageError
from rpckit.testing import Redis
from rpckit.url import Url
from rpckit_redis._sentinel import find_master
from tests.faults.conftest import Figure

pytestmark = pytest.mark.timeout(120)

DOWN_AFTER_S = 0.5  # what the sentinels wait before they call a master down
FAILOVER_S = 20.0  # seconds; two or three on two cores
KNOWN_S = 20.0  # seconds for sentinels to find each other and the replica


class Sentinel(Redis):
    def __init__(self, master: Redis) -> None:
        super().__init__(
            config={
                "sentinel monitor tested": f"127.0.0.1 {master.port} 2",
                "sentinel down-after-milliseconds tested": str(int(DOWN_AFTER_S * 1000)),
                "sentinel failover-timeout tested": "3000",
            }
        )

    def _arguments(self, home: Path) -> Sequence[str]:
        return (*super()._arguments(home), "--sentinel")


class Group:
    """A master, its replica and three sentinels that know each other."""

    def __init__(self, stack: ExitStack) -> None:
        self.master = stack.enter_context(Redis())
        self.replica = stack.enter_context(Redis(config={"replicaof": f"127.0.0.1 {self.master.port}"}))
        _wait(lambda: "master_link_status:up" in str(self.replica.ctl("INFO", "replication")), "the replica")
        self.sentinels = [stack.enter_context(Sentinel(self.master)) for _ in range(3)]
        _wait(lambda: all(self._is_ready(each) for each in self.sentinels), "the sentinels")
        hosts = ",".join(f"127.0.0.1:{each.port}" for each in self.sentinels)
        self.url = f"redis+sentinel+stream://{hosts}/tested"

    @staticmethod
    def _is_ready(sentinel: Redis) -> bool:
        return "slaves=1,sentinels=3" in str(sentinel.ctl("INFO", "sentinel"))


@pytest.fixture
def group() -> Iterator[Group]:
    with ExitStack() as stack:
        yield Group(stack)


@pytest.mark.parametrize("how", ["killed", "frozen"])
async def test_a_failover_is_survived(group: Group, how: str, figure: Figure) -> None:
    service = Service("tested")

    @service.method(idempotent=True)
    async def double(n: int) -> int:
        return 2 * n

    url = f"{group.url}?heartbeat=1"
    async with Server(service, url=url), Client(url) as client:
        assert await client.call("tested.double", 1) == 2
        began = time.monotonic()
        await asyncio.to_thread(group.master.kill if how == "killed" else group.master.freeze)
        try:
            await _until_answered(client, began + FAILOVER_S)
            figure(f"Sentinel failover of a {how} master: until the first answer", time.monotonic() - began)
            found = await find_master(Url.parse(group.url), None)
            assert found.port == group.replica.port
        finally:
            group.master.thaw()


async def _until_answered(client: Client, end: float) -> None:
    """Calls that fail do so with an error of ours and in their time; one comes through before `end`."""
    while True:
        began = time.monotonic()
        try:
            assert await client.call("tested.double", 21, timeout=1, idempotent=True) == 42
            return
        except RpcError:
            assert time.monotonic() - began < 1.5
            assert time.monotonic() < end, "no failover"
            await asyncio.sleep(0.05)


async def test_what_is_no_master_is_refused(group: Group) -> None:
    with pytest.raises(RpcError, match="no sentinel knows a master of 'other'"):
        await Client(group.url.replace("/tested", "/other")).connect()
    with pytest.raises(RpcError, match="is a replica"):
        await Client(group.replica.url).connect()


async def test_a_url_without_a_service_is_refused() -> None:
    with pytest.raises(UsageError, match="names its service"):
        Client("redis+sentinel+stream://localhost")


def _wait(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + KNOWN_S
    while not condition():
        assert time.monotonic() < end, f"{what} did not come up"
        time.sleep(0.1)
