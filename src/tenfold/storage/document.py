"""`Document`: what a folder says of its network; `Manifest`: that, and how its files are to be read."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeAlias

from tenfold.documents import read, to_json
from tenfold.protocols import TenfoldError, within

JSON: TypeAlias = "bool | int | float | str | Sequence[JSON] | Mapping[str, JSON] | None"
Kind = Literal["zoo", "file", "package", "given"]

MARK = "tenfold"  # what `format` in model.json says of a folder of ours, in every schema
SCHEMA = 1
WEIGHTS, PLAN, MODEL, CODE, REPORT, PAGE, README, STATE = (
    "model.safetensors", "plan.yaml", "model.json", "code", "report.json", "report.html", "README.md", "state",
)  # fmt: skip
OWN = (WEIGHTS, PLAN, MODEL, CODE, REPORT, PAGE, README)  # what a replacement replaces; all else in a folder stays


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
        files: path in the folder -> SHA-256, of every file that loading reads.
        versions: of tenfold, torch and Python when it was written.
    """

    document: Document
    tied: Mapping[str, str]
    strides: Mapping[str, Sequence[int]]
    remade: Mapping[str, str]
    files: Mapping[str, str]
    versions: Mapping[str, str]

    def to_json(self) -> str:
        """The text of model.json; the same for the same contents."""
        document, own = self.document, {key: value for key, value in vars(self).items() if key != "document"}
        code, *beside = document.origin.sources or [None]
        origin = {**vars(document.origin), "code": code, "neighbours": beside}
        return json_text(
            MODEL, {"format": MARK, "schema": SCHEMA, **vars(document), "origin": origin, **own}, sort=True
        )

    @staticmethod
    def read(folder: Path) -> "Manifest":
        """The manifest of a folder.

        Raises: TenfoldError for what tenfold did not write, wrote in a later schema, or what was damaged since.
        """
        given = marked(folder)
        if given is None:
            raise TenfoldError(
                f"'{folder}' is not a folder that tenfold wrote: it has no {MODEL} of tenfold's; check the name, or "
                f"copy the folder again, whole."
            )
        if given.get("schema") != SCHEMA:
            writer = given.get("versions", {}).get("tenfold", "a later version")
            raise TenfoldError(
                f"'{folder / MODEL}' has schema {given.get('schema')!r} and this version reads schema {SCHEMA}; "
                f"install the tenfold that wrote it ({writer})."
            )
        try:
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
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or name not in files:
            raise TenfoldError(f"'{name}' is not one of its files")
    placed = replace(
        origin,
        code=None if origin.code is None else folder / origin.code,
        neighbours=tuple(folder / path for path in origin.neighbours),
    )
    return replace(manifest, document=replace(manifest.document, origin=placed))


def marked(folder: Path) -> dict[str, Any] | None:
    """model.json of a folder that tenfold wrote, in whatever schema; None for anything else."""
    try:
        given = json.loads((folder / MODEL).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return given if isinstance(given, dict) and given.get("format") == MARK else None


def verify(folder: Path, manifest: Manifest, *names: str) -> None:
    """Check that files are the ones that were written; all that loading reads where none is named.

    Raises: TenfoldError that names the first file that is not, and what to do.
    """
    for name in (PLAN, WEIGHTS, *names):
        if name not in manifest.files:
            raise TenfoldError(f"'{folder / MODEL}' does not list {name}; copy the folder again, whole.")
    for name in names or manifest.files:
        path = folder / name
        if not path.is_file():
            raise TenfoldError(f"'{path}' is missing; copy the folder again, whole.")
        if sha256(path) != manifest.files[name]:
            way = "to change a plan, edit a copy and hand it to --plan; " if name == PLAN else ""
            raise TenfoldError(
                f"'{path}' is not the file that was saved: it was cut short, altered, or belongs to another folder; "
                f"{way}copy the folder again, whole."
            )


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
