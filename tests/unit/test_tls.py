"""Certificates that can be loaded, and what is said of those that cannot."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

import pytest

from rpckit.errors import UsageError
from rpckit.tls import client_context, server_context


@dataclass
class Files:
    cafile: str | None = None
    certfile: str | None = None
    keyfile: str | None = None


def test_a_client_checks_the_server_by_default() -> None:
    context = client_context("amqps", Files())
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


@pytest.mark.parametrize("files", [Files(cafile="missing.pem"), Files(certfile="missing.pem")])
def test_what_cannot_be_read_is_named_with_the_scheme(files: Files) -> None:
    with pytest.raises(UsageError, match=r"rediss: cannot load cafile, certfile or keyfile: .*No such file"):
        client_context("rediss", files)


def test_what_is_no_certificate_is_told(tmp_path: Path) -> None:
    broken = tmp_path / "broken.pem"
    broken.write_text("no certificate")
    with pytest.raises(UsageError, match="wss: cannot load"):
        server_context(Files(certfile=str(broken)))


def test_a_listener_needs_a_certificate() -> None:
    with pytest.raises(UsageError, match=r"a listening wss:// needs \?certfile="):
        server_context(Files())
