"""Sums as one safetensors file: statistics beside the profile that they go with, or a pass that has begun."""

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from tenfold.protocols import TenfoldError
from tenfold.statistics.moment import Moment
from tenfold.statistics.slope import Slope
from tenfold.statistics.statistics import Halves, Seen, Statistics
from tenfold.statistics.sums import Sums
from tenfold.storage import writing

KIND, BEGUN, SCHEMA = "tenfold statistics", "tenfold statistics, begun", "3"
PARTS: dict[type[Sums], tuple[str, ...]] = {kind: tuple(part.name for part in fields(kind)) for kind in (Moment, Slope)}


def save(path: Path, kind: str, sums: Mapping[str, Sums], about: Mapping[str, str]) -> None:
    """Write sums by name and what is to be known of them, all or nothing.

    Raises: TenfoldError if the file cannot be written, or is not ours to replace.
    """
    if path.exists() and known(path, kind) is None:
        raise TenfoldError(f"'{path}' was not written by tenfold, so it is never replaced; name another folder.")
    tensors = {
        f"{name}.{part}": getattr(each, part).contiguous() for name, each in sums.items() for part in PARTS[type(each)]
    }
    with writing(path) as partial:
        save_file(tensors, partial, metadata={"kind": kind, "schema": SCHEMA, **about})


def known(path: Path, kind: str) -> Mapping[str, str] | None:
    """What is to be known of sums; None for a file that is not of this kind and version, or damaged."""
    try:
        with safe_open(path, "pt") as file:
            about: Mapping[str, str] = file.metadata() or {}
    except (OSError, SafetensorError):
        return None
    return about if (about.get("kind"), about.get("schema")) == (kind, SCHEMA) else None


def load(path: Path) -> dict[str, Any]:
    """The sums of a file that is known."""
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (it is no mapping)
    found = {}
    for name in dict.fromkeys(name.rpartition(".")[0] for name in tensors):
        kind = next(kind for kind, parts in PARTS.items() if all(f"{name}.{part}" in tensors for part in parts))
        found[name] = kind(*(tensors[f"{name}.{part}"] for part in PARTS[kind]))
    return found


def write(path: Path, statistics: Statistics) -> None:
    """Write statistics, all or nothing.

    Raises: TenfoldError if the file cannot be written, or is not ours to replace.
    """
    sums: dict[str, Sums] = {
        f"{name}|{at}|{side}.{half}": moment
        for name, places in statistics.seen.items()
        for at, place in enumerate(places)
        for side, both in (("inputs", place.inputs), ("outputs", place.outputs))
        for half in ("fitted", "held")
        if (moment := getattr(both, half, None)) is not None
    }
    sums |= {
        f"{name}|{at}|slope": place.slope
        for name, places in statistics.seen.items()
        for at, place in enumerate(places)
        if place.slope is not None
    }
    weights = {
        name: [{"axes": [place.input_axes, place.output_axes]} for place in places]
        for name, places in statistics.seen.items()
    }
    about = {
        "weights_hash": statistics.weights_hash, "inputs_hash": statistics.inputs_hash,
        "samples": str(statistics.samples), "seed": str(statistics.seed), "counted": statistics.counted,
        "weights": json.dumps(weights),
        "reasons": json.dumps(dict(statistics.reasons)), "notes": json.dumps(dict(statistics.notes)),
        "shifts": json.dumps(dict(statistics.shifts)),
    }  # fmt: skip
    save(path, KIND, sums, about)


def read(path: Path) -> Statistics | None:
    """Read them back; None for a file that is not of this kind and version, or damaged."""
    about = known(path, KIND)
    if about is None:
        return None
    sums = load(path)

    def halves(key: str) -> Halves | None:
        fitted = sums.get(f"{key}.fitted")
        return None if fitted is None else Halves(fitted, sums.get(f"{key}.held"))

    seen: dict[str, tuple[Seen, ...]] = {}
    for name, places in json.loads(about["weights"]).items():
        for at, place in enumerate(places):
            inputs = halves(f"{name}|{at}|inputs")
            assert inputs is not None  # what was not reached is not kept
            input_axes, output_axes = place["axes"]
            outputs, slope = halves(f"{name}|{at}|outputs"), sums.get(f"{name}|{at}|slope")
            each = Seen(input_axes, output_axes, inputs, outputs, slope)
            seen[name] = (*seen.get(name, ()), each)
    return Statistics(
        about["weights_hash"], about["inputs_hash"], int(about["samples"]), int(about["seed"]), about["counted"], seen,
        json.loads(about["reasons"]), json.loads(about["notes"]), json.loads(about["shifts"]),
    )  # fmt: skip
