"""Settings: arguments over RPCKIT_* variables over rpckit.toml over [tool.rpckit] in pyproject.toml.

A profile that an argument chose stands between arguments and variables.

`rpckit.toml` is the nearest one from the working directory upwards, or the file RPCKIT_CONFIG names::

    url = "amqp://localhost"
    timeout = 10                     # seconds

    [amqp]                           # options of one kind of transport; RPCKIT_AMQP_HEARTBEAT=5 is the same
    heartbeat = 5

    [profiles.staging]               # chosen by --profile or RPCKIT_PROFILE=staging; overrides what stands above
    url = "amqps://rabbit.staging"

A key that nobody knows, or a value that does not fit, is an error that names the place, never the value.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from rpckit import registry
from rpckit.errors import UsageError
from rpckit.spelling import did_you_mean
from rpckit.transport import TransportOptions
from rpckit.url import Url

__all__ = [
    "BY_HAND",
    "PREFIX",
    "Settings",
    "family_of",
    "given_settings",
    "load_settings",
    "profile_names",
    "where_said",
]

PREFIX = "RPCKIT_"
_ARGUMENTS, _ENVIRONMENT = "the arguments", "the environment"
BY_HAND = "RPCKIT_PROFILE_BY_HAND"  # set beside RPCKIT_PROFILE where an argument of a command chose it
_OPTION = ".<option>"  # stands behind a family, where the known names are listed
_NOT_SETTINGS = ("RPCKIT_CONFIG", "RPCKIT_TEST_", BY_HAND)
_FAMILIES = {"amqps": "amqp", "rediss": "redis", "ws": "websocket", "wss": "websocket"}

Values = dict[str, Any]


class Settings(BaseSettings):
    """What clients and servers go by where their arguments say nothing. Make it with `load_settings`."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    url: str = Field(default="amqp://localhost", description="the broker; its scheme chooses the transport")
    timeout: float | None = Field(
        default=30.0,
        gt=0,
        allow_inf_nan=False,
        description='seconds a call may take; None, in words "none", for ever',
    )
    send_wait: float = Field(
        default=5.0,
        ge=0,
        description="seconds a call may wait to be sent before it is NotSent; sent again, it has all of its time",
    )
    no_server: Literal["fail", "wait"] = Field(default="fail", description="what a call does when nobody serves")
    max_pending: int = Field(  # about 10 MB of waiters and deadlines
        default=16_384, gt=0, description="calls that may wait for their reply at once"
    )
    max_body: int = Field(default=1_048_576, gt=0, description="bytes of the largest body sent or read")
    concurrency: int = Field(
        default=100, gt=0, description="handlers that may run at once in a server; of plain functions 64"
    )
    prefetch_ahead: int = Field(  # enough to hide the broker's round trip
        default=32,
        ge=0,
        description="requests taken beyond those that run, where a broker keeps them; 0 shares long tasks fairly",
    )
    grace: float = Field(default=10.0, ge=0, description="seconds a stopping server gives to what it has begun")
    debug: bool = Field(default=False, description="send tracebacks to callers")
    discovery: bool = Field(default=True, description="servers answer who they are, and what they serve and do")
    profile: str | None = Field(default=None, description="the table [profiles.NAME] that overrides its file")
    transports: dict[str, dict[str, Any]] = Field(default_factory=dict, description="options, by family")

    def options_for(self, scheme: str) -> Values:
        """The options that `scheme`'s transport knows, from the table of its family: `[amqp]` for amqps."""
        options = self.transports.get(family_of(scheme))
        if not options:
            return {}
        known = registry.load_transport(scheme).options_model.model_fields
        return {name: value for name, value in options.items() if name in known}

    @field_validator("timeout", mode="before")
    @classmethod
    def _read_none(cls, value: object) -> object:
        return None if isinstance(value, str) and value.lower() == "none" else value

    @field_validator("url")
    @classmethod
    def _check_url(cls, value: str) -> str:
        try:
            Url.parse(value)
        except UsageError as error:
            raise ValueError(str(error)) from None
        return value

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        for name, value in super().__repr_args__():
            yield name, str(Url.parse(self.url)) if name == "url" else value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        *_: PydanticBaseSettingsSource,
        **__: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        layers = _layers(init_settings())
        return tuple(InitSettingsSource(settings_cls, init_kwargs=layer.fields()) for layer in layers)


