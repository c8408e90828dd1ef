"""The base of typed clients: a generated class adds a typed method for each of the service's."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from types import TracebackType
from typing import Any, ClassVar, Self, TypeVar

from pydantic import TypeAdapter, ValidationError

from rpckit.call import UNSET, CallOptions, Timeout
from rpckit.client import Client
from rpckit.codec import OMITTED
from rpckit.compare import compare_method
from rpckit.errors import BadReply, DeadlineExceeded, InvalidArgument, MethodNotFound, RemoteError, UsageError
from rpckit.fault import changed_contract
from rpckit.message import CONTRACT_HEADER, NATIVE
from rpckit.schema import Document, expanded, method_fingerprint

__all__ = ["OMITTED", "UNSET", "Headers", "Timeout", "TypedClient"]

T = TypeVar("T")
Headers = Mapping[str, str] | None  # the user's own; None for those of `using`


class TypedClient:
    """A client of the service at `address`.

    url, settings, dialect, middleware and overrides are those of `Client`; `client` shares one that exists.

    A generated class has the `contract` it was made of, as JSON. The first call of each method asks the server whether
    that still holds; a breaking change is a `UsageError` that names it, and the call did not run.
    """

    address: ClassVar[str]
    contract: ClassVar[str] = ""
    errors: ClassVar[Mapping[str, type[RemoteError]]] = {}  # declared ones: raised as themselves

    def __init__(self, url: str | None = None, *, client: Client | None = None, **options: Any) -> None:
        self.client = client if client is not None else Client(url, **options)
        self._options = self.client.options
        self._owns_client = client is None
        self._agreed: set[str] = set()  # methods whose contract the server has confirmed

    async def __aenter__(self) -> Self:
        try:
            await self.client.connect()
        except BaseException:  # cancelled too: what goes on connecting would have no owner
            await self.close()
            raise
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
        other.client, other._owns_client, other._agreed = self.client, False, self._agreed
        other._options = self._options.but(**options)
        return other

    async def _call(
        self,
        method: str,
        returns: TypeAdapter[T],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        *,
        timeout: Timeout = UNSET,
        headers: Headers = None,
        idempotent: bool = False,
    ) -> T:
        options = self._options.but(timeout, headers, idempotent or None)
        try:
            value = await self._invoke(method, _sent(args), _given(kwargs), options)
        except RemoteError as error:
            raise self._as_declared(method, error) from error.__cause__
        try:
            return returns.validate_python(value)
        except ValidationError as error:
            self._agreed.discard(method)
            problem = error.errors(include_url=False, include_input=False)[0]["msg"]
            raise BadReply(f"{self.address}.{method} returned something else than it promises: {problem}") from error

    async def _invoke(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any], options: CallOptions) -> Any:
        """Refused because of an additive change, it is called once more, in what is left of its time."""
        if method in self._agreed or not self.contract or self.client.transport.options.form != NATIVE:
            return await self.client.invoke(self.address, method, args, kwargs, options)
        fingerprint = _fingerprint(self.contract, method)
        asking = replace(options, headers={**options.headers, CONTRACT_HEADER: fingerprint})
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            value = await self.client.invoke(self.address, method, args, kwargs, asking)
        except RemoteError as error:
            if (theirs := changed_contract(error)) is None:
                raise
        else:
            self._agreed.add(method)
            return value
        self._check(method, theirs)  # apart from the refusal: what is said now is the whole story
        left = None if options.timeout is None else options.timeout - (clock() - began)
        if left is not None and left <= 0:
            raise DeadlineExceeded(f"{self.address}.{method} had no time left once its contract was compared")
        return await self.client.invoke(self.address, method, args, kwargs, options.but(left))

    async def _notify(
        self,
        method: str,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        *,
        timeout: Timeout = UNSET,
        headers: Headers = None,
        idempotent: bool = False,
    ) -> None:
        """Its contract is not asked for: there is nobody to answer."""
        options = self._options.but(timeout, headers, idempotent or None)
        await self.client.notify_at(self.address, method, _sent(args), _given(kwargs), options)

    def _check(self, method: str, theirs: Document) -> None:
        """Agree to an additive change. Raises `UsageError` for a breaking one, `BadReply` for what is no contract."""
        try:
            changes = compare_method(_loaded(self.contract), theirs, method)
        except Exception as error:  # it is not ours, and may be anything
            problem = f"{type(error).__name__}: {error!s:.200}"
            raise BadReply(f"{self.address} has another contract, which cannot be read: {problem}") from error
        breaking = [str(change) for change in changes if change.breaking]
        if breaking:
            raise UsageError(
                f"the contract of {self.address} has changed since {type(self).__name__} was generated: "
                f"{'; '.join(breaking[:5])}. Nothing ran; generate the client again"
            )
        self._agreed.add(method)

    def _as_declared(self, method: str, error: RemoteError) -> RemoteError:
        """A declared error as its own class. What says that the contract does not fit has it asked again."""
        if isinstance(error, InvalidArgument | MethodNotFound):
            self._agreed.discard(method)
        kind = self.errors.get(error.type)
        if kind is None:
            return error
        return kind(
            error.message,
            code=error.code,
            type=error.type,
            details=error.details,
            retryable=error.retryable,
            error_id=error.error_id,
        )


def _sent(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments without those left out at the end. Raises `UsageError` for one left out before another."""
    while args and args[-1] is OMITTED:
        args = args[:-1]
    if any(each is OMITTED for each in args):
        raise UsageError(f"argument {args.index(OMITTED) + 1} must be given: one behind it is, and they have no names")
    return args


def _given(kwargs: Mapping[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in (kwargs or {}).items() if value is not OMITTED}


@cache
def _loaded(contract: str) -> Document:
    return expanded(json.loads(contract))


@cache
def _fingerprint(contract: str, method: str) -> str:
    return method_fingerprint(_loaded(contract), method)
