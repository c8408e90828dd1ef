"""Options that several commands share, and how their words become values."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, get_args

import typer

from rpckit.errors import UsageError
from rpckit.spelling import did_you_mean

__all__ = [
    "Arguments",
    "Debug",
    "Dialect",
    "Header",
    "Kw",
    "Profile",
    "Timeout",
    "Url",
    "Urls",
    "Wait",
    "client_settings",
    "from_settings",
    "misread",
    "read_argument",
    "read_arguments",
    "read_headers",
    "read_keywords",
    "read_timeout",
]


def from_settings(usual: str = "") -> str:
    """Where an option's value comes from when it is not given, in the words of typer's help."""
    return rf"[dim]\[default: from the settings{usual and f', {usual}'}][/dim]"


def choose_profile(name: str | None) -> str | None:
    """For all that this process loads, and the processes that it starts. It is stronger than variables."""
    if name is not None:
        from rpckit.settings import BY_HAND

        os.environ["RPCKIT_PROFILE"], os.environ[BY_HAND] = name, "1"
    return name


def profiles_there(incomplete: str) -> list[str]:
    """Names of profiles, to complete one; none where the files cannot be read, as running the command will say."""
    from rpckit.settings import profile_names

    try:
        return [name for name in profile_names() if name.startswith(incomplete)]
    except UsageError:
        return []


Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        "-u",
        metavar="URL",
        help=f"The broker, such as amqp://localhost or redis+stream://localhost.  {from_settings()}",
    ),
]
Urls = Annotated[
    list[str] | None,
    typer.Option(
        "--url",
        "-u",
        metavar="URL",
        help=f"The broker, such as amqp://localhost; repeated, serve on each.  {from_settings()}",
    ),
]
Profile = Annotated[
    str | None,
    typer.Option(
        "--profile",
        "-p",
        metavar="NAME",
        callback=choose_profile,
        autocompletion=profiles_there,
        help=r"The table \[profiles.NAME] of rpckit.toml to take settings from; --url is stronger than its url.",
    ),
]
Timeout = Annotated[
    str | None,
    typer.Option(
        "--timeout",
        "-t",
        metavar="SECONDS",
        help=f'Seconds to wait, connecting among them; "none" for ever.  {from_settings("30")}',
    ),
]
Header = Annotated[list[str] | None, typer.Option("--header", metavar="NAME=VALUE", help="A header; may be repeated.")]
Kw = Annotated[
    list[str] | None, typer.Option("--kw", metavar="NAME=VALUE", help="A keyword argument; may be repeated.")
]
Dialect = Annotated[
    str | None,
    typer.Option(
        "--dialect",
        metavar="NAME",
        help="How requests are written, for servers that are not rpckit: plain; on Redis faststream; over WebSocket "
        "jsonrpc or fastapi_websocket_rpc.",
    ),
]
Wait = Annotated[bool, typer.Option("--wait", help="When nobody serves the address, queue until somebody does.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks.")]
Arguments = Annotated[
    list[str] | None,
    typer.Argument(metavar="ARGS", help="The arguments: JSON each, or else taken as a string."),
]

_KEYWORD = re.compile(r"[A-Za-z_]\w*=")
_NUMBER = re.compile(r"-(\d|\.\d|Infinity)")


def read_argument(text: str) -> Any:
    """JSON, or the text itself: `30` is a number, `hello` a string. `"30"` in its quotes is a string."""
    if text.startswith("-") and not _NUMBER.match(text):
        option = text.partition("=")[0]
        meant = did_you_mean(option, _shared_options())
        raise UsageError(f"no option {option} here.{meant} A string that begins with - is given as '\"{text}\"'")
    try:
        return json.loads(text)
    except ValueError:
        return text


def read_arguments(texts: Iterable[str] | None) -> list[Any]:
    return [read_argument(text) for text in texts or ()]


def read_keywords(pairs: Iterable[str] | None) -> dict[str, Any]:
    """`n=30` as a keyword argument; the values are read as arguments are."""
    return {name: read_argument(value) for name, value in _split_pairs("--kw", pairs).items()}


def misread(texts: Iterable[str] | None, pairs: Iterable[str] | None) -> Iterator[str]:
    """What to say of arguments that were taken as strings, and look like something else."""
    for text in texts or ():
        if _KEYWORD.match(text):
            yield f"{text!r:.60} was sent as a string by position: a keyword argument is --kw {text:.60}"
    for text in [*(texts or ()), *_split_pairs("--kw", pairs).values()]:
        if text.startswith(("{", "[", '"')) and read_argument(text) is text:
            yield f"{text!r:.60} is not JSON, and was sent as a string."


def read_headers(pairs: Iterable[str] | None) -> dict[str, str]:
    return _split_pairs("--header", pairs)


def read_timeout(text: str) -> float | None:
    """Seconds; None for "none"."""
    if text.lower() == "none":
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise UsageError(f'--timeout takes seconds, or "none" to wait for ever, not {text!r:.60}')
    return seconds


def client_settings(timeout: str | None = None, wait: bool = False) -> dict[str, Any]:
    """The settings that these options override."""
    overrides: dict[str, Any] = {}
    if timeout is not None:
        overrides["timeout"] = read_timeout(timeout)
    if wait:
        overrides["no_server"] = "wait"
    return overrides


def _shared_options() -> list[str]:
    shared = (Url, Profile, Timeout, Header, Kw, Dialect, Wait, Debug)
    found = (option for kind in shared for option in get_args(kind)[1:])
    return [name for option in found for name in (option.default, *option.param_decls)]  # the first is its `default`


def _split_pairs(option: str, pairs: Iterable[str] | None) -> dict[str, str]:
    values: dict[str, str] = {}
    for pair in pairs or ():
        name, separator, value = pair.partition("=")
        if not separator or not name:
            raise UsageError(f"{option} takes NAME=VALUE, not {pair!r:.100}")
        if name in values:
            raise UsageError(f"{option} {name:.60}= is given twice")
        values[name] = value
    return values
