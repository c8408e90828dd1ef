"""The files of a new project, as `rpckit new` writes them: a service, its tests, its settings.

They are the beginning of somebody's own code. So they are short, need no broker, and use nothing twice.
"""

from __future__ import annotations

from string import Template

__all__ = ["PORT", "project_files"]

PORT = 9000  # of the documentation's WebSocket servers


def project_files(name: str) -> dict[str, str]:
    """Path from the project's folder → text."""
    files = {
        "pyproject.toml": PYPROJECT,
        "rpckit.toml": SETTINGS,
        f"{name}/__init__.py": PACKAGE,
        f"{name}/service.py": SERVICE,
        "tests/test_service.py": TESTS,
        "README.md": README,
        ".gitignore": GITIGNORE,
    }
    return {path: Template(text).substitute(name=name, port=PORT) for path, text in files.items()}


PYPROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "$name"
version = "0.1.0"
requires-python = ">=3.11"
dependencies = ["rpckit[all]"]

[project.optional-dependencies]
test = ["pytest"]

[tool.hatch.build.targets.wheel]
packages = ["$name"]

[tool.pytest.ini_options]
testpaths = ["tests"]
pythonpath = ["."]

[tool.ruff]
line-length = 120
"""

SETTINGS = """\
url = "ws://127.0.0.1:$port" # needs no broker
timeout = 10 # seconds a call may take

[profiles.rabbitmq] # RPCKIT_PROFILE=rabbitmq
url = "amqp://localhost"

[profiles.redis] # RPCKIT_PROFILE=redis
url = "redis+stream://localhost"
"""

PACKAGE = '''\
"""A tea shop: serve it with `rpckit serve $name.service:service`."""
'''

SERVICE = '''\
"""What other programs may call: `rpckit call $name.menu`."""

import asyncio
from dataclasses import dataclass

from rpckit import Service

PRICES = {"assam": 4, "sencha": 5}
MINUTE = 60.0  # seconds

service = Service("$name")


@dataclass
class Order:
    tea: str
    cups: int = 1


class UnknownTea(Exception):
    """There is no such tea on the menu."""


@service.method(idempotent=True)
async def menu() -> dict[str, int]:
    """Every tea and its price."""
    return PRICES


@service.method(idempotent=True, raises=[UnknownTea])
async def price(order: Order) -> int:
    """What an order costs."""
    if order.tea not in PRICES:
        raise UnknownTea(f"{order.tea} is not on the menu")
    return order.cups * PRICES[order.tea]


@service.method
async def brew(order: Order) -> str:
    """Make the tea, a minute for each cup."""
    await asyncio.sleep(order.cups * MINUTE)
    return f"{order.cups} cups of {order.tea}"
'''

TESTS = '''\
"""The service as its callers see it: real encoding, checks and errors, over memory."""

import pytest
from rpckit import (
    BlockingClient,
    DeadlineExceeded,
    InvalidArgument,
    RemoteError,
    Service,
)
from rpckit.testing import memory_pair, virtual_time

from $name.service import Order, service


@pytest.fixture
def rpc_service() -> Service:
    """What `rpc_client` calls."""
    return service


def test_an_order_costs_its_cups(rpc_client: BlockingClient) -> None:
    assert rpc_client.call("$name.price", Order("sencha", cups=3)) == 15


def test_a_tea_that_is_not_on_the_menu_is_an_error(rpc_client: BlockingClient) -> None:
    with pytest.raises(RemoteError, match="coffee is not on the menu") as raised:
        rpc_client.call("$name.price", {"tea": "coffee"})
    assert raised.value.type == "UnknownTea"


def test_arguments_are_checked(rpc_client: BlockingClient) -> None:
    with pytest.raises(InvalidArgument, match="cups"):
        rpc_client.call("$name.price", {"tea": "assam", "cups": "many"})


@virtual_time
async def test_brewing_takes_its_time() -> None:
    """Nearly ten minutes pass, and the test does not wait for them."""
    async with memory_pair(service) as client:
        tea = await client.call("$name.brew", Order("assam", cups=2), timeout=150)
        assert tea == "2 cups of assam"
        with pytest.raises(DeadlineExceeded):
            await client.call("$name.brew", Order("assam", cups=8), timeout=450)
'''

README = """\
# $name

A service made with rpckit: functions that other programs call.

```sh
python -m pip install -e ".[test]"
python -m pytest
rpckit serve $name.service:service
```

And from another terminal in this folder:

```sh
rpckit call $name.menu
rpckit call $name.price '{"tea": "sencha", "cups": 3}'
```

Or from a program:

```python
from rpckit import BlockingClient

with BlockingClient() as client:  # the URL is that of rpckit.toml
    print(client.call("$name.price", {"tea": "sencha", "cups": 3}))
```

`rpckit.toml` says where: one server on this machine, without a broker. Both sides use RabbitMQ or Redis instead with
`RPCKIT_PROFILE=rabbitmq` or `RPCKIT_PROFILE=redis`.
"""

GITIGNORE = """\
__pycache__/
*.egg-info/
.venv/
.pytest_cache/
dist/
"""
