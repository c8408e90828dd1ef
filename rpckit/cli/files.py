"""What commands write: to a file, or to stdout."""

from __future__ import annotations

from pathlib import Path

import typer
from rich.console import Console

from rpckit.errors import UsageError

__all__ = ["write_out"]

STDOUT = Path("-")


def write_out(out: Path | None, text: str) -> None:
    """To a file, which is said on stderr; without one, or with `-`, to stdout. Raises `UsageError`."""
    if out is None or out == STDOUT:
        typer.echo(text, nl=False)
        return
    try:
        out.write_text(text, "utf-8")
    except OSError as error:
        raise UsageError(f"{out} cannot be written: {error.strerror}") from error
    Console(stderr=True, highlight=False).print(f"wrote {out}", markup=False, soft_wrap=True)
