"""Names that generated code uses itself, that are words of some language, or that are no identifiers."""

from __future__ import annotations

from datetime import datetime
from enum import Enum
from typing import Any

from pydantic import BaseModel, Field

from rpckit import RemoteError, Service

__all__ = ["service"]


class Promise(BaseModel):
    call: int = Field(alias="no identifier")


class DateTime(Enum):
    default = "default"
    function = 1.5


class Client(RemoteError):
    """`${code}` and */ and // in a comment."""


class ErrorKind(RemoteError):
    pass


service = Service("3 names", doc="*/ export {}; /*")


async def constructor(client: Promise, call: DateTime, this: datetime, /) -> Promise | None: ...
async def close(given: list[Promise | None], options: tuple[int, ...] = (), arguments: int = 1) -> None: ...
async def owned(new: dict[str, list[int | str]], ERRORS: tuple[()] = ()) -> set[Promise]: ...
async def call(é: Any = "*/") -> Promise: ...


for method in (constructor, close, owned, call):
    service.method(raises=[Client, ErrorKind], deprecated="*/ no")(method)
