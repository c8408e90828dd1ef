"""What a service promises: names, types, and what may be done with a call.

Everything that depends on a method alone (signature, validators, forms) is compiled when the
service is built; a call only runs it.
"""

from __future__ import annotations

import inspect
import math
import re
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict, TypeVar, Unpack, get_args, overload

from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError
from pydantic_core import ArgsKwargs

from rpckit.context import Context
from rpckit.errors import InvalidArgument, UsageError
from rpckit.topics import check_topic

__all__ = [
    "Arguments",
    "EventSpec",
    "Guarantee",
    "MethodSpec",
    "Service",
    "split_target",
]

MAX_NAME_BYTES = 255  # AMQP's short string, the tightest of the transports
MAX_ADDRESS_BYTES = 240  # so that the topics made of an address fit that as well
_ADDRESS = re.compile(r"[A-Za-z0-9_\-.:@#,/+ ]+")  # what every broker's client library accepts in a name
_METHOD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

F = TypeVar("F", bound=Callable[..., Any])
Arguments = tuple[Sequence[Any], dict[str, Any]]
Guarantee = Literal["at_most_once", "at_least_once"]


class MethodOptions(TypedDict, total=False):
    """What may be said of a method where it is exposed; see `MethodSpec`."""

    name: str | None  # None for that of its function
    idempotent: bool
    no_reply: bool
    delivery: Guarantee
    timeout: float | None
    default: bool
    raises: Sequence[type[Exception]]
    deprecated: str


@dataclass(frozen=True, slots=True)
class MethodSpec:
    """One method of a service.

    idempotent: it may run again: the delivery is settled after its reply, and redelivered when its server dies.
    no_reply:   its callers never get an answer.
    delivery:   "at_least_once" demands a transport that redelivers, or starting is refused.
    timeout:    seconds it may run, whatever its caller allows; None for the caller's deadline alone.
    raises:     its declared errors: they travel with their text, and typed clients raise them as themselves.
    deprecated: what to use instead; empty while it is not.
    """

    name: str
    function: Callable[..., Any]
    signature: inspect.Signature
    bind: Callable[[Any], Any]
    context_parameter: str | None
    in_thread: bool
    idempotent: bool = False
    no_reply: bool = False
    delivery: Guarantee = "at_most_once"
    timeout: float | None = None
    default: bool = False
    raises: tuple[type[Exception], ...] = ()
    deprecated: str = ""
    context_index: int | None = None

    @property
    def parameters(self) -> Mapping[str, inspect.Parameter]:
        return self.signature.parameters

    @property
    def doc(self) -> str:
        return inspect.getdoc(self.function) or ""

    def validate(self, arguments: Arguments) -> Arguments:
        """Converted and checked arguments. Raises `InvalidArgument`, naming each that does not fit."""
        try:
            bound: Arguments = self.bind(ArgsKwargs(tuple(arguments[0]), arguments[1]))
        except ValidationError as error:
            raise _invalid(self, error) from None
        except RecursionError as error:
            raise InvalidArgument(f"{self.name}: arguments are nested too deeply") from error
        return bound

    def add_context(self, arguments: Arguments, context: Context) -> Arguments:
        """The arguments with the running call in its place among them."""
        if self.context_parameter is None:
            return arguments
        args, kwargs = arguments
        index = self.context_index
        if index is None or index > len(args):
            return args, {**kwargs, self.context_parameter: context}
        return (*args[:index], context, *args[index:]), kwargs


@dataclass(frozen=True, slots=True)
class EventSpec:
    """One handler of the events of a topic.

    topic: a name or a pattern; see `rpckit.topics`.
    group: of all handlers with the same one, wherever they run, one hears an event; "": each hears it.
    """

    topic: str
    group: str
    spec: MethodSpec