def load_settings(**arguments: Any) -> Settings:
    """The settings of this process. Raises `UsageError` for an unknown one or a value that does not fit."""
    try:
        return Settings(**arguments)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        key = str(problem["loc"][0])
        layer = next((each for each in _layers(arguments) if key in each.values), _Layer(_ARGUMENTS, {}))
        raise UsageError(f"{layer.name(key)}: {_said(problem)}") from None


def given_settings(settings: Settings | None, overrides: Mapping[str, Any]) -> Settings:
    """`settings` as they are, or loaded with `overrides` on top; both at once would hide one of them."""
    if settings is None:
        return load_settings(**overrides)
    if overrides:
        raise UsageError(f"settings and {', '.join(overrides)} are both given; put them into the settings")
    return settings


def where_said() -> dict[str, str]:
    """The place of each setting that something says, by name; of options as `amqp.heartbeat`."""
    places: dict[str, str] = {}
    for layer in _layers({}):
        for key, value in layer.values.items():
            names = [f"{key}.{option}" for option in value] if key in _families() else [key]
            for name in names:
                places.setdefault(name, layer.place)
    if os.environ.get(BY_HAND):  # the variable beside it is ours
        places["profile"] = _ARGUMENTS
    return places


def profile_names() -> list[str]:
    """The profiles that can be chosen here. Raises `UsageError` for files that cannot be read."""
    return sorted({name for place, values in _read_files(Path.cwd()) for name in _profiles(_Layer(place, values))})


def family_of(scheme: str) -> str:
    """The family whose options a scheme shares: `redis` of `rediss+stream`."""
    base = scheme.partition("+")[0]
    return _FAMILIES.get(base, base)


@dataclass(frozen=True, slots=True)
class _Layer:
    """What one place says: settings, and tables of options by family."""

    place: str
    values: Values

    def name(self, *keys: str) -> str:
        """A key as its place spells it, and the place."""
        return self._spelt(*keys) if self.place == _ENVIRONMENT else f"{self._spelt(*keys)} in {self.place}"

    def fields(self) -> Values:
        """As the fields of `Settings`: the tables below `transports`."""
        plain = {key: value for key, value in self.values.items() if key in Settings.model_fields}
        tables = {key: value for key, value in self.values.items() if key not in plain}
        return {**plain, "transports": {**plain.get("transports", {}), **tables}}

    def checked(self) -> _Layer:
        """Itself. Raises `UsageError` for a key nobody knows and an option its transport refuses."""
        families = _families()
        known = set(Settings.model_fields) - ({"transports"} if self.place != _ARGUMENTS else set())
        for key, value in self.values.items():
            if key in families:
                self._check_options(key, _table(value, self.name(key)))
            elif key not in known:
                raise UsageError(self._unknown((key,), known | {f"{family}{_OPTION}" for family in families}))
        return self

    def _check_options(self, family: str, options: Values) -> None:
        models = list(_option_models(family))  # none when the driver is missing: opening it will say so
        known = {name: model for model in models for name in model.model_fields}
        for key, value in options.items() if models else ():
            if key not in known:
                raise UsageError(self._unknown((family, key), known))
            try:
                known[key].model_validate({key: value})
            except ValidationError as error:
                said = _said(error.errors(include_url=False, include_input=False)[0])
                raise UsageError(f"{self.name(family, key)}: {said}") from None

    def _unknown(self, keys: tuple[str, ...], known: Iterable[str]) -> str:
        *family, key = keys
        words = [name.removesuffix(_OPTION) for name in known]
        hint = did_you_mean(key, words, lambda close: self._spelt(*family, close))
        return f"unknown setting {self.name(*keys)}.{hint} Known: {', '.join(sorted(known))}"

    def _spelt(self, *keys: str) -> str:
        return PREFIX + "_".join(keys).upper() if self.place == _ENVIRONMENT else ".".join(keys)


