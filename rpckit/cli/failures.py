"""What a failure says on the terminal, and its exit code.

One or two sentences on stderr: what failed and where (the error's own words), then what to do next.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import typer
from pydantic_core import to_json
from rich.console import Console
from rich.text import Text

from rpckit import errors
from rpckit.errors import (
    BadReply,
    ConnectionLost,
    DeadlineExceeded,
    Expired,
    InternalError,
    NoResponder,
    NotSent,
    OutcomeUnknown,
    Overloaded,
    RemoteError,
    RpcError,
    UsageError,
)

__all__ = ["Failure", "describe", "exit_code", "reported", "show"]

REMOTE, USAGE, NO_RESPONDER, DEADLINE, NOT_SENT, UNKNOWN = 1, 2, 3, 4, 5, 6
NOT_SERVED = "Nothing is served. Is the broker running, or over ws:// the port free?"
INTERRUPTED = 130  # 128 + SIGINT, as shells have it


class Failure(NamedTuple):
    """How errors of a class are shown. `advice`: what to do next; empty where the message says it."""

    kind: type[RpcError]
    exit_code: int
    label: str
    advice: str


FAILURES = (  # the first that fits: subclasses before their bases
    Failure(UsageError, USAGE, "usage", ""),
    Failure(NoResponder, NO_RESPONDER, "no responder", "Start a server for it, or check address and URL."),
    Failure(DeadlineExceeded, DEADLINE, "deadline exceeded", "A longer --timeout may help, unless its server died."),
    Failure(Expired, DEADLINE, "expired", "It did not run. A longer --timeout may help."),
    Failure(
        NotSent,
        NOT_SENT,
        "not sent",
        "Nothing ran. Is the broker (or over ws:// the server) running, and is the URL right?",
    ),
    Failure(ConnectionLost, UNKNOWN, "connection lost", "The call may have run."),
    Failure(Overloaded, REMOTE, "overloaded", "It did not run: try again later."),
    Failure(OutcomeUnknown, UNKNOWN, "outcome unknown", "The call may have run."),
    Failure(InternalError, REMOTE, "remote error", "The traceback is in the server's log."),
    Failure(RemoteError, REMOTE, "remote error", ""),
    Failure(BadReply, REMOTE, "bad reply", "Is that an rpckit server? Otherwise try --dialect plain."),
    Failure(RpcError, REMOTE, "error", ""),
)


def describe(error: RpcError) -> Failure:
    return next(failure for failure in FAILURES if isinstance(error, failure.kind))


def exit_code(error: RpcError) -> int:
    return describe(error).exit_code


def show(error: RpcError, *, console: Console | None = None, serving: bool = False) -> None:
    """The error on stderr: its kind, its own words, and what to do next, as a caller or as who is `serving`.

    Its notes say that better, where it has any.
    """
    failure = describe(error)
    text = Text.assemble((f"{failure.label}: ", "bold red"), " ".join(_words(error).split()))
    what_next = NOT_SERVED if serving and failure.kind is NotSent else failure.advice
    for advice in filter(None, getattr(error, "__notes__", [what_next])):
        text.append(f"\n{advice}", "dim")
    (console or Console(stderr=True)).print(text, soft_wrap=True)


@contextmanager
def reported(debug: bool = False, *, serving: bool = False) -> Iterator[None]:
    """Errors inside end the command with a sentence and an exit code; with `debug` after their traceback."""
    if not debug:
        _keep_logs_off_the_terminal()
    try:
        yield
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    except (typer.Exit, typer.Abort):
        raise
    except Exception as error:
        if debug:
            traceback.print_exception(error)
        raise typer.Exit(_end_with(error, serving)) from None


def _words(error: RpcError) -> str:
    """Its own; a fault of the service's own kind goes by its name, with what it tells apart from its text."""
    if not isinstance(error, RemoteError) or hasattr(errors, error.type) or not error.type.isidentifier():
        return str(error)
    details = f" {to_json(error.details, fallback=str).decode()}" if error.details else ""
    return f"{error.type} ({error.code}): {error.message}{details}"


def _keep_logs_off_the_terminal() -> None:
    """What a library logs unasked would stand between the sentences; `serve` asks for it."""
    if not logging.root.handlers:
        logging.root.addHandler(logging.NullHandler())


def _end_with(error: Exception, serving: bool) -> int:
    if isinstance(error, RpcError):
        show(error, serving=serving)
        return exit_code(error)
    text = Text.assemble(("unexpected: ", "bold red"), f"{type(error).__name__}: {error}")
    text.append("\nThat is a fault of rpckit; --debug shows where.", "dim")
    Console(stderr=True).print(text, soft_wrap=True)
    return REMOTE
