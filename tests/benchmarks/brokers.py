"""What the contenders talk through: RabbitMQ, Redis, nats-server where it is installed, a free port for gRPC."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

from rpckit.testing.brokers import BrokerError, RabbitMq
from rpckit.testing.redis import Redis

from .contenders import Contender
from .processes import free_port

__all__ = ["Brokers", "brokers"]

NATS_STARTING = 10.0  # seconds
NATS_ENDING = 5.0  # seconds


class Brokers:
    """The URLs that contenders are given. Without nats-server, `nats` is None."""

    def __init__(self, amqp: str | None, redis: str | None, nats: str | None) -> None:
        self.amqp = amqp
        self.redis = redis
        self.nats = nats

    def url(self, contender: Contender) -> str | None:
        """The URL for a contender; None when its broker is not there."""
        if contender.broker == "none":
            query = f"?{contender.query}" if contender.query else ""
            return f"{contender.scheme}://127.0.0.1:{free_port()}{'/ws' if contender.scheme == 'ws' else ''}{query}"
        if contender.broker == "redis":
            return self.redis and _of_kind(self.redis, contender)
        return self.amqp if contender.broker == "amqp" else self.nats


@asynccontextmanager
async def brokers(contenders: list[Contender], amqp_url: str | None, redis_url: str | None) -> AsyncIterator[Brokers]:
    """Start what the contenders need and is not there yet; all that was started is stopped on leaving."""
    needed = {contender.broker for contender in contenders}
    async with AsyncExitStack() as stack:
        if "amqp" in needed and amqp_url is None:
            amqp_url = await _started(RabbitMq(), "--amqp-url", stack)
        if "redis" in needed and redis_url is None:
            redis_url = await _started(Redis(), "--redis-url", stack)
        nats_url = None
        if "nats" in needed and shutil.which("nats-server"):
            nats_url = await stack.enter_async_context(_nats_server())
        yield Brokers(amqp_url, redis_url, nats_url)


async def _started(broker: RabbitMq | Redis, option: str, stack: AsyncExitStack) -> str:
    try:
        return (await stack.enter_async_context(broker)).url
    except BrokerError as error:
        raise SystemExit(f"{error}\n({option} names a running broker)") from error


def _of_kind(url: str, contender: Contender) -> str:
    """A Redis URL with the contender's scheme and query; `rediss` stays so."""
    scheme, _, rest = url.partition("://")
    query = f"{'&' if '?' in rest else '?'}{contender.query}" if contender.query else ""
    return f"{scheme}+{contender.scheme.partition('+')[2]}://{rest}{query}"


@asynccontextmanager
async def _nats_server() -> AsyncIterator[str]:
    port = free_port()
    quiet = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(
        "nats-server", "-a", "127.0.0.1", "-p", str(port), stdout=quiet, stderr=quiet
    )
    try:
        await asyncio.wait_for(_accepts(port), NATS_STARTING)
        yield f"nats://127.0.0.1:{port}"
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), NATS_ENDING)
        except TimeoutError:
            process.kill()


async def _accepts(port: int) -> None:
    """Return once something listens on the port."""
    while True:
        with suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return
        await asyncio.sleep(0.05)
