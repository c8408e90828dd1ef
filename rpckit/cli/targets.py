"""TARGET → the contract: `MODULE:SERVICE` from source, or the address of a running service."""

from __future__ import annotations

import os

from rpckit.cli.services import find_service, put_on_path
from rpckit.errors import UsageError
from rpckit.schema import Document, contract_of

__all__ = ["contract_for"]


def contract_for(target: str, url: str | None = None, *, wait: float = 1.0) -> Document:
    """The contract that a target means. Raises `UsageError` for what cannot be found, `NoResponder` when nobody serves.

    wait: seconds for a running service to answer.
    """
    if ":" in target and "/" not in target:
        put_on_path(os.getcwd())
        return contract_of(find_service(target))
    raise UsageError(f"{target!r} is not MODULE:SERVICE, such as rpckit.demo.service:service")
