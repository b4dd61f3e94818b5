"""`Document`: what a folder says of its network; `Manifest`: that, and how its files are to be read."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeAlias, cast, get_args

from tenfold.protocols import TenfoldError

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
        kind: `zoo`: tenfold's own; `file` and `package`: code that is run to build it; `given`: a model in Python.
        name: the zoo's name, `net.py:function`, `package.module:function`, or the class of what was given.
        code: the file behind `net.py:function`; once read from a folder, the copy there.
    """

    kind: Kind
    name: str
    code: Path | None = None


@dataclass(frozen=True)
class Document:
    """What a folder says of its network besides the plan.

    Attributes:
        normalisation: `{"mean": [...], "std": [...]}` of the inputs.
        input: the shape of one sample by the name of the input, `{"x": [3, 32, 32]}`; for the page that people read.
        dtypes: of inputs that are whole numbers or truth values, by name, `{"ids": "int64"}`.
        settings: whatever else a caller wants back: the data's name, classes.
    """

    origin: Origin
    normalisation: Mapping[str, Sequence[float]] | None = None
    input: Mapping[str, Sequence[int]] | None = None
    dtypes: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, JSON] = field(default_factory=dict)


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
        document = self.document
        code = document.origin.code
        values: dict[str, Any] = {
            "format": MARK,
            "schema": SCHEMA,
            "origin": {
                "kind": document.origin.kind,
                "name": document.origin.name,
                "code": None if code is None else f"{CODE}/{code.name}",
            },
            "normalisation": document.normalisation,
            "input": document.input,
            "dtypes": document.dtypes,
            "settings": document.settings,
            "tied": self.tied,
            "strides": self.strides,
            "remade": self.remade,
            "files": self.files,
            "versions": self.versions,
        }
        return json_text(MODEL, values, sort=True)

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
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise TenfoldError(f"'{folder / MODEL}' is damaged ({error}); copy the folder again, whole.") from error


def parsed(folder: Path, given: Mapping[str, Any]) -> Manifest:
    """The parts of a model.json of our schema; whatever is not as we write it raises."""
    origin, files = given["origin"], dict(given["files"])
    if origin["kind"] not in get_args(Kind):
        raise ValueError(f"no origin is of the kind {origin['kind']!r}")
    for name in (*files, *filter(None, [origin["code"]])):
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or name not in files:
            raise ValueError(f"'{name}' is not one of its files")
    document = Document(
        origin=Origin(
            cast(Kind, origin["kind"]), str(origin["name"]), folder / origin["code"] if origin["code"] else None
        ),
        normalisation=given["normalisation"],
        input=given["input"],
        dtypes=dict(given.get("dtypes", {})),
        settings=dict(given["settings"]),
    )
    return Manifest(
        document, dict(given["tied"]), dict(given["strides"]), dict(given["remade"]), files, dict(given["versions"])
    )


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
    """The text of a JSON file.

    Raises: TenfoldError for what JSON cannot hold.
    """
    try:
        return json.dumps(values, indent=2, sort_keys=sort, ensure_ascii=False, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise TenfoldError(f"{name} cannot be written: {error}; give text, finite numbers, lists and dicts.") from error
