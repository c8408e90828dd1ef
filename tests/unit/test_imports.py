"""The names of the package: all are there, and those that take long come when they are asked for."""

from __future__ import annotations

from types import FunctionType

import pytest
from pydantic import BaseModel

import rpckit
from rpckit import options, settings, transport

ModelMetaclass = type(BaseModel)


def test_every_public_name_is_there() -> None:
    assert {type(getattr(rpckit, name)) for name in rpckit.__all__} <= {type, ModelMetaclass, FunctionType}
    assert not [name for name in rpckit.__all__ if getattr(rpckit, name).__name__ != name]


def test_settings_and_options_come_when_they_are_asked_for() -> None:
    assert transport.TransportOptions is options.TransportOptions
    assert (rpckit.Settings, rpckit.load_settings) == (settings.Settings, settings.load_settings)
    with pytest.raises(AttributeError, match="no attribute 'setings'"):
        rpckit.setings  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(AttributeError, match="no attribute 'Options'"):
        transport.Options  # type: ignore[attr-defined]  # noqa: B018