class Service:
    """Methods under one address: the queue, channel, list or stream; the service's name if left out.

    ::

        service = Service("fibonacci", address="rpc_queue")

        @service.method(idempotent=True)
        async def fib(n: int) -> int: ...
    """

    def __init__(self, name: str, *, address: str | None = None, version: str = "", doc: str = "") -> None:
        self.name = name
        self.version = version
        self.doc = doc
        self.address = check_address(address if address is not None else name)
        self._methods: dict[str, MethodSpec] = {}
        self._events: list[EventSpec] = []

    @property
    def events(self) -> Sequence[EventSpec]:
        return self._events

    @property
    def methods(self) -> Mapping[str, MethodSpec]:
        return self._methods

    @property
    def default_method(self) -> MethodSpec | None:
        """The method for requests that name none: the only one, or the one marked `default=True`."""
        if len(self._methods) == 1:
            return next(iter(self._methods.values()))
        return next((spec for spec in self._methods.values() if spec.default), None)

    def find(self, method: str) -> MethodSpec | None:
        """Exact names only: nothing is looked up on objects."""
        return self._methods.get(method) if method else self.default_method

    @overload
    def method(self, function: F, **options: Unpack[MethodOptions]) -> F: ...

    @overload
    def method(self, **options: Unpack[MethodOptions]) -> Callable[[F], F]: ...

    def method(self, function: F | None = None, **options: Unpack[MethodOptions]) -> F | Callable[[F], F]:
        """Expose a function; bare, or with the options of `MethodSpec`. The function itself is left as it is."""

        def register(target: F) -> F:
            self._add(compile_method(target, **options))
            return target

        return register(function) if function is not None else register

    def on(self, topic: str, *, group: str = "") -> Callable[[F], F]:
        """Handle the events of a topic, at most once: ``@service.on("user.created")``.

        topic: in a pattern `*` is one word and `#` any number of them: ``"user.*"``, ``"#.created"``. Topics of other
        programs are named as in `rpckit.topics`: ``"fanout:logs"``. Several decorators are several topics.
        group: one of all handlers with this group hears an event, wherever they run; without it each does.
        """
        check_topic(topic, listening=True)
        if group:
            check_name("group", group)
        if group and any((event.topic, event.group) == (topic, group) for event in self._events):
            raise UsageError(
                f"service {self.name!r} already hears {topic!r} in the group {group!r}; only one would run"
            )

        def register(target: F) -> F:
            self._events.append(EventSpec(topic, group, compile_method(target, no_reply=True)))
            return target

        return register

    @classmethod
    def from_object(cls, instance: object, *, name: str, address: str | None = None, version: str = "") -> Service:
        """A service of an object's public `async def` methods; names that begin with `_` stay private."""
        if isinstance(instance, type):
            raise UsageError(f"from_object takes an instance, such as {instance.__name__}(…), not the class itself")
        service = cls(name, address=address, version=version, doc=inspect.getdoc(instance) or "")
        for attribute, function in _public_coroutines(instance):
            service.method(function, name=attribute)
        if not service.methods:
            raise UsageError(f"{type(instance).__name__} has no public async methods to expose")
        return service

    def _add(self, spec: MethodSpec) -> None:
        if spec.name in self._methods:
            raise UsageError(f"service {self.name!r} already has a method {spec.name!r}")
        for error in spec.raises:
            if any(error is not each and error.__name__ == each.__name__ for each in self._errors()):
                raise UsageError(
                    f"service {self.name!r} has another error {error.__name__!r}: callers know it by its name"
                )
        if spec.default and any(other.default for other in self._methods.values()):
            raise UsageError(f"service {self.name!r} already has a default method; only one can be")
        self._methods[spec.name] = spec

    def _errors(self) -> Iterator[type[Exception]]:
        for spec in self._methods.values():
            yield from spec.raises

    def __repr__(self) -> str:
        return f"<Service {self.name!r} at {self.address!r}: {', '.join(self._methods) or 'no methods'}>"


