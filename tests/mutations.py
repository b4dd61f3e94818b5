"""Saved folders spoilt in every way that we could think of, and what reading them comes to.

Each kind of mutation is a function of a folder and a generator. *Damage* leaves model.json's hashes as they were, and
must be noticed; what is *forged* has hashes that fit, as whoever means harm would make them: it may load as what it is,
but must not crash, hang, run code or touch a file outside.
"""

import hashlib
import json
import math
import os
import random
import shutil
import signal
import struct
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
import yaml
from torch import Tensor, nn

import tenfold
from tenfold import storage
from tenfold.models import resolve
from tenfold.protocols import TenfoldError
from tenfold.storage import Document, Origin
from tenfold.storage.document import sealed
from tenfold.surgery import Plan, Row, decompose

MODEL, PLAN, WEIGHTS, REPORT, CODE = "model.json", "plan.yaml", "model.safetensors", "report.json", "code/net.py"
FILES = MODEL, PLAN, WEIGHTS, REPORT, CODE, "code/parts.py"
SECONDS = 20  # in which a folder of a few kB is read, or it hangs

NET = """import torch
from parts import Tail
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.conv2 = nn.Conv2d(6, 6, 3, padding=1)
        self.tail = Tail()
        self.scale = nn.Buffer(torch.full((6,), 0.5), persistent=False)

    def forward(self, x):
        x = torch.relu(self.norm(self.conv1(x)))
        return self.tail((self.conv2(x) + x).mean(dim=(2, 3)) * self.scale)
"""
PARTS = """from torch import nn


class Tail(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(6, 6), nn.Linear(6, 6)
        self.fc2.weight = self.fc1.weight

    def forward(self, x):
        return self.fc2(self.fc1(x).relu())
"""
CANARY = "from pathlib import Path\nPath({!r}).write_text('code was run')\ndef run(): ...\n"


# ---- folders to spoil
@dataclass(frozen=True)
class Ground:
    """Where folders are spoilt.

    Attributes:
        sound: a folder as it was saved; other: one of the same architecture with other numbers.
        outside: a folder beside it that nobody may touch; in it `run.py` is written if code is run.
        wanted: what reading `sound` gives.
    """

    sound: Path
    other: Path
    outside: Path
    wanted: "Read"

    @contextmanager
    def copy(self) -> Iterator[Path]:
        """A copy of the sound folder to spoil, at a place of its own: Python keeps the modules of a place."""
        work = Path(tempfile.mkdtemp(dir=self.sound.parent))
        shutil.copytree(self.sound, work, dirs_exist_ok=True)
        try:
            yield work
        finally:
            shutil.rmtree(work, ignore_errors=True)
            for name in [name for name, module in sys.modules.items() if lies_in(module, work)]:
                del sys.modules[name]


@dataclass(frozen=True)
class Read:
    """All that a folder gives: tensors and outputs as bytes, the document without its place, plan and report."""

    tensors: Mapping[str, tuple[Any, ...]]
    outputs: bytes
    document: Document
    plan: Plan
    report: Any


def ground(place: Path) -> Ground:
    """Two sound folders, a few kB each: cores, tied and transposed weights, batch norms, code with a neighbour."""
    outside = place / "outside"
    outside.mkdir(parents=True)
    (outside / "secret.txt").write_text("of nobody's concern")
    (outside / "canary.py").write_text(CANARY.format(str(outside / "run.txt")))
    (place / "net.py").write_text(NET)
    (place / "parts.py").write_text(PARTS)
    for name, seed in (("sound", 1), ("other", 2)):
        write(place / name, place / "net.py", seed)
    return Ground(place / "sound", place / "other", outside, read(place / "sound", trust=True))


def lies_in(module: object, folder: Path) -> bool:
    """Whether a module was read from a folder."""
    return str(getattr(module, "__file__", None)).startswith(f"{folder}/")


def write(folder: Path, code: Path, seed: int) -> None:
    model = resolve(f"{code}:Net").function()
    draw = torch.Generator().manual_seed(seed)
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point():
            tensor.data = torch.rand(tensor.shape, generator=draw) / 2 + 0.1
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # (torch's stubs lack this one)
    rows = [Row("conv2", "tucker2", ranks=(2, 3)), Row("tail.fc1", "svd", ranks=(2,)), Row("conv1")]
    plan = Plan({row.name: row for row in rows})
    document = Document(
        Origin("file", "net.py:Net", code), {"mean": [0.5] * 3, "std": [0.25] * 3}, {"x": [3, 6, 6]},
        settings={"classes": ["a", "b"]},
    )  # fmt: skip
    storage.save(folder, decompose(model.eval(), plan), plan, document, report={"dense": {"params": 12}})


