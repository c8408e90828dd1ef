"""A service as people write them all the same: what generated code must cope with."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

from pydantic import RootModel

from rpckit import RemoteError, Service


@dataclass(frozen=True)
class Point:
    x: int


class Tree(RootModel[dict[str, "Tree"]]): ...


class Timeout(RemoteError): ...


@dataclass
class Steps:
    """Four quotes: \"\"\"\" and a backslash \\."""

    pause: timedelta = timedelta(days=1, seconds=2)
    names: list[str] = field(default_factory=lambda: ["a", "b"])


async def fib(n: int) -> int:
    return n


def odd() -> Service:
    service = Service("odd", address="odd")

    async def points(some: set[Point]) -> set[Point]:
        return some

    async def tree(root: Tree) -> Tree:
        return root

    async def steps(
        some: Steps, /, pause: timedelta = timedelta(seconds=3), words: tuple[str, ...] = ("x", "y")
    ) -> str:
        return f"{some.names} {pause} {words}"

    async def placed(words: tuple[str, ...] = ("x", "y"), more: tuple[int, ...] = (1,), /) -> list[str]:
        return [*words, *map(str, more)]

    service.method(name="import", raises=[Timeout])(points)
    for name in ("call", "call_", "list"):
        service.method(name=name)(points)
    for method in (tree, steps, placed):
        service.method(method)
    return service
