"""TLS as the transports have it: the certificates that options name, and what is said when they do not serve."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rpckit.errors import UsageError

__all__ = ["Certificates", "client_context", "server_context", "untrusted"]


class Certificates(Protocol):
    """Options that name PEM files: whom we trust, and who we are."""

    @property
    def cafile(self) -> str | None: ...
    @property
    def certfile(self) -> str | None: ...
    @property
    def keyfile(self) -> str | None: ...


def client_context(scheme: str, files: Certificates) -> ssl.SSLContext:
    """For the side that dials: it checks the other, and shows a certificate if it has one. Raises `UsageError`."""
    with _readable(scheme):
        context = ssl.create_default_context(cafile=files.cafile)
        if files.certfile:
            context.load_cert_chain(files.certfile, files.keyfile)
    return context


def server_context(files: Certificates) -> ssl.SSLContext:
    """For a WebSocket that listens: with `cafile`, whoever dials must show a certificate. Raises `UsageError`."""
    if not files.certfile:
        raise UsageError("a listening wss:// needs ?certfile= and ?keyfile=")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with _readable("wss"):
        context.load_cert_chain(files.certfile, files.keyfile)
        if files.cafile:
            context.load_verify_locations(files.cafile)
            context.verify_mode = ssl.CERT_REQUIRED
    return context


def untrusted(where: str, error: ssl.SSLCertVerificationError) -> UsageError:
    """What to say of a server whose certificate does not hold."""
    return UsageError(
        f"{where}: its certificate is not trusted ({error.verify_message}); name its authority by ?cafile="
    )


@contextmanager
def _readable(scheme: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ssl.SSLError) as error:
        raise UsageError(f"{scheme}: cannot load cafile, certfile or keyfile: {error}") from error