def read(folder: Path, *, model: nn.Module | None = None, trust: bool = False) -> Read:
    """By every function that reads folders."""
    loaded = tenfold.load(folder, model=model, trust_code=trust)
    document, plan = storage.read_document(folder), storage.read_plan(folder)
    tensors = {name: (each.dtype, each.stride(), raw(each)) for name, each in loaded.state_dict().items()}
    origin = replace(document.origin, code=None, neighbours=())
    placed = replace(document, origin=origin, settings={**document.settings, "code": sorted(document.origin.sources)})
    return Read(tensors, answer(loaded), placed, plan, storage.read_report(folder))


def answer(model: nn.Module) -> bytes:
    """What a network answers; nothing where it does not run, as one that was signed with other dtypes may not."""
    x = torch.linspace(-1, 1, 2 * 3 * 36).reshape(2, 3, 6, 6)
    try:
        with torch.no_grad():
            return raw(model(x))
    except RuntimeError:
        return b""


def raw(tensor: Tensor) -> bytes:
    return tensor.detach().reshape(-1).contiguous().view(torch.uint8).numpy().tobytes() if tensor.numel() else b""


# ---- what reading comes to
Outcome = Literal["refused", "identical", "as signed", "wrong"]


def outcome(ground: Ground, name: str, seed: int) -> tuple[Outcome, str]:
    """What reading comes to after one mutation, and the sentence that was said, or what went wrong."""
    kind, draw = KINDS[name], random.Random(seed)
    with ground.copy() as folder:
        kind.spoil(folder, draw)
        if kind.forged:
            signed(folder)
        before = snapshot(ground.outside)
        with at_most(SECONDS):
            found, said = attempt(ground, folder, forged=kind.forged)
        if snapshot(ground.outside) != before:
            return "wrong", f"a file outside was touched, or code was run: {said}"
    return found, said


def attempt(ground: Ground, folder: Path, *, forged: bool) -> tuple[Outcome, str]:
    """Read a folder: as one whose code is trusted where it was damaged, and as a stranger's where it was forged."""
    try:
        storage.is_folder(folder)
        if forged:
            with_nobodys_trust(folder)
        found = read(
            folder, model=resolve(f"{ground.sound}/code/net.py:Net").function() if forged else None, trust=not forged
        )
    except TenfoldError as error:
        said = str(error)
        return ("refused" if is_sentence(said) else "wrong"), said
    except (Exception, MemoryError) as error:  # noqa: BLE001  (whatever it is, it is a fault)
        return "wrong", f"{type(error).__name__}: {error}"
    if found == ground.wanted:
        return "identical", ""
    return ("as signed", "") if forged else ("wrong", "another network was loaded without a word")


def with_nobodys_trust(folder: Path) -> None:
    """A folder that names code is not loaded without a model of the reader's own."""
    try:
        tenfold.load(folder)
    except TenfoldError as error:
        if not is_sentence(str(error)):
            raise AssertionError(f"no sentence: {error}") from error


def is_sentence(text: str) -> bool:
    return "\n" not in text and text.endswith((".", "?")) and len(text) < 1000


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.iterdir()}


@contextmanager
def at_most(seconds: int) -> Iterator[None]:
    """Raise TimeoutError in what lasts longer."""

    def ring(*_: object) -> None:
        raise TimeoutError(f"nothing came of it in {seconds} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


# ---- mutations
Spoil = Callable[[Path, random.Random], object]


@dataclass(frozen=True)
class Kind:
    """One kind of mutation; `forged`: model.json is then made to fit."""

    spoil: Spoil
    forged: bool = False


KINDS: dict[str, Kind] = {}


def kind(name: str, *, damage: bool = True, forged: bool = False) -> Callable[[Spoil], Spoil]:
    """List a mutation, as damage, as forgery, or as both."""

    def listed(spoil: Spoil) -> Spoil:
        if damage:
            KINDS[name] = Kind(spoil)
        if forged:
            KINDS[f"{name}, forged"] = Kind(spoil, forged=True)
        return spoil

    return listed


def signed(folder: Path) -> None:
    """Make model.json fit the files as they are now, as the one who changed them would."""
    try:
        values = json.loads((folder / MODEL).read_text())
        for name in values["files"]:
            if (folder / name).is_file() and (folder / name).stat().st_size < 10**6:
                content = (folder / name).read_bytes()
                values["files"][name], values["sizes"][name] = hashlib.sha256(content).hexdigest(), len(content)
        (folder / MODEL).write_text(sealed(values))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OSError, TenfoldError):
        return  # what is no model.json any more cannot be signed


