"""The commands, put together. Each lives in a module of its own."""

from __future__ import annotations

from typing import Annotated

import typer

from rpckit.cli import (
    bench,
    call,
    demo,
    describe,
    documents,
    generate,
    instances,
    new,
    ping,
    request,
    serve,
    settings,
    stats,
    transports,
    version,
)

__all__ = ["app"]

EXIT_CODES = "Exit codes: 0 ok · 1 remote error · 2 usage · 3 no responder · 4 deadline · 5 no connection"

app = typer.Typer(
    help="Call functions on another machine through the broker you already run.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command("demo")(demo.demo)
app.command("new")(new.new)
app.command("serve")(serve.serve)
app.command("call", context_settings={"ignore_unknown_options": True})(call.call)
app.command("request")(request.request)
app.command("bench", context_settings={"ignore_unknown_options": True})(bench.bench)
app.command("generate")(generate.generate)
app.command("schema")(documents.schema)
app.command("settings")(settings.settings)
app.command("services")(instances.services)
app.command("describe")(describe.describe)
app.command("stats")(stats.stats)
app.command("ping")(ping.ping)
app.command("transports")(transports.transports)
app.command("version")(version.version)


@app.callback()
def options(
    show_version: Annotated[
        bool,
        typer.Option("--version", callback=version.show_and_exit, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Options of rpckit itself."""
