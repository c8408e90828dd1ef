"""What can go wrong with a call, and what that says about whether it ran.

Every call ends in a result or in exactly one of these; none looks like another::

    RpcError
    ├─ NotSent            nothing left this process (not connected, too many pending, blocked by the broker)
    ├─ NoResponder        nobody serves that address
    ├─ Overloaded         the server refused it, with retry_after
    ├─ Expired            the server found it too late and did not begin
    ├─ OutcomeUnknown     it was sent, and may have run
    │   ├─ ConnectionLost
    │   └─ DeadlineExceeded      also a TimeoutError
    ├─ RemoteError        the other side's fault
    │   ├─ MethodNotFound · InvalidArgument · PermissionDenied
    │   └─ RemoteCancelled · UnencodableResult · InternalError
    ├─ BadReply           a reply came that cannot be read
    └─ UsageError         ours: URL, option, argument, contract

The first four did not run on the other side and may be sent again (`DID_NOT_RUN`).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, ClassVar

__all__ = [
    "DID_NOT_RUN",
    "BadReply",
    "Code",
    "ConnectionLost",
    "DeadlineExceeded",
    "Expired",
    "InternalError",
    "InvalidArgument",
    "MethodNotFound",
    "NoResponder",
    "NotSent",
    "OutcomeUnknown",
    "Overloaded",
    "PermissionDenied",
    "RemoteCancelled",
    "RemoteError",
    "RpcError",
    "UnencodableResult",
    "UsageError",
]


class Code(StrEnum):
    """The fault codes on the wire: gRPC's names, so that people know them already."""

    CANCELLED = "CANCELLED"
    UNKNOWN = "UNKNOWN"
    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    NOT_FOUND = "NOT_FOUND"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
    FAILED_PRECONDITION = "FAILED_PRECONDITION"
    ABORTED = "ABORTED"
    OUT_OF_RANGE = "OUT_OF_RANGE"
    UNIMPLEMENTED = "UNIMPLEMENTED"
    INTERNAL = "INTERNAL"
    UNAVAILABLE = "UNAVAILABLE"
    DATA_LOSS = "DATA_LOSS"
    UNAUTHENTICATED = "UNAUTHENTICATED"


class RpcError(Exception):
    """The root: every error rpckit raises is one of these."""


class NotSent(RpcError):
    """It was not taken: not connected in time, too many calls pending, or refused by the broker. It did not run."""


class NoResponder(RpcError):
    """Nobody serves that address. The call did not run."""


class Overloaded(RpcError):
    """The server refused the call before running it.

    `retry_after` is in seconds; None when the server named no time.
    """

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Expired(RpcError):
    """The server found the call after its deadline and did not begin it."""


class OutcomeUnknown(RpcError):
    """The call was sent and may have run; only an idempotent call may be sent again."""


class ConnectionLost(OutcomeUnknown):
    """The connection dropped while the call was pending."""


class DeadlineExceeded(OutcomeUnknown, TimeoutError):
    """No reply came within the call's time, or the server stopped it when its time was up."""


class RemoteError(RpcError):
    """The other side ran into a fault and said so.

    Raise it (or a subclass) in a handler to choose what the caller sees; any other exception
    reaches the caller as `InternalError` with an id that the server logged.

    code:      one of `Code`, as a string; foreign servers may send others.
    type:      the exception's name on the other side.
    details:   plain data about the fault, or None.
    retryable: the other side says that trying again may help.
    error_id:  joins this error to the server's log record; None for errors raised on purpose.
    """

    default_code: ClassVar[str] = Code.UNKNOWN

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        type: str | None = None,
        details: Mapping[str, Any] | None = None,
        retryable: bool = False,
        error_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = str(message)  # people also raise them with the error they caught
        self.code = str(code or self.default_code)
        self.type = type or self.__class__.__name__
        self.details = details
        self.retryable = retryable
        self.error_id = error_id

    def __str__(self) -> str:
        reference = f" (error id {self.error_id})" if self.error_id else ""
        named = self.type != self.__class__.__name__ and self.type.isidentifier()  # else a traceback has its name
        kind = f"{self.type} ({self.code})" if named else self.code
        return f"{kind}: {self.message}{reference}"


class MethodNotFound(RemoteError):
    """The service has no method of that name."""

    default_code = Code.UNIMPLEMENTED


class InvalidArgument(RemoteError):
    """The arguments do not fit the method; `details["errors"]` names each one."""

    default_code = Code.INVALID_ARGUMENT


class PermissionDenied(RemoteError):
    """The caller may not do this."""

    default_code = Code.PERMISSION_DENIED


class RemoteCancelled(RemoteError):
    """The work was cancelled on the other side, and not by this caller."""

    default_code = Code.CANCELLED


class UnencodableResult(RemoteError):
    """The method ran, but its result cannot be put on the wire."""

    default_code = Code.DATA_LOSS


class InternalError(RemoteError):
    """The handler raised something unexpected; `error_id` finds it in the server's log."""

    default_code = Code.INTERNAL


class BadReply(RpcError):
    """A reply came that cannot be read, is too large, or is not what a typed client was promised."""


class UsageError(RpcError):
    """Our own mistake: a URL, an option, an argument or a contract that cannot work."""


DID_NOT_RUN = (NotSent, NoResponder, Overloaded, Expired)