def edit(path: Path, change: Callable[[bytearray], object]) -> None:
    content = bytearray(path.read_bytes())
    change(content)
    path.write_bytes(content)


@kind("a bit flipped", forged=True)
def flip(folder: Path, draw: random.Random) -> None:
    at = draw.randrange(8)
    edit(folder / draw.choice(FILES), lambda x: x.__setitem__(k := draw.randrange(len(x)), x[k] ^ 1 << at))


@kind("cut short", forged=True)
def cut(folder: Path, draw: random.Random) -> None:
    edit(folder / draw.choice(FILES), lambda x: x.__delitem__(slice(draw.randrange(len(x)), None)))


@kind("bytes put in, taken out or written over", forged=True)
def scramble(folder: Path, draw: random.Random) -> None:
    def change(x: bytearray) -> None:
        k, n = draw.randrange(len(x)), draw.randrange(1, 40)
        x[k : k + draw.choice([0, n])] = draw.randbytes(draw.choice([0, n])) or x[:1]

    edit(folder / draw.choice(FILES), change)


@kind("a file missing")
def remove(folder: Path, draw: random.Random) -> None:
    (folder / draw.choice(FILES)).unlink()


@kind("a file of another network's folder")
def exchange(folder: Path, draw: random.Random) -> None:
    name = draw.choice([MODEL, WEIGHTS])
    shutil.copyfile(folder.parent / "other" / name, folder / name)


@kind("a file of a gigabyte or more")
def sparse(folder: Path, draw: random.Random) -> None:
    os.truncate(folder / draw.choice(FILES), draw.choice([10**9, 10**12]))


@kind("no plain file")
def special(folder: Path, draw: random.Random) -> None:
    path = folder / draw.choice(FILES)
    path.unlink()
    draw.choice([path.mkdir, lambda: os.mkfifo(path)])()


@kind("a link in a file's place")
def link(folder: Path, draw: random.Random) -> None:
    path = folder / draw.choice(FILES)
    same = folder.parent / "sound" / path.relative_to(folder)
    targets = [same, folder.parent / "outside/secret.txt", folder / "nowhere", path, folder, "/dev/zero", "/dev/null"]
    path.unlink()
    path.symlink_to(draw.choice(targets))


@kind("a file or link added to the code", forged=True)
def plant(folder: Path, draw: random.Random) -> None:
    target, canary = folder.parent / "outside", folder.parent / "outside/canary.py"
    name = draw.choice(["json", "torch", "math", "parts/__init__", "extra"])
    path = folder / f"code/{name}.py"
    path.parent.mkdir(exist_ok=True)
    way = draw.randrange(3)
    if way == 0:
        shutil.copyfile(canary, path)
    elif way == 1:
        path.symlink_to(canary)
    else:
        shutil.rmtree(folder / "code")
        (folder / "code").symlink_to(target)


# ---- of the weights
def tensors(path: Path, change: Callable[[dict[str, Any], bytearray], object]) -> None:
    """Change header and numbers of a safetensors file."""
    content = path.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    header, numbers = json.loads(content[8 : 8 + size]), bytearray(content[8 + size :])
    change(header, numbers)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + numbers)


def named(header: Mapping[str, Any], draw: random.Random) -> str:
    return draw.choice([name for name in header if name != "__metadata__"])


@kind("two tensors swapped", forged=True)
def swap(folder: Path, draw: random.Random) -> None:
    def change(header: dict[str, Any], numbers: bytearray) -> None:
        del numbers
        a = named(header, draw)
        b = draw.choice([name for name in header if name not in (a, "__metadata__")])
        header[a], header[b] = header[b], header[a]

    tensors(folder / WEIGHTS, change)


@kind("a tensor renamed, dropped or added", forged=True)
def rename(folder: Path, draw: random.Random) -> None:
    def change(header: dict[str, Any], numbers: bytearray) -> None:
        del numbers
        part = header.pop(named(header, draw))
        if new := draw.choice(["", "other", named(header, draw), "conv1.weight.cores.0"]):
            header[new] = part

    tensors(folder / WEIGHTS, change)


