"""Statistics kept as one safetensors file, beside the profile that they go with."""

import json
import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from tenfold.protocols import TenfoldError
from tenfold.statistics.moment import Moment
from tenfold.statistics.statistics import Halves, Seen, Statistics

KIND, SCHEMA = "tenfold statistics", "1"
PARTS = tuple(part.name for part in fields(Moment))


def write(path: Path, statistics: Statistics) -> None:
    """Write them, all or nothing.

    Raises: TenfoldError if the file cannot be written, or is not ours to replace.
    """
    if path.exists() and read(path) is None:
        raise TenfoldError(f"'{path}' was not written by tenfold, so it is never replaced; name another folder.")
    tensors: dict[str, Tensor] = {}
    weights: dict[str, list[dict[str, object]]] = {}
    for name, places in statistics.seen.items():
        for at, place in enumerate(places):
            halves = {"inputs": place.inputs, "outputs": place.outputs}
            moments = {
                f"{side}.{half}": moment
                for side, both in halves.items()
                if both is not None
                for half, moment in (("fitted", both.fitted), ("held", both.held))
                if moment is not None
            }
            for key, moment in moments.items():
                tensors |= {f"{name}|{at}|{key}.{part}": getattr(moment, part).contiguous() for part in PARTS}
            weights.setdefault(name, []).append({"axes": [place.input_axes, place.output_axes], "has": list(moments)})
    about = {
        "kind": KIND, "schema": SCHEMA, "weights_hash": statistics.weights_hash,
        "inputs_hash": statistics.inputs_hash, "samples": str(statistics.samples), "weights": json.dumps(weights),
        "reasons": json.dumps(dict(statistics.reasons)), "notes": json.dumps(dict(statistics.notes)),
        "shifts": json.dumps(dict(statistics.shifts)),
    }  # fmt: skip
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, partial, metadata=about)
        os.replace(partial, path)
    except OSError as error:
        raise TenfoldError(f"'{path}' cannot be written ({error.strerror}).") from error


def read(path: Path) -> Statistics | None:
    """Read them back; None for a file that is not of this kind and version, or damaged."""
    try:
        with safe_open(path, "pt") as file:
            about: Mapping[str, str] = file.metadata() or {}
            if about.get("kind") != KIND or about.get("schema") != SCHEMA:
                return None
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (it is no mapping)
    except (OSError, SafetensorError):
        return None

    def moment(key: str) -> Moment:
        return Moment(*(tensors[f"{key}.{part}"] for part in PARTS))

    def halves(key: str, has: list[str], side: str) -> Halves | None:
        if f"{side}.fitted" not in has:
            return None
        return Halves(moment(f"{key}|{side}.fitted"), moment(f"{key}|{side}.held") if f"{side}.held" in has else None)

    seen: dict[str, tuple[Seen, ...]] = {}
    for name, places in json.loads(about["weights"]).items():
        for at, place in enumerate(places):
            inputs = halves(f"{name}|{at}", place["has"], "inputs")
            assert inputs is not None  # what was not reached is not kept
            input_axes, output_axes = place["axes"]
            each = Seen(input_axes, output_axes, inputs, halves(f"{name}|{at}", place["has"], "outputs"))
            seen[name] = (*seen.get(name, ()), each)
    return Statistics(
        about["weights_hash"], about["inputs_hash"], int(about["samples"]), seen,
        json.loads(about["reasons"]), json.loads(about["notes"]), json.loads(about["shifts"]),
    )  # fmt: skip
