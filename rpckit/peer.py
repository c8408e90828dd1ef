"""The other end as an object: its methods are attributes."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any

from rpckit.call import UNSET, CallOptions, NoServer, Timeout
from rpckit.contract import check_method_name

if TYPE_CHECKING:
    from rpckit.client import Client

__all__ = ["Peer"]


class Peer:
    """A service at an address: ``peer.fib(30)``, ``peer.call(30)``, ``peer.using(timeout=3).fib(30)``."""

    def __init__(self, client: Client, address: str, options: CallOptions, to: str = "") -> None:
        self._client = client
        self._address = address
        self._options = options
        self._to = to

    def __getattr__(self, method: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        if method.startswith("__"):
            raise AttributeError(method)

        # read once: on a class with `__getattr__` each attribute takes the long way
        invoke, address, options, to = self._client.invoke, self._address, self._options, self._to

        def call(*args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
            return invoke(address, method, args, kwargs, options, to)

        return call

    async def call(self, *args: Any, **kwargs: Any) -> Any:
        """Call the service's only method, or its default one. Raises and cancelling as `Client.call`."""
        return await self._client.invoke(self._address, "", args, kwargs, self._options, self._to)

    async def invoke(self, method: str, /, *args: Any, **kwargs: Any) -> Any:
        """Call the method of that name, where the name is a value. Raises `UsageError` for what cannot be one."""
        return await self._client.invoke(
            self._address, check_method_name(method), args, kwargs, self._options, self._to
        )

    async def notify(self, method: str, /, *args: Any, **kwargs: Any) -> None:
        """The same without waiting for its end, as `Client.notify`; "" is the only method, or the default one.

        A plain peer knows no methods: it is left out.
        """
        name = "" if method == "" else check_method_name(method)
        await self._client.notify_at(self._address, name, args, kwargs, self._options, self._to)

    def using(
        self,
        *,
        timeout: Timeout = UNSET,
        headers: Mapping[str, str] | None = None,
        idempotent: bool | None = None,
        no_server: NoServer | None = None,
    ) -> Peer:
        """The same peer with other call options, kept apart from the arguments."""
        return Peer(self._client, self._address, self._options.but(timeout, headers, idempotent, no_server), self._to)

    def __repr__(self) -> str:
        return f"<Peer {self._address!r} on {self._client.url}>"
