"""Where it was measured: cores, Python, and the versions of what took part."""

import asyncio
import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version

import aioamqp
from redis.asyncio import from_url
from redis.exceptions import RedisError

__all__ = ["describe"]

DISTRIBUTIONS = (
    "rpckit",
    "aioamqp",
    "pamqp",
    "aio-pika",
    "aiormq",
    "faststream",
    "redis",
    "hiredis",
    "grpcio",
    "nats-py",
    "uvloop",
)
ASKING = 10.0  # seconds to ask the broker for its version


async def describe(amqp_url: str | None, redis_url: str | None) -> dict[str, object]:
    """Nothing in it names the machine or its user. Ends the program when a broker cannot be reached."""
    brokers = [await _rabbitmq(amqp_url)] if amqp_url else []
    brokers += [await _redis(redis_url)] if redis_url else []
    return {
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "processor": _processor(),
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {sys.version.split()[0]}",
        "load_before": [round(load, 2) for load in os.getloadavg()],
        "versions": {name: found for name in DISTRIBUTIONS if (found := _version(name))},
        "broker": ", ".join(brokers) or None,
    }


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as info:
            names = [line.partition(":")[2].strip() for line in info if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.machine()


async def _rabbitmq(url: str) -> str:
    """Product and version from the broker's handshake."""
    try:
        async with asyncio.timeout(ASKING):
            _, protocol = await aioamqp.from_url(url)
            said = protocol.server_properties
            await protocol.close(timeout=2)
    except (OSError, TimeoutError, aioamqp.AioamqpException) as error:
        raise SystemExit(f"RabbitMQ did not let us in ({type(error).__name__}); is --amqp-url right?") from error
    return f"{said.get('product', 'unknown')} {said.get('version', '')}".strip()


async def _redis(url: str) -> str:
    """Redis or Valkey, and its version."""
    try:
        async with asyncio.timeout(ASKING), from_url(url) as client:
            said = await client.info("server")
    except (OSError, TimeoutError, RedisError) as error:
        raise SystemExit(f"Redis did not let us in ({type(error).__name__}); is --redis-url right?") from error
    return f"Valkey {said['valkey_version']}" if "valkey_version" in said else f"Redis {said['redis_version']}"
