"""The one place where what Redis says becomes an error of ours."""

from __future__ import annotations

from typing import Any

import hiredis

from rpckit.errors import ConnectionLost, NotSent, Overloaded, RpcError, UsageError
from rpckit.redial import CredentialsRefused

__all__ = ["explain", "is_error", "kind_of"]

RETRY_AFTER_S = 1.0  # what a full Redis asks its callers to wait

_PASSING = {"LOADING", "BUSY", "MASTERDOWN", "READONLY", "MISCONF", "NOREPLICAS", "TRYAGAIN", "CLUSTERDOWN"}


def is_error(reply: Any) -> bool:
    """Whether a reply is an error of Redis, or the loss of the connection in its place."""
    return isinstance(reply, Exception)


def kind_of(error: Exception) -> str:
    """The first word of an error of Redis: WRONGTYPE, OOM, NOGROUP …"""
    return str(error).partition(" ")[0] if isinstance(error, hiredis.ReplyError) else ""


def explain(error: Exception, what: str) -> RpcError:
    """The error of ours for a reply that is one: what it did not do, and why."""
    if isinstance(error, ConnectionLost):
        return ConnectionLost(str(error))  # one for each who is told: a shared one would collect all their tracebacks
    if isinstance(error, RpcError):
        return error
    if not isinstance(error, hiredis.ReplyError):
        return ConnectionLost(f"{what}: {error}")
    kind = kind_of(error)
    if kind == "OOM":
        return Overloaded(f"{what}: Redis is out of memory", retry_after=RETRY_AFTER_S)
    if kind in ("WRONGPASS", "NOAUTH", "ERR") and "password" in str(error):
        return CredentialsRefused(f"{what}: {error}; check user and password in the URL")
    if kind == "NOPERM":
        return UsageError(f"{what}: {error}; give the user the right with ACL SETUSER")
    if kind in _PASSING:
        return NotSent(f"{what}: {error}")
    return UsageError(f"{what}: Redis refused it: {error}")