def compile_method(function: Callable[..., Any], *, name: str | None = None, **options: Any) -> MethodSpec:
    """Everything about a method that a call need not work out again. Raises `UsageError` for what cannot be served."""
    if not hasattr(function, "__name__"):
        raise UsageError(f"a method is a function, not {function!r:.80}: decorate a def, and say its name as name=…")
    name = name or str(function.__name__)
    check_method_name(name)
    if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
        raise UsageError(f"{name}: generators cannot be served yet; return a list")
    unknown = set(options) - _OPTIONS
    if unknown:
        raise UsageError(f"{name}: unknown option {min(unknown)!r}; known: {', '.join(sorted(_OPTIONS))}")
    _check_options(name, **options)
    options["raises"] = _declared_errors(name, options.get("raises", ()))
    signature, context_parameter = _wire_signature(name, function)
    return MethodSpec(
        name=name,
        function=function,
        signature=signature,
        bind=_compile_validator(name, signature),
        context_parameter=context_parameter,
        context_index=_position(function, context_parameter),
        in_thread=not inspect.iscoroutinefunction(function),
        **options,
    )


def check_address(address: str) -> str:
    """`address` if every transport can carry it, else `UsageError`."""
    return check_name("address", address)


def check_name(what: str, name: object) -> str:
    """The name of an address or group if every transport can carry it, else `UsageError`."""
    if not isinstance(name, str) or not _ADDRESS.fullmatch(name) or len(name) > MAX_ADDRESS_BYTES:
        allowed = f"1 to {MAX_ADDRESS_BYTES} ASCII letters, digits or any of _ - . : @ # , / + and space"
        raise UsageError(f"{what} {name!r:.80} cannot be used: {allowed}")
    return name


def split_target(target: str) -> tuple[str, str]:
    """Address and method of `"rpc_queue.fib"`: the last dot parts them."""
    address, _, method = target.rpartition(".")
    if not address or not _METHOD.fullmatch(method):
        named, alone = f"{target!r:.200}", target and "." not in target
        default = f"; its default method is called by client.at({named}).call(…)" if alone else ""
        raise UsageError(f"{named} is not ADDRESS.METHOD, such as 'rpc_queue.fib'{default}")
    return check_address(address), method


def check_method_name(name: str) -> str:
    """`name` if it can be a method's, else `UsageError`."""
    if not _METHOD.fullmatch(name) or name.startswith("__") or len(name) > MAX_NAME_BYTES:
        raise UsageError(
            f"{name!r:.100} cannot be a method's name: ASCII letters, digits and _, not beginning with a digit or __"
        )
    return name


def _check_options(
    name: str,
    *,
    idempotent: Any = False,
    delivery: Any = "at_most_once",
    timeout: Any = None,
    deprecated: Any = "",
    **_others: Any,
) -> None:
    """Said when the service is built: at a call nobody could be told."""
    if delivery not in get_args(Guarantee):
        raise UsageError(f"{name}: delivery is {' or '.join(get_args(Guarantee))}, not {delivery!r:.60}")
    if delivery == "at_least_once" and not idempotent:
        raise UsageError(f'{name}: delivery="at_least_once" may run it twice, so it must be idempotent=True')
    seconds = isinstance(timeout, int | float) and not isinstance(timeout, bool) and 0 < timeout < math.inf
    if timeout is not None and not seconds:
        raise UsageError(f"{name}: timeout is in seconds, more than 0, or None; not {timeout!r:.60}")
    if not isinstance(deprecated, str):
        raise UsageError(f"{name}: deprecated says in words what to use instead; not {deprecated!r:.60}")


def _declared_errors(name: str, errors: Any) -> tuple[type[Exception], ...]:
    if not isinstance(errors, list | tuple | set | frozenset):
        raise UsageError(f"{name}: raises takes classes of exceptions, in a list; not {errors!r:.60}")
    for error in errors:
        if not (isinstance(error, type) and issubclass(error, Exception)):
            raise UsageError(f"{name}: raises takes classes of exceptions, not {error!r:.60}")
    names = [error.__name__ for error in errors]
    if len(set(names)) < len(names):
        raise UsageError(f"{name}: two of its errors have the same name, and callers know them by it")
    return tuple(errors)


