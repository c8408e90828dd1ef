"""Names in a file of Python: what is imported, and under which name where that is taken already. Pure."""

from __future__ import annotations

import builtins
import keyword
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator

__all__ = ["Names", "class_name", "safe"]

_STANDARD = {"__future__", "dataclasses", "datetime", "decimal", "enum", "typing", "uuid", "builtins"}


class Names:
    """The imports of a file. A name that the file uses otherwise is imported as ``name_``.

    taken: names of fields and methods: inside their class they would hide a type of the same name.
    """

    def __init__(self, taken: Iterable[str]) -> None:
        self._taken = set(taken)
        self._imported: dict[str, set[str]] = defaultdict(set)

    def get(self, name: str, module: str) -> str:
        """What `name` of `module` is called here; imported if it must be."""
        here = f"{name}_" if name in self._taken else name
        if module != "builtins" or here != name:
            self._imported[module].add(name if here == name else f"{name} as {here}")
        return here

    def lines(self) -> Iterator[str]:
        """The import statements: the standard library's, an empty line, the others'."""
        standard = sorted(module for module in self._imported if module in _STANDARD)
        others = sorted(module for module in self._imported if module not in _STANDARD)
        yield from map(self._line, standard)
        if others:
            yield ""
        yield from map(self._line, others)

    def _line(self, module: str) -> str:
        return f"from {module} import {', '.join(sorted(self._imported[module], key=_import_order))}"


def _import_order(name: str) -> tuple[int, str]:
    """As isort has it: constants, classes, functions."""
    plain = name.partition(" ")[0]
    kind = 0 if plain.isupper() and len(plain) > 1 else 1 if plain[:1].isupper() else 2
    return kind, name


def safe(name: str, taken: Iterable[str] = ()) -> str:
    """An identifier like `name` that hides nothing."""
    name = re.sub(r"\W", "_", name)
    if keyword.iskeyword(name) or hasattr(builtins, name) or name in taken or name[:1].isdigit():
        return f"{name}_"
    return name


def class_name(service: str) -> str:
    """``FibonacciRpcClient`` for the service "fibonacci"."""
    words = re.findall(r"[A-Za-z0-9]+", service)
    joined = "".join(word[:1].upper() + word[1:] for word in words)
    return f"{joined if joined[:1].isalpha() else f'Service{joined}'}RpcClient"
