"""`rpckit version`: what is installed here, for bug reports."""

from __future__ import annotations

import platform

import typer

from rpckit.registry import known_schemes

__all__ = ["show_and_exit", "version", "version_line"]


def version() -> None:
    """Show the versions of rpckit and Python, and the URL schemes that can be used here."""
    typer.echo(version_line())
    typer.echo(f"transports: {', '.join(f'{scheme}://' for scheme in known_schemes()) or 'none'}")


def show_and_exit(wanted: bool) -> None:
    """The callback of `--version`."""
    if wanted:
        typer.echo(version_line())
        raise typer.Exit


def version_line() -> str:
    return f"rpckit {_installed()}, Python {platform.python_version()}, {platform.system()}"


def _installed() -> str:
    from importlib import metadata  # with all of the email package behind it

    try:
        return metadata.version("rpckit")
    except metadata.PackageNotFoundError:
        return "(not installed)"