def _public_coroutines(instance: object) -> Iterator[tuple[str, Callable[..., Any]]]:
    for attribute in dir(type(instance)):
        if attribute.startswith("_") or isinstance(inspect.getattr_static(instance, attribute), property):
            continue
        function = getattr(instance, attribute)
        if inspect.iscoroutinefunction(function):
            yield attribute, function


def _wire_signature(name: str, function: Callable[..., Any]) -> tuple[inspect.Signature, str | None]:
    """The signature as callers see it: annotations resolved, the Context parameter left out."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError) as error:  # of a module, of a builtin
        raise UsageError(f"{name} cannot be served: {error}") from error
    hints = _type_hints(name, function)
    context_parameter: str | None = None
    parameters = []
    for parameter in signature.parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise UsageError(f"{name}: *{parameter.name} cannot be described to callers; take a list or a dict instead")
        annotation = hints.get(parameter.name, Any)
        if _is_context(annotation):
            context_parameter = parameter.name
        else:
            parameters.append(parameter.replace(annotation=annotation))
    if parameters and parameters[0].name == "self":
        raise UsageError(f"{name} takes self: serve it of an instance, with Service.from_object or service.method(…)")
    return inspect.Signature(parameters, return_annotation=hints.get("return", Any)), context_parameter


def _position(function: Callable[..., Any], parameter: str | None) -> int | None:
    """Where a parameter stands among the positional ones; None when it can only be given by its name."""
    parameters = inspect.signature(function).parameters
    if parameter is None or parameters[parameter].kind is inspect.Parameter.KEYWORD_ONLY:
        return None
    return list(parameters).index(parameter)


def _type_hints(name: str, function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function, include_extras=True)
    except (NameError, AttributeError) as error:
        raise UsageError(f"{name}: its annotations name something that cannot be found: {error}") from error
    except (SyntaxError, TypeError) as error:
        raise UsageError(f"{name}: its annotations cannot be read: {error}") from error


def _is_context(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Context)


def _compile_validator(name: str, signature: inspect.Signature) -> Callable[[Any], Any]:
    """pydantic's validator for a whole call: names, defaults, conversions and every error in one pass."""

    def capture(*args: Any, **kwargs: Any) -> Arguments:
        return args, kwargs

    capture.__name__ = capture.__qualname__ = name
    capture.__signature__ = signature.replace(return_annotation=inspect.Signature.empty)  # type: ignore[attr-defined]
    capture.__annotations__ = {parameter.name: parameter.annotation for parameter in signature.parameters.values()}
    try:
        return TypeAdapter[Arguments](capture).validator.validate_python  # type: ignore[arg-type]  # a callable's schema
    except PydanticUserError as error:
        unknown = error.code == "schema-for-unknown-type"  # what pydantic says to do then is for models only
        problem = (
            f"{error.message.partition('. ')[0]}. Take a dataclass, a model or a dict" if unknown else error.message
        )
        raise UsageError(f"{name}: its parameters cannot be checked: {problem}") from error


def _invalid(spec: MethodSpec, error: ValidationError) -> InvalidArgument:
    problems = error.errors(include_url=False, include_input=False, include_context=False)
    details = [{"argument": _argument_name(spec, problem["loc"]), "problem": problem["msg"]} for problem in problems]
    listed = "; ".join(f"{detail['argument']}: {detail['problem']}" for detail in details[:5])
    return InvalidArgument(f"{spec.name}: {listed}", details={"errors": details[:20]})


def _argument_name(spec: MethodSpec, location: tuple[int | str, ...]) -> str:
    names = list(spec.parameters)
    first = location[0] if location else ""
    if isinstance(first, int) and first < len(names):
        first = names[first]
    return ".".join(str(part) for part in (first, *location[1:]))


_OPTIONS = MethodOptions.__optional_keys__ - {"name"}