@kind("another shape, dtype or place of a tensor", forged=True)
def reshape(folder: Path, draw: random.Random) -> None:
    def change(header: dict[str, Any], numbers: bytearray) -> None:
        part = header[named(header, draw)]
        key = draw.choice(["shape", "dtype", "data_offsets"])
        part[key] = draw.choice({
            "shape": [[], [10**12], part["shape"][::-1], [1, *part["shape"]], [-1], [math.prod(part["shape"])]],
            "dtype": ["I32", "F64", "F16", "BOOL", "F8_E4M3", "F4", "C64", "X", None],
            "data_offsets": [[0, 4], [8, 4], [0, len(numbers) * 9], [-4, 4], [0.5, 2], None],
        }[key])  # fmt: skip

    tensors(folder / WEIGHTS, change)


@kind("NaN or infinity in a weight", forged=True)
def spoil_number(folder: Path, draw: random.Random) -> None:
    def change(header: dict[str, Any], numbers: bytearray) -> None:
        at = header[draw.choice([name for name, part in header.items() if part.get("dtype") == "F32"])]["data_offsets"][
            0
        ]
        numbers[at : at + 4] = struct.pack("<f", draw.choice([math.nan, math.inf]))

    tensors(folder / WEIGHTS, change)


# ---- of the plan
@kind("a plan that does not fit", forged=True)
def misplan(folder: Path, draw: random.Random) -> None:
    plan = yaml.safe_load((folder / PLAN).read_text())
    name = draw.choice(list(plan["layers"]))
    row = plan["layers"][name]
    key = draw.choice(["ranks", "ranks", "format", "stages", "modes", "options", "group", "name", "layout"])
    match key:
        case "name":
            plan["layers"][draw.choice(["conv9", "", "../conv1", "tail", "0"])] = plan["layers"].pop(name)
        case "layout":
            plan[draw.choice(["layout", "batch", "runtime", "schema"])] = junk(draw)
        case "ranks":
            row["format"] = draw.choice(["svd", "tucker2", "tt", "cp", "ht2", "tr", "btd", "dense"])
            row["ranks"] = [
                draw.choice([0, 1, 2, 3, 7, -1, 10**9, 10**19, "full", None, 2.5]) for _ in range(draw.randrange(5))
            ]
        case _:
            row[key] = junk(draw)
    (folder / PLAN).write_text(yaml.safe_dump(plan))


LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]\n" for k in range(1, 12))
MERGES = "a0: &a0 {x: 1}\n" + "".join(f"a{k}: &a{k} {{<<: [{', '.join([f'*a{k - 1}'] * 9)}]}}\n" for k in range(1, 12))


@kind("YAML tags, bombs and depth", forged=True)
def bomb(folder: Path, draw: random.Random) -> None:
    run = folder.parent / "outside/run.txt"
    value = draw.choice([
        f"!!python/object/apply:os.system ['touch {run}']", f"!!python/object/apply:pathlib.Path.touch ['{run}']",
        "!!python/name:os.system", "!!python/module:canary", "!!timestamp x", "!!int ''", "!!float ''", "!!bool x",
        "!!binary é", "!!set [1]", "!!omap 3", "!!pairs x", "0x" + "f" * 20000, "1:" * 3000 + "1", "&r [*r]",
        "&r {a: *r}", "[" * 3000, "{a: " * 3000, "[" * 100 + "]" * 100, "? [1]\n: 2", "2000-13-40", ".nan", "*nobody",
        "'\x00'", "!<tag:yaml.org,2002:int> q", "%YAML 9.9", "<<: 3", "{<<: [1]}", "|" + "-" * 9, "1e999",
    ])  # fmt: skip
    text = (folder / PLAN).read_text()
    whole = f"schema: 1\nlayers:\n  conv1: {value}\n", f"schema: {value}\nlayers: {{}}\n", f"{text}batch: {value}\n"
    bombs = f"{LAUGHS}schema: 1\nlayers: {{c: *a11}}\n", f"{MERGES}schema: 1\nlayers: *a11\n"
    repeated = f"schema: 1\nlayers: {{a: &r [{'1, ' * 9000}], b: [{'*r, ' * 9000}]}}\n"
    (folder / PLAN).write_text(draw.choice([*whole, *whole, *bombs, repeated]), encoding="utf-8")


