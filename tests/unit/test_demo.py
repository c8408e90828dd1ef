"""The bundled client is what anybody gets who generates one."""

from __future__ import annotations

import inspect

from rpckit.codegen import python_client
from rpckit.demo import client, service
from rpckit.schema import contract_of


def test_the_bundled_client_is_generated() -> None:
    """Else: rpckit generate rpckit.demo.service:service --out rpckit/demo/client.py"""
    assert inspect.getsource(client) == python_client(contract_of(service))
