"""The base of typed clients: a generated class adds a typed method for each of the service's."""

from __future__ import annotations

from dataclasses import replace
from types import TracebackType
from typing import Any, ClassVar, Self, TypeVar

from pydantic import TypeAdapter, ValidationError

from rpckit.client import Client
from rpckit.errors import BadReply

__all__ = ["TypedClient"]

T = TypeVar("T")


class TypedClient:
    """A client of the service at `address`.

    url, settings, dialect, middleware and overrides are those of `Client`; `client` shares one that exists.
    """

    address: ClassVar[str]

    def __init__(self, url: str | None = None, *, client: Client | None = None, **options: Any) -> None:
        self.client = client if client is not None else Client(url, **options)
        self._options = self.client.options
        self._owns_client = client is None

    async def __aenter__(self) -> Self:
        await self.client.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the client, unless it was given from outside."""
        if self._owns_client:
            await self.client.close()

    def using(self, **options: Any) -> Self:
        """The same client with other call options: timeout, headers, idempotent, no_server."""
        other = object.__new__(type(self))
        other.client, other._owns_client = self.client, False
        other._options = self._options.but(**options)
        return other

    async def _call(
        self,
        method: str,
        returns: TypeAdapter[T],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        *,
        idempotent: bool = False,
    ) -> T:
        options = replace(self._options, idempotent=True) if idempotent else self._options
        value = await self.client.invoke(self.address, method, args, kwargs or {}, options)
        try:
            return returns.validate_python(value)
        except ValidationError as error:
            problem = error.errors(include_url=False, include_input=False)[0]["msg"]
            raise BadReply(f"{self.address}.{method} returned something else than it promises: {problem}") from error
