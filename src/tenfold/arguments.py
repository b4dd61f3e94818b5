"""Arguments of public functions, compared with their types before any work."""

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache, wraps
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints, is_typeddict

from tenfold.protocols import TenfoldError, near_misses

P = ParamSpec("P")
R = TypeVar("R")
WORDS: dict[Any, str] = {int: "a whole number", float: "a number", str: "text", bool: "True or False", NoneType: "None"}
NUMBERS: dict[Any, type] = {int: Integral, float: Real}
PLACES = {
    "Module": "a torch.nn.Module",
    "device": "a torch.device",
    "Path": "a path",
    "Callable": "a function",
    "Iterable": "a list of batches",
}


def typed(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function refuse keywords that it does not know, what is missing, and values of another type.

    It then raises TenfoldError, one sentence that names the argument, what was given and what belongs there.
    """

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        check(function, args, kwargs)
        return function(*args, **kwargs)

    return call


def check(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Raise where arguments are not those of a function."""
    name, known, is_open = function.__name__, hints(function), takes_any(function)
    for key in kwargs:
        if key not in known and not is_open:
            raise TenfoldError(f"{name} has no option '{key}'{near_misses(key, known)}")
    try:
        given = inspect.signature(function).bind(*args, **kwargs).arguments
    except TypeError as error:
        raise TenfoldError(f"{name}: {error}; it is {name}({', '.join(positional(function))}, ...).") from error
    for key, value in {**given, **kwargs}.items():
        if key in known and not is_a(value, known[key]):
            raise TenfoldError(f"{name}: {key} is {said(value)}, where {expected(known[key])} belongs.")


@cache
def hints(function: Callable[..., Any]) -> Mapping[str, Any]:
    """The types of a function's arguments, those behind `**` by their own names."""
    own = get_type_hints(function)
    found = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is not parameter.VAR_KEYWORD:
            found[name] = own[name]
        elif options := get_args(own[name]):  # Unpack[...]
            found |= {key: kind | None for key, kind in get_type_hints(options[0]).items()}  # None: not given
    return found


@cache
def takes_any(function: Callable[..., Any]) -> bool:
    """Whether keywords are handed on to a function that is not known here."""
    own = get_type_hints(function)
    every = inspect.signature(function).parameters.values()
    return any(each.kind is each.VAR_KEYWORD and not get_args(own[each.name]) for each in every)


def positional(function: Callable[..., Any]) -> list[str]:
    """The names of the arguments that must be given."""
    every = inspect.signature(function).parameters.values()
    return [each.name for each in every if each.default is each.empty and each.kind is not each.VAR_KEYWORD]


def is_a(value: Any, kind: Any) -> bool:
    """Whether a value is of a type, parts of lists and mappings included; a text is no list, a boolean is a number."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return any(is_a(value, each) for each in inner)
    if origin is Literal:  # which of them is checked where they are known
        return isinstance(value, type(inner[0]))
    if origin is Sequence:
        return isinstance(value, Collection) and not isinstance(value, str) and all(is_a(x, inner[0]) for x in value)
    if origin is Mapping:
        return isinstance(value, Mapping) and all(is_a(k, inner[0]) and is_a(x, inner[1]) for k, x in value.items())
    if is_typeddict(kind):
        own = get_type_hints(kind)
        return isinstance(value, Mapping) and all(key in own and is_a(x, own[key]) for key, x in value.items())
    home = NUMBERS.get(kind) or origin or kind
    return not isinstance(home, type) or home is Any or isinstance(value, home)


def expected(kind: Any) -> str:
    """A type in words: `text or a list of text or None`."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return " or ".join(expected(each) for each in inner)
    if origin is Literal:
        return " or ".join(repr(each) for each in inner)
    if origin in (Sequence, Mapping):
        return f"a {'list' if origin is Sequence else 'mapping'} of {' to '.join(expected(each) for each in inner)}"
    if is_typeddict(kind):
        return f"a mapping of {', '.join(get_type_hints(kind))}"
    if kind in WORDS:
        return WORDS[kind]
    home = origin or kind
    name = getattr(home, "__name__", str(home))
    own = getattr(home, "__module__", "").startswith("tenfold.")
    return PLACES.get(name, f"a {'tenfold.' * own}{name}")


def said(value: Any) -> str:
    """A value in an error: itself where it is short, else its type."""
    text = repr(value)
    return text if len(text) <= 30 and "\n" not in text else f"of type {type(value).__name__}"
