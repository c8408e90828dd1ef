"""The command line: `rpckit new`, `serve`, `call`, `request`, `bench`, `demo`, `generate`, `settings`, `services`,
`describe`, `stats`, `ping`, `transports`, `version`.

Invariant: importing this module needs neither typer nor rich, so that it can say what is missing.
"""

from __future__ import annotations

import sys

__all__ = ["main"]

MISSING = 'rpckit\'s command line needs typer and rich: pip install "rpckit[cli]"'


def main() -> None:
    """Run the command line on this process's arguments, and exit."""
    try:
        import rich  # noqa: F401
        import typer  # noqa: F401
    except ModuleNotFoundError:
        print(MISSING, file=sys.stderr)
        sys.exit(2)
    from rpckit.cli.app import app

    app(prog_name="rpckit")
