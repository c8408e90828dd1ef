"""Where the master is, asked of Redis Sentinel: `redis+sentinel+stream://h1,h2:26379/service/0`.

Only the question is redis-py's; the connection to the master is ours, and asks again each time it is dialled.
"""

from __future__ import annotations

from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import MasterNotFoundError, Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from rpckit.errors import NotSent, UsageError
from rpckit.url import Host, Url

__all__ = ["find_master", "is_sentinel", "service_of"]

PORT = 26379
ANSWER_S = 1.0  # seconds for one sentinel to answer; then the next is asked


def is_sentinel(url: Url) -> bool:
    return "+sentinel" in url.scheme


def service_of(url: Url) -> tuple[str, str]:
    """The name of the service in a URL's path, and what follows it: the database. Raises `UsageError`."""
    name, _, database = (url.path or "").partition("/")
    if not name:
        raise UsageError("a Sentinel URL names its service: redis+sentinel+stream://host1,host2/service")
    return name, database


async def find_master(url: Url, password: str | None) -> Host:
    """The master of the URL's service now. Raises `NotSent` when no sentinel knows one."""
    name, _ = service_of(url)
    addresses = [(host.name, host.port or PORT) for host in url.hosts or (Host("localhost"),)]
    asked = Sentinel(  # type: ignore[no-untyped-call]  # the driver's is not annotated
        addresses,
        sentinel_kwargs={
            "password": password,
            "socket_timeout": ANSWER_S,
            "socket_connect_timeout": ANSWER_S,
            "retry": Retry(NoBackoff(), 0),  # the driver would try for seconds; we dial again by ourselves
        },
    )
    try:
        host, port = await asked.discover_master(name)
    except MasterNotFoundError as error:
        raise NotSent(f"{url}: no sentinel knows a master of {name!r}: {error}") from None
    except (RedisError, OSError) as error:
        raise NotSent(f"{url}: asking the sentinels for {name!r} failed: {error}") from error
    finally:
        for sentinel in asked.sentinels:
            await sentinel.aclose()
    return Host(str(host), int(port))
