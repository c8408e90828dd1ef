"""`MODULE:SERVICE`: what is found, and what is said when it is not."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rpckit.cli.job import ready_line
from rpckit.cli.services import find_service, put_on_path
from rpckit.contract import Service
from rpckit.errors import UsageError

SHOP = """
from rpckit import Server, Service

orders = Service("orders")
stock = Service("stock", address="warehouse")

@stock.method
async def count(item: str) -> int: ...

@stock.method
async def items() -> list[str]: ...

url = "amqp://localhost"
server = Server(stock, url=url)
"""

RUN = """
import asyncio
from rpckit import Server

asyncio.run(Server(stock, url="memory://serving_for_test").run())
"""


@pytest.fixture(autouse=True)
def modules(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A working directory with modules to serve, forgotten again afterwards."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (folder / "shop_for_test.py").write_text(SHOP)
    (folder / "broken_for_test.py").write_text("1 / 0\n")
    (folder / "needy_for_test.py").write_text("import no_such_module_anywhere\n")
    (folder / "empty_for_test.py").write_text("x = 1\n")
    (folder / "ending_for_test.py").write_text("raise SystemExit(0)\n")
    (folder / "serving_for_test.py").write_text(f"{SHOP}{RUN}")
    put_on_path(str(folder))
    yield
    for name in [name for name in sys.modules if name.endswith("_for_test")]:
        del sys.modules[name]


def test_service_is_imported_from_the_working_directory() -> None:
    service = find_service("shop_for_test:stock")
    assert isinstance(service, Service)
    assert service.address == "warehouse"


@pytest.mark.parametrize(
    "reference,said",
    [
        ("shop_for_test", "names no service. Services there: shop_for_test:orders, shop_for_test:stock"),
        ("shop_for_test:url", "is a str, not a Service. Services there: shop_for_test:orders, "),
        (
            "shop_for_test:server",
            "is a Server, not a Service: run its program with python, or name its Service there, service = Service(…), "
            "and say shop_for_test:service. Services there: shop_for_test:orders, shop_for_test:stock",
        ),
        ("shop_for_test:stok", "does not exist. Services there: shop_for_test:orders, shop_for_test:stock"),
        ("empty_for_test:x", "is a int, not a Service. The module empty_for_test has no services."),
        ("shop_for_test:", "is not MODULE:SERVICE"),
        (":stock", "is not MODULE:SERVICE"),
        ("nosuch.module:service", "there is no module 'nosuch' here; run it in the folder that has it"),
        ("needy_for_test:service", "needs the module 'no_such_module_anywhere', which is not installed"),
        ("broken_for_test:service", "cannot be imported: ZeroDivisionError: division by zero"),
        ("ending_for_test:service", "ending_for_test ends the program while it is imported (0)"),
        ("serving_for_test:stock", "serving_for_test starts a server while it is imported: put that line under `if"),
        ("shop_for_test.py:stock", "is a file: name the service in it, such as shop_for_test:stock"),
        ("shop/orders.py", "is a file: name the service in it, such as shop.orders:service"),
    ],
)
def test_what_cannot_be_served_is_said_with_what_can(reference: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        find_service(reference)
    assert said in str(caught.value)


def test_ready_line_names_service_methods_address_and_url() -> None:
    line = ready_line(find_service("shop_for_test:stock"), "amqp://localhost")
    assert line == "serving stock (count, items) at warehouse on amqp://localhost"
