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


MOST_BYTES = 64 * 2**20  # of a document; the plan of a hundred thousand layers has a third of that
MOST_YAML = 4 * 2**20  # characters of YAML, which takes twenty seconds a million to read
MOST_COPIES = 100  # how many times as many parts aliases may stand for


# ---- text
def text_of(path: Path) -> str:
    """The text of a document.

    Raises: TenfoldError for what is no file, cannot be read, or is too large for one: then nothing is read.
    """
    try:
        if not path.is_file():
            raise TenfoldError(f"'{path}' cannot be read: it is {'no file' if path.exists() else 'not there'}.")
        if (size := path.stat().st_size) > MOST_BYTES:
            raise TenfoldError(f"'{path}' has {size:,} bytes, and no document has more than {MOST_BYTES:,}.")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise TenfoldError(f"'{path}' cannot be read: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise TenfoldError(f"'{path}' is no text in UTF-8.") from error


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
    flow = None if any(isinstance(value, dict | list) for value in plain.values()) else False  # a key a line
    text: str = yaml.safe_dump(plain, sort_keys=False, default_flow_style=flow, width=110, allow_unicode=True)
    return text


def from_json(text: str, kind: type[T], noun: str, schema: int, derived: Sequence[str] = ()) -> T:
    """A document from JSON; `noun`: what it is, for people; `derived`: keys that are not read.

    Raises: TenfoldError, one sentence that names the part which is not as it should be.
    """
    try:
        values = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise TenfoldError(f"not a JSON file: {error}.") from error
    return checked(values, kind, noun, schema, derived)


def from_yaml(text: str, kind: type[T], noun: str, schema: int) -> T:
    """The same from YAML; a key with nothing behind it counts as left out.

    Raises: TenfoldError, as `from_json` does, and for a key that stands twice.
    """
    return checked(yaml_values(text), kind, noun, schema)


def yaml_values(text: str) -> Any:
    """What a YAML file holds, in plain values; no code is run, whatever its tags say.

    Raises: TenfoldError, one sentence that names the line; or for more than is read in a minute or two.
    """
    if len(text) > MOST_YAML:
        raise TenfoldError(f"it has {len(text):,} characters, and no YAML of ours has more than {MOST_YAML:,}.")
    try:
        return yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, RecursionError, ValueError, TypeError, LookupError, AttributeError) as error:
        # the last four: what PyYAML lets out for a date that does not exist, `!!int ""`, `!!set [1]`, `!!bool maybe`
        raise TenfoldError(f"not a YAML file: {' '.join(str(error).split())}.") from error


class _Loader(yaml.SafeLoader):
    """Keys are the texts that were written (`0`, `1.10`, `on`), each once; aliases stand for no more than is read."""

    def get_single_node(self) -> Any:
        node = super().get_single_node()
        parts: dict[yaml.Node, int] = {}
        if node is not None and written_out(node, parts) > MOST_COPIES * len(parts):
            raise yaml.MarkedYAMLError(problem=f"aliases repeat more than {MOST_COPIES} times what stands there")
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        found = super().construct_object(node, deep)
        if isinstance(found, int) and found.bit_length() > 64:
            raise yaml.MarkedYAMLError(problem="a number of more than 64 bits", problem_mark=node.start_mark)
        return found

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                key.tag = "tag:yaml.org,2002:str"
                if key.value in seen:
                    raise yaml.MarkedYAMLError(problem=f"key '{key.value}' stands twice", problem_mark=key.start_mark)
                seen.add(key.value)
        return {key: value for key, value in super().construct_mapping(node, deep).items() if value is not None}


def written_out(node: yaml.Node, parts: dict[yaml.Node, int]) -> int:
    """How many parts a node has where each alias is replaced by what it stands for; `parts`: of those seen so far."""
    if node not in parts:
        parts[node] = 0
        held = node.value if isinstance(node, yaml.CollectionNode) else []
        inner = [each for item in held for each in (item if isinstance(item, tuple) else (item,))]
        parts[node] = 1 + sum(written_out(each, parts) for each in inner)
    elif parts[node] == 0:
        raise yaml.MarkedYAMLError(problem="an alias stands within what it stands for", problem_mark=node.start_mark)
    return parts[node]


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
    try:
        check_keys(value, kind)
        found: T = converted(value, kind)
    except msgspec.ValidationError as error:
        raise TenfoldError(fault(value, kind, error)) from error
    except UnicodeEncodeError as error:  # half of a character, as JSON and YAML can write it
        raise TenfoldError(f"{value!r:.60} holds what is no text.") from error
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
    elif inner and origin is not Literal and isinstance(value, list):
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
