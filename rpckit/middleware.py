"""Hooks around calls (client) and handlers (server): ``async def m(context, call_next)``.

``call_next(context)`` runs the rest and returns its value; a middleware may call it again (a
retry), or not at all. The first in the list is the outermost.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from rpckit.errors import UsageError

__all__ = ["Middleware", "compose"]

C = TypeVar("C")
CallNext = Callable[[C], Awaitable[Any]]
Middleware = Callable[[C, CallNext[C]], Awaitable[Any]]


def compose(middleware: Sequence[Middleware[C]], terminal: CallNext[C]) -> CallNext[C]:
    """One function that runs `middleware` around `terminal`; `terminal` itself when there is none.

    Raises `UsageError` for what cannot be one.
    """
    if not isinstance(middleware, Sequence):
        raise UsageError(f"middleware is a list of `async def m(context, call_next)`; {middleware!r:.80} is none")
    chain = terminal
    for layer in reversed(middleware):
        _check(layer)
        chain = partial(_step, layer, chain)
    return chain


def _check(layer: Any) -> None:
    try:
        inspect.signature(layer).bind("context", "call_next")
    except (TypeError, ValueError) as error:
        raise UsageError(f"middleware is `async def m(context, call_next)`; {layer!r:.80} is not: {error}") from error


def _step(layer: Middleware[C], following: CallNext[C], context: C) -> Awaitable[Any]:
    return layer(context, following)
