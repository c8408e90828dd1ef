"""TARGET → the contract: `MODULE:SERVICE` from source, or the address of a running service."""

from __future__ import annotations

import os
import re

from rpckit.cli.asking import ask
from rpckit.cli.services import find_service, put_on_path
from rpckit.errors import UsageError
from rpckit.schema import Document, contract_of

__all__ = ["WAIT", "contract_for"]

WAIT = 3.0  # seconds for the first of the running servers to answer
_SOURCE = re.compile(r"(?!(list|stream|channel):)[A-Za-z_][\w.]*:\w+")  # an address may name its kind: list:orders


def contract_for(target: str, url: str | None = None, *, wait: float = WAIT) -> Document:
    """The contract that a target means. Raises `UsageError` for a wrong one, `NoResponder` when nobody serves it."""
    if target.endswith(".py"):
        name = target.removesuffix(".py").replace("/", ".")
        raise UsageError(f"{target} is a file: name the service in it, such as {name}:service")
    if _SOURCE.fullmatch(target):
        put_on_path(os.getcwd())
        return contract_of(find_service(target))
    answer, *_ = ask(url, "schema", target, wait, first=True)
    contract: Document = answer.content["contracts"][0]
    return contract
