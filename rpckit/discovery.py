"""What a side offers, as an OpenRPC document: the answer to `rpc.discover` on a session. Pure.

`rpc.` is the prefix that JSON-RPC 2.0 keeps for such methods.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rpckit.contract import Service
from rpckit.schema import contract_of

__all__ = ["ADDRESS", "describe", "discovery"]

ADDRESS = "rpc"


def discovery(services: Sequence[Service]) -> Service:
    """A service whose `discover` describes the others."""
    service = Service("discovery", address=ADDRESS)

    @service.method
    async def discover() -> dict[str, Any]:
        """The methods that can be called here."""
        return describe(services)

    return service


def describe(services: Sequence[Service]) -> dict[str, Any]:
    """The OpenRPC document of some services."""
    from rpckit.documents import openrpc  # few are asked: starting need not wait for it

    return openrpc([contract_of(service) for service in services])