def _layers(arguments: Values) -> list[_Layer]:
    """Every place that says something, checked, the strongest first."""
    given, variables = _Layer(_ARGUMENTS, arguments), _Layer(_ENVIRONMENT, _environment(os.environ))
    files = [_Layer(place, values) for place, values in _read_files(Path.cwd())]
    profile = next((each.values["profile"] for each in (given, variables, *files) if each.values.get("profile")), None)
    known = {name for each in files for name in _profiles(each)}
    if profile is not None and profile not in known:
        listed = ", ".join(sorted(known)) or f"none: no file has a table [profiles.{profile}]"
        raise UsageError(f"unknown profile {profile!r}. Known: {listed}")
    parts = [_parts(each, profile) for each in files]
    if arguments.get("profile") or os.environ.get(BY_HAND):  # what an argument chose is stronger than variables
        given_too = [chosen for *some, _ in parts for chosen in some]
        return [each.checked() for each in (given, *given_too, variables, *(rest for *_, rest in parts))]
    return [each.checked() for each in (given, variables, *(part for some in parts for part in some))]


def _parts(layer: _Layer, profile: str | None) -> list[_Layer]:
    """A file's chosen profile above the rest of it. The other profiles are checked all the same."""
    profiles = {name: part.checked() for name, part in _profiles(layer).items()}
    rest = _Layer(layer.place, {key: value for key, value in layer.values.items() if key != "profiles"})
    return [profiles[profile], rest] if profile in profiles else [rest]


def _profiles(layer: _Layer) -> dict[str, _Layer]:
    tables = _table(layer.values.get("profiles", {}), layer.name("profiles"))
    places = {name: f"[profiles.{name}] of {layer.place}" for name in tables}
    return {name: _Layer(place, _table(tables[name], place)) for name, place in places.items()}


def _environment(variables: Mapping[str, str]) -> Values:
    """RPCKIT_URL as `url`, RPCKIT_AMQP_HEARTBEAT as `heartbeat` of the table `amqp`. Empty says nothing."""
    values: Values = {}
    for variable, value in variables.items():
        if not value or not variable.startswith(PREFIX) or variable.startswith(_NOT_SETTINGS):
            continue
        key = variable.removeprefix(PREFIX).lower()
        family, _, option = key.partition("_")
        if option and family in _families():
            values.setdefault(family, {})[option] = value
        else:
            values[key] = value
    return values


def _read_files(start: Path) -> Iterator[tuple[str, Values]]:
    """(place, values) of rpckit.toml and of [tool.rpckit], where they are."""
    named = os.environ.get("RPCKIT_CONFIG")
    own = Path(named) if named else _nearest(start, "rpckit.toml")
    project = _nearest(start, "pyproject.toml")
    if own is not None:
        yield os.path.relpath(own), _read_toml(own)
    if project is not None:
        place = f"[tool.rpckit] of {os.path.relpath(project)}"
        yield place, _table(_read_toml(project).get("tool", {}).get("rpckit", {}), place)


def _nearest(start: Path, name: str) -> Path | None:
    return next((path for folder in (start, *start.parents) if (path := folder / name).is_file()), None)


def _read_toml(path: Path) -> Values:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"the settings in {os.path.relpath(path)} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"{os.path.relpath(path)} is not valid TOML: {error}") from error


def _table(value: object, name: str) -> Values:
    if not isinstance(value, Mapping):
        raise UsageError(f"{name} must be a table")
    return dict(value)


def _families() -> set[str]:
    return {family_of(scheme) for scheme in registry.known_schemes()}


def _option_models(family: str) -> Iterator[type[TransportOptions]]:
    for scheme in registry.known_schemes():
        if family_of(scheme) == family:
            try:
                yield registry.load_transport(scheme).options_model
            except UsageError:
                continue


def _said(problem: Mapping[str, Any]) -> str:
    """A problem in pydantic's words, without the value: it may be a secret."""
    return str(problem["msg"]).removeprefix("Value error, ").replace("Input should", "should", 1)
