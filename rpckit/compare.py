"""What a changed contract means for clients of the old one: additive, or breaking. Pure.

Two questions, asked of every type (`rpckit.acceptance`): of arguments, does the new side accept all that old clients
send; of results, do old clients accept all that the new side sends.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rpckit.acceptance import Acceptance
from rpckit.schema import Document, method_fingerprint

__all__ = ["Change", "compare", "compare_method"]

_WAYS = {"positional": {"name", "place"}, "positional_only": {"place"}, "keyword": {"name"}}  # to give a parameter


@dataclass(frozen=True, slots=True)
class Change:
    """One difference. where: ``place(item.price)`` or ``place → .total``; what: a sentence."""

    breaking: bool
    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


def compare(old: Document, new: Document) -> list[Change]:
    """Every change from `old` to `new`, the breaking ones first."""
    changes = list(_services(old, new))
    for name in old["methods"]:
        changes += compare_method(old, new, name) or _otherwise(old, new, name)
    changes += [Change(False, name, "is new") for name in new["methods"] if name not in old["methods"]]
    changes += _events(old, new)
    return sorted(changes, key=lambda change: not change.breaking)


def compare_method(old: Document, new: Document, name: str) -> list[Change]:
    """The changes of one method that `old` has, but for those of its types that clients need not know of."""
    if name not in new["methods"]:
        there = ", ".join(new["methods"]) or "none"
        return [Change(True, name, f"is gone; there are {there}")]
    before, after = old["methods"][name], new["methods"][name]
    results = Acceptance(new["definitions"], old["definitions"], new_accepts=False)
    changes = list(_arguments(name, before["parameters"], after["parameters"], _taking(old, new)))
    for place, problem in results.problems(after["result"], before["result"], ""):
        changes.append(Change(True, f"{name} → {place or 'result'}", problem))
    return changes + list(_promises(name, before, after))


def _taking(old: Document, new: Document) -> Acceptance:
    return Acceptance(old["definitions"], new["definitions"], new_accepts=True)


def _otherwise(old: Document, new: Document, name: str) -> list[Change]:
    if method_fingerprint(old, name) == method_fingerprint(new, name):
        return []
    return [Change(False, name, "has other types, which fit old clients")]


def _events(old: Document, new: Document) -> Iterator[Change]:
    """Of who emits them. That nobody hears one any more is no error to anybody."""
    heard = {(each["topic"], each["group"]): each["parameters"] for each in new["events"]}
    before = {(each["topic"], each["group"]): each["parameters"] for each in old["events"]}
    for (topic, group), parameters in before.items():
        if (topic, group) not in heard:
            yield Change(False, f"event {topic}", "is not heard any more")
        else:
            yield from _arguments(f"event {topic}", parameters, heard[topic, group], _taking(old, new))
    yield from (
        Change(False, f"event {topic}", "is heard now") for topic, group in heard if (topic, group) not in before
    )


def _services(old: Document, new: Document) -> Iterator[Change]:
    for key in ("service", "address"):
        if old[key] != new[key]:
            yield Change(key == "address", key, f"is now {new[key]!r}, was {old[key]!r}")
    if old["default"] != new["default"]:
        gone = old["default"] is not None
        mend = f"; keep it with default=True on {old['default']}" if gone and not new["default"] else ""
        yield Change(gone, "default method", f"is now {new['default'] or 'none'}, was {old['default'] or 'none'}{mend}")


def _promises(name: str, before: Document, after: Document) -> Iterator[Change]:
    """What a client counts on apart from types."""
    if before["idempotent"] != after["idempotent"]:
        words = "may run twice now" if after["idempotent"] else "must not run twice any more: clients send it again"
        yield Change(before["idempotent"], name, words)
    if before["no_reply"] != after["no_reply"]:
        yield Change(True, name, "has no reply any more" if after["no_reply"] else "has a reply now")
    if bool(before["deprecated"]) != bool(after["deprecated"]):
        yield Change(False, name, "is deprecated" if after["deprecated"] else "is not deprecated any more")
    for error in after["raises"]:
        if error not in before["raises"]:
            yield Change(False, name, f"raises {error} as well, which old clients see as RemoteError")


def _arguments(name: str, before: list[Document], after: list[Document], types: Acceptance) -> Iterator[Change]:
    matched = []
    for place, parameter in enumerate(before):
        where = f"{name}({parameter['name']})"
        now = _same(parameter, place, after)
        if now is None:
            yield Change(True, where, "is gone")
            continue
        matched.append(now)
        yield from _ways(where, place, parameter, now, after)
        for inside, problem in types.problems(parameter["schema"], now["schema"], ""):
            yield Change(True, f"{name}({parameter['name']}{inside})", problem)
    for parameter in after:
        if parameter not in matched:
            need = "required" if parameter["required"] else "optional"
            yield Change(parameter["required"], f"{name}({parameter['name']})", f"is new and {need}")


def _same(parameter: Document, place: int, after: list[Document]) -> Document | None:
    """The parameter as it is now: of its name, or where nobody could say its name, of its place."""
    if parameter["kind"] == "positional_only":
        return after[place] if place < len(after) and after[place]["kind"] != "keyword" else None
    return next((each for each in after if each["name"] == parameter["name"]), None)


def _ways(where: str, place: int, before: Document, now: Document, after: list[Document]) -> Iterator[Change]:
    """How it may be given, and whether it must be."""
    lost = _WAYS[before["kind"]] - _WAYS[now["kind"]]
    for way in sorted(lost):
        yield Change(True, where, f"must be given by its {'place' if way == 'name' else 'name'} now")
    if before["kind"] != "keyword" and not lost and after.index(now) != place:
        yield Change(True, where, f"is no longer argument {place + 1}")
    if before["required"] != now["required"]:
        yield Change(now["required"], where, "is required now" if now["required"] else "is optional now")
    elif before.get("default") != now.get("default"):
        yield Change(False, where, f"defaults to {now.get('default')!r:.60} now, not to {before.get('default')!r:.60}")