# ---- of model.json
def junk(draw: random.Random) -> Any:
    """A value that is not expected."""
    return draw.choice([
        None, True, -1, 0, 1.5, 10**30, "", "x", "\x00", "\ud800", "x" * 5000, [], [1], [None], ["a", "a"], {},
        {"a": 1}, {"": {}}, [[[[]]]], "../..", "/etc/passwd",
    ])  # fmt: skip


def manifest(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    values = json.loads((folder / MODEL).read_text())
    change(values)
    (folder / MODEL).write_text(json.dumps(values, indent=2, sort_keys=True))


@kind("a value in model.json", forged=True)
def misvalue(folder: Path, draw: random.Random) -> None:
    def change(values: dict[str, Any]) -> None:
        place: Any = values
        key: Any = draw.choice([key for key in values if key != "format"])
        while isinstance(place[key], dict | list) and place[key] and draw.random() < 0.8:
            place = place[key]
            key = draw.choice(list(place)) if isinstance(place, dict) else draw.randrange(len(place))
        place[key] = junk(draw)

    manifest(folder, change)


@kind("a schema from elsewhere", forged=True)
def future(folder: Path, draw: random.Random) -> None:
    def change(values: dict[str, Any]) -> None:
        values["schema"] = draw.choice([0, 1, 3, 99, -1, "2", None, True, 1.5, [2], {"a": 1}])
        values["versions"] = draw.choice([values["versions"], {"tenfold": "99.0"}, {}, None, [1], "x", {"tenfold": 3}])

    manifest(folder, change)


@kind("a path that leaves the folder", forged=True)
def leave(folder: Path, draw: random.Random) -> None:
    ways = [
        "../outside/canary.py", "../../etc/passwd", "/etc/passwd", "code/../../outside/canary.py",
        "..\\outside\\canary.py",
        "C:\\canary.py", "C:canary.py", "\\\\host\\canary.py", "~/canary.py", "code/\x00.py", "code/\ud800.py",
        "code/" + "x" * 300 + ".py", str(folder.parent / "outside/canary.py"), "", ".", "code",
    ]  # fmt: skip

    def change(values: dict[str, Any]) -> None:
        path, origin = draw.choice(ways), values["origin"]
        where = draw.randrange(3)
        if where != 1:
            values["files"][path] = "0" * 64
            values["sizes"][path] = 0
        if where == 1 or draw.random() < 0.5:
            origin["code"] = path
        if where == 2:
            origin["neighbours"] = [path]

    manifest(folder, change)


@kind("another origin", forged=True)
def misname(folder: Path, draw: random.Random) -> None:
    place = folder.parent / "outside/canary.py"
    names = ["canary:run", f"{place}:run", "resnet20", "os:abort", "net.py:Net", "posix:_exit", "", ":", "é.py:é"]

    def change(values: dict[str, Any]) -> None:
        values["origin"].update(kind=draw.choice(["zoo", "given", "package", "file", "zoo"]), name=draw.choice(names))
        if draw.random() < 0.5:
            values["origin"].update(code=None, neighbours=[])

    manifest(folder, change)


@kind("ties, strides or dtypes that do not fit", forged=True)
def mistie(folder: Path, draw: random.Random) -> None:
    def change(values: dict[str, Any]) -> None:
        stored = ["conv1.weight", "conv1.bias", "norm.weight", "tail.fc1.weight.cores.0", "scale", "nobody"]
        key = draw.choice(["tied", "strides", "remade"])
        values[key][draw.choice([*stored, *values[key]])] = {
            "tied": draw.choice(stored),
            "strides": draw.choice(
                [[], [1], [0, 0, 0, 0], [1, 1, 1, 1], [-1, 2, 3, 4], [10**12] * 4, [10**30], [9, 9]]
            ),
            "remade": draw.choice(["nn", "float64", "int64", "load", "", "float32", "complex128", "quint8", "__doc__"]),
        }[key]

    manifest(folder, change)


@kind("JSON nested deeply", forged=True)
def nest(folder: Path, draw: random.Random) -> None:
    depth = draw.choice([100, 900, 990, 5000, 100000])
    path = folder / draw.choice([MODEL, REPORT])
    text, deep = path.read_text(), draw.choice(["[" * depth + "]" * depth, "[" * depth, '{"a":' * depth])
    path.write_text(draw.choice([deep, text.replace('"a"' if path.name == MODEL else "12", deep, 1)]))
