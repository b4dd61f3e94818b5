"""Documents: dataclasses as JSON and YAML, and back with every part checked against its type."""

import json
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec
import yaml

from tenfold.protocols import TenfoldError, near_misses, within

T = TypeVar("T")
Positive = Annotated[int, msgspec.Meta(ge=1)]
Natural = Annotated[int, msgspec.Meta(ge=0)]
WORDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    str: "text",
    bool: "true or false",
    Path: "a path",
    types.NoneType: "nothing",
}


# ---- text
def to_json(values: Mapping[str, Any], *, indent: int | None = 1, sort: bool = False) -> str:
    """A document as JSON.

    Raises: TenfoldError for what JSON cannot hold.
    """
    try:
        text = json.dumps(values, indent=indent, sort_keys=sort, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise TenfoldError(f"cannot be written: {error}; give text, finite numbers, lists and dicts.") from error
    return text + "\n"


def to_yaml(values: Mapping[str, Any]) -> str:
    """A document as YAML that a person edits, its keys in their order."""
    plain = msgspec.to_builtins(values)
    text: str = yaml.safe_dump(plain, sort_keys=False, default_flow_style=None, width=110, allow_unicode=True)
    return text


def from_json(text: str, kind: type[T], noun: str, schema: int, derived: Sequence[str] = ()) -> T:
    """A document from JSON; `noun`: what it is, for people; `derived`: keys that are not read.

    Raises: TenfoldError, one sentence that names the part which is not as it should be.
    """
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise TenfoldError(f"not a JSON file: {error}.") from error
    return checked(values, kind, noun, schema, derived)


def from_yaml(text: str, kind: type[T], noun: str, schema: int) -> T:
    """The same from YAML; a key with nothing behind it counts as left out.

    Raises: TenfoldError, as `from_json` does, and for a key that stands twice.
    """
    try:
        values = yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError) as error:  # a date that does not exist is a ValueError
        raise TenfoldError(f"not a YAML file: {' '.join(str(error).split())}.") from error
    return checked(values, kind, noun, schema)


class _Loader(yaml.SafeLoader):
    """Keys are the texts that were written (`0`, `1.10`, `on`), each once."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                key.tag = "tag:yaml.org,2002:str"
                if key.value in seen:
                    raise yaml.MarkedYAMLError(problem=f"key '{key.value}' stands twice", problem_mark=key.start_mark)
                seen.add(key.value)
        return {key: value for key, value in super().construct_mapping(node, deep).items() if value is not None}


# ---- values
def checked(values: Any, kind: type[T], noun: str, schema: int, derived: Sequence[str] = ()) -> T:
    """A document from the values of its file."""
    if not isinstance(values, dict) or "schema" not in values:
        *names, last = [f"'{name}'" for name in ["schema", *required(kind)]]
        raise TenfoldError(f"not {noun}: {noun} has {', '.join(names)} and {last}.")
    if values["schema"] != schema:
        raise TenfoldError(f"schema {values['schema']!r} is not known; this version reads schema {schema}.")
    return read({key: value for key, value in values.items() if key not in ("schema", *derived)}, kind)


def read(value: Any, kind: type[T]) -> T:
    """A value of this type from what a file holds for it: mappings for dataclasses, lists for tuples.

    Raises: TenfoldError, one sentence that names the part which is not as it should be.
    """
    check_keys(value, kind)
    try:
        found: T = converted(value, kind)
    except msgspec.ValidationError as error:
        raise TenfoldError(fault(value, kind, error)) from error
    return found


def fits(value: Any, kind: Any) -> bool:
    """Whether a value is one of this type, its limits included."""
    try:
        converted(value, kind)
    except msgspec.ValidationError:
        return False
    return True


def expected(kind: Any) -> str:
    """A type in words, with its limits: `a whole number from 1 or 'full'`."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return inner[1].description or f"{expected(inner[0])} from {inner[1].ge}"
    if origin in (Union, types.UnionType):
        return " or ".join(expected(each) for each in inner)
    if origin is Literal:
        return " or ".join(repr(each) for each in inner)
    if hints(kind):
        return f"a mapping with {', '.join(hints(kind))}"
    if origin is tuple and inner[-1] is not Ellipsis:
        return f"a list of {len(inner)}"
    return WORDS.get(kind) or ("a mapping" if is_mapping(origin) else "a list")


def converted(value: Any, kind: Any) -> Any:
    return msgspec.convert(value, kind, dec_hook=lambda other, given: other(given))  # paths


def check_keys(value: Any, kind: Any) -> None:
    """Raise for keys of mappings that are no fields of their dataclasses: msgspec passes over them."""
    if hints(kind) and isinstance(value, dict):
        for key in value:
            if key not in hints(kind):
                raise TenfoldError(f"nothing is called '{key}'{near_misses(str(key), hints(kind))}")
    for place, part, inner in parts(value, kind) if has_fields(kind) else ():
        with within(place):
            check_keys(part, inner)


def fault(value: Any, kind: Any, error: msgspec.ValidationError) -> str:
    """In words, the innermost part of a value that is not as its type says."""
    for place, part, inner in parts(value, kind):
        try:
            converted(part, inner)
        except msgspec.ValidationError as deeper:
            return f"{place}: {fault(part, inner, deeper)}"
    if isinstance(error.__cause__, TenfoldError):  # of a dataclass, which checked itself
        return str(error.__cause__)
    missing = [name for name in required(kind) if name not in value] if isinstance(value, dict) else []
    return f"'{missing[0]}' is missing." if missing else f"{value!r:.60} stands where {expected(kind)} belongs."


def parts(value: Any, kind: Any) -> Iterator[tuple[str, Any, Any]]:
    """(place, value, type) of everything that a mapping or a list holds."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType, Annotated):
        for each in inner:
            yield from parts(value, each)
    elif hints(kind) and isinstance(value, dict):
        yield from ((f"'{name}'", value[name], hint) for name, hint in hints(kind).items() if name in value)
    elif is_mapping(origin):
        pairs = value.items() if isinstance(value, dict) else ()
        yield from ((f"'{key}'", part, inner[1]) for key, part in pairs)
    elif inner and isinstance(value, list):
        each_kind = inner if origin is tuple and inner[-1] is not Ellipsis else [inner[0]] * len(value)
        yield from ((f"entry {k + 1}", *pair) for k, pair in enumerate(zip(value, each_kind, strict=False)))


# ---- types
@cache
def hints(kind: Any) -> Mapping[str, Any]:
    """The types of a dataclass's fields; empty for any other type."""
    if not is_dataclass(kind):
        return {}
    known = get_type_hints(kind, include_extras=True)
    return {item.name: known[item.name] for item in fields(kind)}


def required(kind: Any) -> list[str]:
    """The fields of a dataclass that have no default; none for other types."""
    own = fields(kind) if is_dataclass(kind) else ()
    return [item.name for item in own if item.default is MISSING and item.default_factory is MISSING]


@cache
def has_fields(kind: Any) -> bool:
    """Whether a type is a dataclass or holds some."""
    return bool(hints(kind)) or any(has_fields(part) for part in get_args(kind))


def is_mapping(origin: Any) -> bool:
    """Whether a generic type is one of mappings."""
    return isinstance(origin, type) and issubclass(origin, Mapping)
