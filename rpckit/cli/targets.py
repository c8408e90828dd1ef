"""TARGET → the contract: `MODULE:SERVICE` from source, or the address of a running service."""

from __future__ import annotations

import os
import re

from rpckit.cli.asking import ask
from rpckit.cli.contract_file import problem_in
from rpckit.cli.services import find_service, put_on_path, references_there
from rpckit.errors import BadReply, NoResponder, NotSent, UsageError
from rpckit.schema import Document, contract_of

__all__ = ["WAIT", "contract_for", "running_contract"]

WAIT = 3.0  # seconds for the first of the running servers to answer
_FILE = re.compile(r"\.py(:\w+)?$")  # meant as source, and refused as that
_SOURCE = re.compile(r"(?!(list|stream|channel):)[A-Za-z_][\w.]*:\w+")  # an address may name its kind: list:orders


def contract_for(target: str, url: str | None = None, *, wait: float = WAIT) -> Document:
    """The contract that a target means. Raises `UsageError` for a wrong one, `NoResponder` when nobody serves it."""
    if _SOURCE.fullmatch(target) or _FILE.search(target):
        put_on_path(os.getcwd())
        return contract_of(find_service(target))
    try:
        return running_contract(target, url, wait)
    except (NoResponder, NotSent, UsageError) as error:
        if url is None and (meant := references_there(f"{target}:")):
            error.add_note(f"{target} is a module here: is that {' or '.join(meant)}?")
        raise


def running_contract(address: str, url: str | None, wait: float) -> Document:
    """What the first to answer says. Raises `NoResponder`, and `BadReply` for what is no contract."""
    answer, *_ = ask(url, "schema", address, wait, first=True)
    contracts = answer.content.get("contracts") or [{}]
    if problem := problem_in(contracts[0]):
        who = f"{answer.instance.host}:{answer.instance.pid}, with rpckit {answer.instance.rpckit or 'unknown'}"
        raise BadReply(f"what {who} answers for {address!r} is not a contract: {problem}")
    contract: Document = contracts[0]
    return contract
