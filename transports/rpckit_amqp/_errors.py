"""The one place where what the driver and the broker say becomes an error of ours."""

from __future__ import annotations

import re
import sys

from rpckit.errors import NotSent, RpcError, UsageError
from rpckit.redial import CredentialsRefused

from ._driver import CloseReason

__all__ = [
    "ACCESS_REFUSED",
    "NOT_FOUND",
    "PRECONDITION_FAILED",
    "UNTOLD",
    "Refused",
    "has_crashed",
    "refused_connection",
    "told_limit",
    "too_large",
]

ACCESS_REFUSED, NOT_FOUND, PRECONDITION_FAILED, NOT_ALLOWED, INTERNAL_ERROR = 403, 404, 406, 530, 541
UNTOLD = sys.maxsize  # bytes of a body: the limit of a broker that has refused none
_TOO_LARGE = re.compile(rf"{PRECONDITION_FAILED} PRECONDITION_FAILED - message size \d+ .*larger than .*max size (\d+)")


class Refused(UsageError):
    """The broker closed a channel over what was asked of it."""

    def __init__(self, reason: CloseReason, what: str) -> None:
        super().__init__(f"RabbitMQ refused {what}: {reason}{_advice(reason, what)}")
        self.code = reason.code


def refused_connection(
    where: str, username: str, vhost: str, reason: CloseReason | None, cause: BaseException
) -> RpcError:
    """Why a connection was not opened: `UsageError` when trying again cannot help."""
    if reason is None or not reason.code:
        detail = reason.text if reason is not None else (str(cause) or type(cause).__name__)
        return NotSent(f"cannot connect to {where}: {detail}")
    if reason.code == ACCESS_REFUSED:
        mend = f"check user and password in the URL, or its rights: rabbitmqctl list_permissions -p {vhost}"
        return CredentialsRefused(f"{where} refused user {username!r} for vhost {vhost!r}: {mend}; it said: {reason}")
    if reason.code == NOT_ALLOWED and "limit" not in reason.text:  # a limit of connections passes
        mend = "or user {username!r} may not use it; a slash in its name is written as %2F"
        return UsageError(f"{where} has no vhost {vhost!r}, {mend.format(username=username)}; it said: {reason}")
    return NotSent(f"{where} closed the connection: {reason}")


def told_limit(why: str) -> int:
    """Bytes of a body that the broker takes, if it ended the connection over a larger one; else `UNTOLD`."""
    told = _TOO_LARGE.search(why)
    return UNTOLD if told is None else int(told[1])


def has_crashed(why: str) -> bool:
    """Whether the broker failed over something that was sent, and ended the connection."""
    return why.startswith(f"{INTERNAL_ERROR} ")


def too_large(size: int, most: int) -> UsageError:
    return UsageError(
        f"the body has {size} bytes; this broker takes {most}: "
        "raise its max_message_size and connect anew, or send less"
    )


def _advice(reason: CloseReason, what: str) -> str:
    if reason.code == PRECONDITION_FAILED:
        return "; delete the queue (rabbitmqctl delete_queue NAME) or say ?declare= as it was declared"
    if reason.code == ACCESS_REFUSED and "exclusive use" not in reason.text:
        return "; give the user the right with rabbitmqctl set_permissions"
    return ""
