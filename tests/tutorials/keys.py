"""What a tutorial leaves in the Redis that all tests share."""

from __future__ import annotations

import redis

__all__ = ["delete_keys"]


def delete_keys(url: str, *addresses: str) -> None:
    """The keys of these addresses, and what lies beside them."""
    with redis.Redis.from_url(url) as server:
        for address in addresses:
            for key in [address, *server.scan_iter(f"rpckit:{{{address}}}:*")]:
                server.delete(key)
