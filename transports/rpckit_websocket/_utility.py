"""The methods that fastapi_websocket_rpc calls `RpcUtilityMethods`, as a service to expose beside one's own."""

from __future__ import annotations

import asyncio
import os
import sys
from collections import OrderedDict
from typing import Any

from rpckit.context import Context
from rpckit.contract import Service
from rpckit.errors import RemoteError, RpcError
from rpckit.ids import new_id

__all__ = ["RpcUtilityMethods"]

MAX_KEPT = 1024  # calls back whose responses wait to be asked for; the oldest leave
CALL_BACK_S = 30.0  # seconds for one of them


class RpcUtilityMethods(Service):
    """`get_process_details`, `echo`, `call_me_back` and `get_response`.

    They tell strangers the command line and let them call back: for tests and trusted peers.
    """

    def __init__(self, name: str = "utility") -> None:
        super().__init__(name)
        self._kept: OrderedDict[str, asyncio.Task[Any]] = OrderedDict()
        for method in (self.get_process_details, self.echo, self.call_me_back, self.get_response):
            self.method(method)

    async def get_process_details(self) -> dict[str, Any]:
        return {"pid": os.getpid(), "cmd": sys.argv, "workingdir": os.getcwd()}

    async def echo(self, text: str) -> str:
        return text

    async def call_me_back(self, context: Context, method_name: str = "", args: dict[str, Any] | None = None) -> str:
        """Call a method of the caller's, later; the id under which `get_response` finds what came of it."""
        call_id = new_id()
        call = context.other.using(timeout=CALL_BACK_S).invoke(method_name, **(args or {}))
        self._kept[call_id] = asyncio.create_task(_response(call_id, call))
        while len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)[1].cancel()
        return call_id

    async def get_response(self, call_id: str = "") -> dict[str, Any]:
        task = self._kept.pop(call_id, None)
        if task is None:
            raise RemoteError(f"no call back with the id {call_id[:40]!r}", code="NOT_FOUND")
        response: dict[str, Any] = await task
        return response


async def _response(call_id: str, call: Any) -> dict[str, Any]:
    try:
        result = await call
    except RpcError as error:
        return {"result": str(error), "result_type": "error", "call_id": call_id}
    return {"result": result, "result_type": type(result).__name__, "call_id": call_id}
