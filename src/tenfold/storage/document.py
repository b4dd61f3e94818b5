"""`Document`: what a folder says of its network; `Manifest`: that, and how its files are to be read."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path, PureWindowsPath
from typing import Any, Literal, TypeAlias

from tenfold.documents import Natural, read, text_of, to_json
from tenfold.protocols import TenfoldError, within

# parts are Any: get_type_hints, by which arguments are compared with their types, knows no type that holds itself
JSON: TypeAlias = bool | int | float | str | Sequence[Any] | Mapping[str, Any] | None
Kind = Literal["zoo", "file", "package", "given"]

MARK = "tenfold"  # what `format` in model.json says of a folder of ours, in every schema
SCHEMA, UNSEALED = 2, 1  # of what is written; the older one has no hash of model.json and no sizes
SEAL = '\n  "sha256": "{}"'  # where model.json holds its own hash: that of its text with none between the quotes
WEIGHTS, PLAN, MODEL, CODE, REPORT, PAGE, RECIPE, README, STATE = (
    "model.safetensors", "plan.yaml", "model.json", "code", "report.json", "report.html", "recipe.yaml", "README.md",
    "state",
)  # fmt: skip
OWN = (WEIGHTS, PLAN, MODEL, CODE, REPORT, PAGE, RECIPE, README)  # what a replacement replaces; all else stays


@dataclass(frozen=True)
class Origin:
    """Where the architecture comes from.

    Attributes:
        kind: `zoo`: a name alone tells it; `file` and `package`: code that is run to build it; `given`: a model in
            Python.
        name: the zoo's, `timm:NAME`, `net.py:function`, `package.module:function`, or the class of what was given.
        code: the file behind `net.py:function`, or the config behind `hf:FOLDER`; once read from a folder, the copy
            there.
        neighbours: the files beside it, and in folders below, that it imports.
    """

    kind: Kind
    name: str
    code: Path | None = None
    neighbours: tuple[Path, ...] = ()

    @property
    def sources(self) -> dict[str, Path]:
        """Its files by the names that they have in a folder, `code/net.py` first; none where it has no code."""
        if self.code is None:
            return {}
        places = (self.code, *self.neighbours)
        return {f"{CODE}/{path.relative_to(self.code.parent).as_posix()}": path for path in places}


@dataclass(frozen=True)
class Document:
    """What a folder says of its network besides the plan.

    Attributes:
        normalisation: `{"mean": [...], "std": [...]}` of the inputs.
        input: the shape of one sample by the name of the input, `{"x": [3, 32, 32]}`; for the page that people read.
        dtypes: of inputs that are whole numbers or truth values, by name, `{"ids": "int64"}`.
        settings: whatever else a caller wants back, in values that JSON knows: the data's name, classes.
    """

    origin: Origin
    normalisation: Mapping[str, Sequence[float]] | None = None
    input: Mapping[str, Sequence[int]] | None = None
    dtypes: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Manifest:
    """All of model.json.

    Attributes:
        tied: other name -> the name under which the tensor is stored.
        strides: of tensors that were not laid out row by row; a layout decides the last bits of an output.
        remade: dtypes of the buffers that the architecture makes anew.
        widened: dtypes that tensors of the network have, where the file has narrower ones.
        files: path in the folder -> SHA-256, of every file that loading reads, and of the report.
        sizes: likewise in bytes, so that a file of another size is refused unread; empty in the older schema.
        versions: of tenfold, torch and Python when it was written.
    """

    document: Document
    tied: Mapping[str, str]
    strides: Mapping[str, Sequence[int]]
    remade: Mapping[str, str]
    files: Mapping[str, str]
    versions: Mapping[str, str]
    sizes: Mapping[str, Natural] = field(default_factory=dict)
    widened: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """The text of model.json; the same for the same contents."""
        document, own = self.document, {key: value for key, value in vars(self).items() if key != "document"}
        code, *beside = document.origin.sources or [None]
        origin = {**vars(document.origin), "code": code, "neighbours": beside}
        return sealed({"format": MARK, "schema": SCHEMA, **vars(document), "origin": origin, **own})

    @staticmethod
    def read(folder: Path) -> "Manifest":
        """The manifest of a folder.

        Raises: TenfoldError for what tenfold did not write, wrote in a later schema, or what was damaged since.
        """
        text = model_json(folder)
        given = marked(text)
        if given is None:
            raise TenfoldError(
                f"'{folder}' is not a folder that tenfold wrote: it has no {MODEL} of tenfold's; check the name, or "
                f"copy the folder again, whole."
            )
        if given.get("schema") not in (SCHEMA, UNSEALED):
            versions = given.get("versions")
            writer = versions.get("tenfold") if isinstance(versions, dict) else None
            raise TenfoldError(
                f"'{folder / MODEL}' has schema {given.get('schema')!r:.60} and this version reads schema {SCHEMA}; "
                f"install the tenfold that wrote it ({writer or 'a later version'})."
            )
        try:
            if not is_sealed(text, given):
                raise TenfoldError("it is not as it was saved")
            return parsed(folder, given)
        except TenfoldError as error:
            said = str(error).removesuffix(".")
            raise TenfoldError(f"'{folder / MODEL}' is damaged ({said}); copy the folder again, whole.") from error


def parsed(folder: Path, given: Mapping[str, Any]) -> Manifest:
    """The parts of a model.json of our schema.

    Raises: TenfoldError for what is not as we write it.
    """
    parts = {item.name: given[item.name] for item in fields(Document) if item.name in given}
    own = {item.name: given[item.name] for item in fields(Manifest) if item.name in given}
    manifest = read({"document": parts, **own}, Manifest)
    origin, files = manifest.document.origin, manifest.files
    sources = [path.as_posix() for path in (origin.code, *origin.neighbours) if path is not None]
    for name in (*files, *sources):
        if not is_within(name) or name not in files:
            raise TenfoldError(f"{name!r:.60} is not one of its files")
    placed = replace(
        origin,
        code=None if origin.code is None else folder / origin.code,
        neighbours=tuple(folder / path for path in origin.neighbours),
    )
    return replace(manifest, document=replace(manifest.document, origin=placed))


def is_within(name: str) -> bool:
    """Whether a path names a file that lies in the folder, on whatever system."""
    windows = PureWindowsPath(name)
    return name.isprintable() and not windows.anchor and not name.startswith("/") and ".." not in windows.parts


def model_json(folder: Path) -> str:
    """The text of model.json; empty where there is none that can be read."""
    try:
        return text_of(folder / MODEL)
    except TenfoldError:
        return ""


def marked(text: str) -> dict[str, Any] | None:
    """What a model.json that tenfold wrote, in whatever schema, holds; None for any other text."""
    try:
        given = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return given if isinstance(given, dict) and given.get("format") == MARK else None


def sealed(values: Mapping[str, Any]) -> str:
    """The text of a model.json that holds its own hash."""
    text = json_text(MODEL, {**values, "sha256": ""}, sort=True)
    return text.replace(SEAL.format(""), SEAL.format(hashlib.sha256(text.encode()).hexdigest()))


def is_sealed(text: str, given: Mapping[str, Any]) -> bool:
    """Whether a model.json is the text that was written; of the older schema nobody can say."""
    if given["schema"] == UNSEALED and "sha256" not in given:
        return True
    seal = SEAL.format(given.get("sha256"))
    bare = text.replace(seal, SEAL.format(""))
    return seal in text and hashlib.sha256(bare.encode()).hexdigest() == given["sha256"]


def verify(folder: Path, manifest: Manifest, *names: str) -> None:
    """Check that files are the ones that were written; all but the report, which no network needs, where none is named.

    Raises: TenfoldError that names the first file that is not, and what to do.
    """
    for name in (PLAN, WEIGHTS):
        if name not in manifest.files:
            raise TenfoldError(f"'{folder / MODEL}' does not list {name}; copy the folder again, whole.")
    for name in names or [name for name in manifest.files if name != REPORT]:
        path = folder / name
        try:
            check_same(path, manifest.files[name], manifest.sizes.get(name))
        except OSError as error:
            raise TenfoldError(f"'{path}' cannot be read: {error.strerror or error}.") from error
    if not names:
        check_code(folder, manifest)


def check_same(path: Path, digest: str, size: int | None) -> None:
    """Raise where a file is not there, or not the one with this hash and this number of bytes."""
    if not path.is_file():
        raise TenfoldError(f"'{path}' is missing; copy the folder again, whole.")
    if size not in (None, path.stat().st_size) or sha256(path) != digest:
        way = "to change a plan, edit a copy and hand it to --plan; " if path.name == PLAN else ""
        raise TenfoldError(
            f"'{path}' is not the file that was saved: it was cut short, altered, or belongs to another folder; "
            f"{way}copy the folder again, whole."
        )


def check_code(folder: Path, manifest: Manifest) -> None:
    """Raise for a file among the sources that is not the folder's own: the network would import it unseen."""
    for path in sorted((folder / CODE).rglob("*")):
        name = path.relative_to(folder).as_posix()
        is_foreign = path.resolve() != folder.resolve() / name
        if is_foreign or not (path.is_dir() or name in manifest.files):
            raise TenfoldError(f"'{path}' is not one of the files that were saved; take it out of '{folder / CODE}'.")


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def json_text(name: str, values: Mapping[str, Any], *, sort: bool = False) -> str:
    """The text of a JSON file of the folder.

    Raises: TenfoldError for what JSON cannot hold.
    """
    with within(name):
        return to_json(values, indent=2, sort=sort)
