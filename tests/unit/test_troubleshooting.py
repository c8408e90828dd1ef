"""The README's tables of messages and errors hold: each message quoted stands in the source, each error is named."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from rpckit import Client, Context, Overloaded, RemoteError, Service, errors
from rpckit.testing import memory_pair

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
GROUPS = ["Starting", "Connecting", "Calling", "Serving", "Redis", "WebSocket", "Settings", "Contract"]
DISTINCTIVE = 12  # letters of a message that are not …
_PLACE = re.compile(r"%[-#0-9.]*[a-z]|…")  # what a log record or another … stands for


def section(title: str) -> str:
    """What stands below a heading, up to the next one."""
    return README.partition(f"# {title}\n")[2].partition("\n## ")[0]


TROUBLE = section("Troubleshooting")
QUOTED = [
    message for row in re.findall(r"^\| (`.+?`) \|", TROUBLE, re.MULTILINE) for message in re.findall(r"`([^`]+)`", row)
]


@cache
def messages() -> str:
    """Every text of the source in a line, with … where something is put in."""
    files = [*(ROOT / "rpckit").rglob("*.py"), *(ROOT / "transports").rglob("*.py")]
    return "\n".join(text.replace("\n", " ") for file in files for text in texts(ast.parse(file.read_text())))


def texts(tree: ast.AST) -> Iterator[str]:
    """But for docstrings, which nobody is shown."""
    docs = set()
    for node in ast.walk(tree):  # what contains a node comes before it
        if isinstance(node, ast.Expr):
            docs.add(id(node.value))
        elif isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            yield _PLACE.sub("…", node.value)


def stands(message: str) -> bool:
    parts = [part for part in message.split("…") if part]
    assert sum(map(len, parts)) >= DISTINCTIVE, message
    return re.search("[^\n]*?".join(map(re.escape, parts)), messages()) is not None


def test_each_message_quoted_stands_in_the_source() -> None:
    assert [message for message in QUOTED if not stands(message)] == []


def test_a_message_that_no_longer_exists_is_found() -> None:
    assert not stands("nobody ever serves …: its queue")


def test_the_table_has_its_groups() -> None:
    assert re.findall(r"^\*\*(\w+)\*\*", TROUBLE, re.MULTILINE) == GROUPS
    assert len(QUOTED) > 100


# --- errors --------------------------------------------------------------------------------------

ERRORS = section("Errors, and what may be sent again")


def test_each_error_is_in_the_table() -> None:
    kinds = {name for name in errors.__all__ if isinstance(getattr(errors, name), type)} - {"Code", "RpcError"}
    assert [name for name in kinds if f"| `{name}` " not in ERRORS] == []


@pytest.mark.parametrize("kind", [kind for kind in RemoteError.__subclasses__() if kind.__module__ == errors.__name__])
def test_each_kind_of_remote_error_stands_beside_its_code(kind: type[RemoteError]) -> None:
    assert re.search(rf"^\| `{kind.__name__}` \| `{kind.default_code}`", ERRORS, re.MULTILINE)


service = Service("orders")


@service.method
async def place(item: str, ctx: Context) -> str:
    calls.append(item)
    if len(calls) < 3:
        raise RemoteError("closed", code="UNAVAILABLE", retryable=len(calls) == 1)
    return "1 " + item


calls: list[str] = []


async def test_the_example_sends_again_what_did_not_run_and_what_is_retryable(monkeypatch: pytest.MonkeyPatch) -> None:
    example = ERRORS.partition("```python\n")[2].partition("```")[0]
    names: dict[str, object] = {}
    exec(example.replace("(0.1, 1.0, 5.0)", "(0.0, 0.0, 0.0)"), names)
    calls.clear()
    async with memory_pair(service) as client:
        with pytest.raises(RemoteError, match="closed"):
            await names["place"](client.at("orders"), "tea")  # type: ignore[operator]  # of a text
        assert calls == ["tea", "tea"]
        once_overloaded(client, monkeypatch)
        assert await names["place"](client.at("orders"), "tea") == "1 tea"  # type: ignore[operator]


def once_overloaded(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    send, refusals = client.transport.send, [Overloaded("full", retry_after=0.001)]

    async def refuse_once(*args: object, **kwargs: object) -> None:
        if refusals:
            raise refusals.pop()
        await send(*args, **kwargs)  # type: ignore[arg-type]  # as they came

    monkeypatch.setattr(client.transport, "send", refuse_once)
