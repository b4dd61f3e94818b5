"""Frozen dataclasses as JSON documents, and back with every part checked."""

import json
import types
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from tenfold.protocols import TenfoldError, near_misses, within

T = TypeVar("T")


def to_json(document: Any, schema: int, **derived: Any) -> str:
    """A dataclass as JSON with its schema number in front; `derived`: what a reader wants besides its fields."""
    return json.dumps({"schema": schema, **asdict(document), **derived}, indent=1, ensure_ascii=False) + "\n"


def from_json(text: str, kind: type[T], schema: int, derived: tuple[str, ...] = ()) -> T:
    """The dataclass that `to_json` wrote; `derived` keys are dropped.

    Raises: TenfoldError, one sentence that names the part which is not as it should be.
    """
    try:
        given = json.loads(text)
    except json.JSONDecodeError as error:
        raise TenfoldError(f"not a JSON file: {error}.") from error
    if not isinstance(given, dict) or "schema" not in given:
        raise TenfoldError(f"not a {kind.__name__.lower()}: it is a mapping with 'schema' and other keys.")
    if given["schema"] != schema:
        raise TenfoldError(f"schema {given['schema']!r} is not known; this version reads schema {schema}.")
    built: T = read(kind, {key: value for key, value in given.items() if key not in ("schema", *derived)})
    return built


def read(hint: Any, value: Any) -> Any:
    """A value of this type from what JSON holds for it."""
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin in (Union, types.UnionType):
        if value is None and type(None) in inner:
            return None
        return read(next(part for part in inner if part is not type(None)), value)
    if is_dataclass(hint):
        return read_dataclass(hint, value)
    if origin is Mapping and isinstance(value, dict):
        return {key: read_part(f"'{key}'", inner[1], part) for key, part in value.items()}
    if origin is tuple and isinstance(value, list) and (inner[-1] is Ellipsis or len(inner) == len(value)):
        hints = [inner[0]] * len(value) if inner[-1] is Ellipsis else inner
        return tuple(read(part, item) for part, item in zip(hints, value, strict=True))
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if origin is None and type(value) is hint:
        return value
    raise TenfoldError(f"{value!r:.60} stands where {expected(hint)} belongs.")


def read_part(place: str, hint: Any, value: Any) -> Any:
    """A named part of a document."""
    with within(place):
        return read(hint, value)


def read_dataclass(kind: Any, value: Any) -> Any:
    """A dataclass from a mapping that has exactly its fields."""
    hints = get_type_hints(kind)
    names = [item.name for item in fields(kind)]
    if not isinstance(value, dict):
        raise TenfoldError(f"{value!r:.60} stands where a mapping with {', '.join(names)} belongs.")
    for key in value:
        if key not in names:
            raise TenfoldError(f"nothing is called '{key}'{near_misses(key, names)}")
    for name in names:
        if name not in value:
            raise TenfoldError(f"'{name}' is missing.")
    return kind(**{name: read_part(f"'{name}'", hints[name], value[name]) for name in names})


def expected(hint: Any) -> str:
    """A type in words."""
    words = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", Mapping: "a mapping"}
    return words.get(get_origin(hint) or hint, f"a list like {hint}")
