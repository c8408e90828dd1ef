"""Files that commands write."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from rpckit.errors import UsageError

__all__ = ["write_file"]


def write_file(out: Path, text: str) -> None:
    """Write it, and say so on stderr. Raises `UsageError` when that cannot be."""
    try:
        out.write_text(text, "utf-8")
    except OSError as error:
        raise UsageError(f"{out} cannot be written: {error.strerror}") from error
    Console(stderr=True, highlight=False).print(f"wrote {out}", markup=False, soft_wrap=True)
