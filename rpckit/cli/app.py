"""The commands, put together. Each lives in a module of its own, which is imported when it is run.

So the help costs neither a client nor a server; it shows the lines that stand here.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

__all__ = ["COMMANDS", "Command", "app"]

EXIT_CODES = "Exit codes: 0 ok · 1 remote error · 2 usage · 3 no responder · 4 deadline · 5 not sent · 6 may have run"


class Command(NamedTuple):
    """Where a command is: the function of its name in `module`. `text`: the first paragraph of its help.

    open: takes words that begin with a dash as arguments, such as negative numbers.
    """

    module: str
    text: str
    open: bool = False


COMMANDS = {
    "demo": Command("demo", "Run the bundled Fibonacci server and client, on every transport that can run here."),
    "new": Command("new", "Write a small project into ./NAME: a service, its tests, and settings that need no broker."),
    "serve": Command("serve", "Serve services until Ctrl-C or SIGTERM, then drain; once more stops at once."),
    "call": Command("call", "Call a method and print its result as JSON.", open=True),
    "request": Command("request", "Send a raw request and print the raw reply."),
    "bench": Command("bench", "Call a method over and over and show calls a second and latencies.", open=True),
    "generate": Command("generate", "Write a typed client: methods, data types, declared errors, docs."),
    "schema": Command("documents", "Print a document that describes services, or what a change of them breaks."),
    "settings": Command("settings", "Show the settings that hold here, and where each was said."),
    "services": Command("instances", "List the services that run: names, versions, instances, methods."),
    "describe": Command(
        "describe",
        "Show the methods at an address: signatures, docs, errors, types. The first instance to answer is believed.",
    ),
    "stats": Command("stats", "Show calls, errors, and times to wait and to run, of each method and instance."),
    "ping": Command("ping", "Show who answers, and how soon. Exits 3 when nobody does."),
    "transports": Command(
        "transports", "Show what each transport installed here promises, or what changes from one to another."
    ),
    "version": Command("version", "Show the versions of rpckit and Python, and the URL schemes that can be used here."),
}


class Commands(TyperGroup):
    """Finds a command by its name, and lists all without importing them."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.commands = {name: TyperCommand(name, help=each.text) for name, each in COMMANDS.items()}
        self._listing = False

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if self._listing or cmd_name not in COMMANDS:
            return super().get_command(ctx, cmd_name)
        return _load(cmd_name, COMMANDS[cmd_name])

    def format_help(self, ctx: Any, formatter: Any) -> None:
        self._listing = True
        super().format_help(ctx, formatter)
        self._listing = False


def _load(name: str, command: Command) -> Any:
    function: Callable[..., None] = getattr(import_module(f"rpckit.cli.{command.module}"), name)
    alone = typer.Typer(rich_markup_mode="rich", add_completion=False, pretty_exceptions_enable=False)
    settings = {"help_option_names": ["-h", "--help"], "ignore_unknown_options": command.open}
    alone.command(name, context_settings=settings)(function)
    return get_command(alone)


app = typer.Typer(
    cls=Commands,
    help="Call functions on another machine through the broker you already run.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from rpckit.cli.version import show_and_exit

        show_and_exit(wanted)


@app.callback()
def options(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Options of rpckit itself."""
