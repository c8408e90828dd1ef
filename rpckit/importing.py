"""The module that a command imports to look at its services. What serves meanwhile would not let the import end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["being_imported", "importing"]

_module: ContextVar[str] = ContextVar("rpckit_module", default="")  # asyncio.run, and its tasks, inherit it


def being_imported() -> str:
    """The name of the module; empty when none is."""
    return _module.get()


@contextmanager
def importing(module: str) -> Iterator[None]:
    token = _module.set(module)
    try:
        yield
    finally:
        _module.reset(token)
