"""`rpckit services`: which services run, in which versions, where, and with which methods."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from rich.table import Table

from rpckit.cli import options
from rpckit.cli.asking import AsJson, Collect, ask, contents, show, where
from rpckit.cli.failures import reported
from rpckit.queries import Answer

__all__ = ["services"]


def services(
    url: options.Url = None,
    profile: options.Profile = None,
    wait: Collect = 0.3,
    as_json: AsJson = False,
    debug: options.Debug = False,
) -> None:
    """List the services that run: names, versions, instances, methods.

    [bold]rpckit services[/bold]
    [bold]rpckit services --url redis+stream://localhost --json[/bold]
    """
    with reported(debug):
        answers = ask(url, "info", "", wait)
        show(answers, wait, _table, contents(answers) if as_json else None)


def _table(answers: list[Answer]) -> Table:
    table = Table("service", "version", "instances", "methods", show_lines=True)
    for column in table.columns:
        column.overflow = "fold"
    for (name, version, methods, _), places in sorted(_by_contract(answers).items()):
        table.add_row(name, version, "\n".join(sorted(places)), methods)
    return table


def _by_contract(answers: list[Answer]) -> dict[tuple[str, str, str, str], list[str]]:
    """The instances of each service, by name, version, methods and fingerprint: another contract is another row."""
    instances = [answer.instance for answer in answers]
    found: dict[tuple[str, str, str, str], list[str]] = {}
    for answer in answers:
        for service in _services(answer):
            contract = (_name(service), service["version"], _offers(service), service["fingerprint"])
            found.setdefault(contract, []).append(where(answer.instance, instances))
    return found


def _services(answer: Answer) -> Iterator[dict[str, Any]]:
    yield from answer.content.get("services", [])


def _name(service: dict[str, Any]) -> str:
    """And its address, where that is another word."""
    name, address = service["name"], service["address"]
    return f"{name}\nat {address}" if service["methods"] and address != name else name


def _offers(service: dict[str, Any]) -> str:
    return ", ".join(service["methods"] + list(_hears(service["events"])))


def _hears(topics: Iterable[str]) -> Iterator[str]:
    yield from (f"on {topic}" for topic in dict.fromkeys(topics))
