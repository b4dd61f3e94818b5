"""`save` and `load`: a network, its plan and its documents as a folder."""

import json
import platform
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import nn

from tenfold.documents import text_of, to_yaml
from tenfold.layers import FactoredWeight
from tenfold.neighbours import neighbours
from tenfold.protocols import TenfoldError, within
from tenfold.storage.document import (
    MODEL,
    PAGE,
    PLAN,
    README,
    RECIPE,
    REPORT,
    WEIGHTS,
    Document,
    Manifest,
    Origin,
    json_text,
    sha256,
    verify,
)
from tenfold.storage.readme import page
from tenfold.storage.replace import check_writable, replacing, resolved, standing
from tenfold.storage.tensors import Packed, fill, packed
from tenfold.surgery import Plan, unwrapped
from tenfold.surgery.carry_out import skeleton
from tenfold.surgery.finite import check_finite
from tenfold.surgery.sites import layer_weights

Build = Callable[[Origin, Path], nn.Module]


def save(
    folder: str | Path,
    model: nn.Module,
    plan: Plan,
    document: Document,
    *,
    report: Mapping[str, Any] | None = None,
    report_html: str | None = None,
    recipe: Mapping[str, Any] | None = None,
    words: Sequence[str] = (),
    readme: str | None = None,
    overwrite: bool = False,
) -> None:
    """Write a network as a folder, all of it or nothing; the same network gives the same bytes.

    Args:
        folder: its parents are made; files in it that are not tenfold's stay.
        model: what `decompose` made with `plan`, trained on or not; compiled or not.
        words: what was measured, in sentences for that page.
        recipe: the options of the run that made it.
        readme: the page for whoever gets the folder; written from plan and document otherwise.
        overwrite: replace a folder that tenfold wrote; its `state/`, by which a run that was stopped goes on, stays.
    Raises: TenfoldError for a folder that cannot be written, a plan that is not the model's, a tensor that cannot
        be stored or is not finite; nothing is written then.
    """
    check_writable(folder, overwrite)
    place = resolved(folder)
    model = unwrapped(model)
    check_plan(model, plan)
    document = with_sources(document)
    found = packed(model, plan.dtype)
    check_finite(model)
    texts = {
        PLAN: plan.to_yaml(),
        REPORT: None if report is None else json_text(REPORT, report),
        PAGE: report_html,
        RECIPE: None if recipe is None else to_yaml(recipe),
    }
    there = [name for name, text in texts.items() if text is not None]
    if readme is None:
        version = versions()["tenfold"]
        readme = page(place.name, model, plan, document, found.tensors, version, words, beside=there)
    texts[README] = readme
    json_text(MODEL, {"settings": document.settings})  # what cannot be written is refused before anything is
    with replacing(place) as partial:
        write(partial, found, texts, document)


def write(folder: Path, found: Packed, texts: Mapping[str, str | None], document: Document) -> None:
    """Every file, model.json last, which holds the hashes of those that loading reads."""
    for name, text in texts.items():
        if text is not None:
            (folder / name).write_text(text, encoding="utf-8")
    try:
        save_file(dict(sorted(found.tensors.items())), folder / WEIGHTS, metadata={"format": "pt"})
    except SafetensorError as error:  # what a full disk comes to there
        raise OSError(str(error)) from error
    shutil.copymode(folder / PLAN, folder / WEIGHTS)  # safetensors leaves it to the owner alone
    reported = [REPORT] if texts[REPORT] is not None else []
    listed = [WEIGHTS, PLAN, *reported, *document.origin.sources]
    for name, source in document.origin.sources.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, folder / name)
    manifest = Manifest(
        document=document,
        tied=found.tied,
        strides=found.strides,
        remade=found.remade,
        widened=found.widened,
        files={name: sha256(folder / name) for name in listed},
        versions=versions(),
        sizes={name: (folder / name).stat().st_size for name in listed},
    )
    (folder / MODEL).write_text(manifest.to_json(), encoding="utf-8")


def versions() -> dict[str, str]:
    """Of what writes."""
    try:
        own = version("tenfold")
    except PackageNotFoundError:
        own = "not installed"
    return {"tenfold": own, "torch": torch.__version__, "python": platform.python_version()}


def with_sources(document: Document) -> Document:
    """The document with all source files that go into the folder.

    Raises: TenfoldError where the architecture's file is not there, or imports what cannot go along.
    """
    origin = document.origin
    if origin.kind != "file" and origin.code is None:
        return document
    if origin.code is None or not origin.code.is_file():
        raise TenfoldError(f"the file behind '{origin.name}' is not there ({origin.code}); it goes into the folder.")
    if origin.kind != "file":
        return document
    code = origin.code.resolve()
    found = {path.resolve() for path in origin.neighbours} | set(neighbours(code))
    return replace(document, origin=replace(origin, code=code, neighbours=tuple(sorted(found))))


def check_plan(model: nn.Module, plan: Plan) -> None:
    """Raise where the plan does not say how the model's cores came about: such a folder could not be read."""
    held = {name: layer.held(weight) for name, weight, layer in layer_weights(model)}
    explained: set[int] = set()
    for row in plan.rows.values():
        if row.is_dense:
            continue
        with within(f"layer '{row.name}'"):
            weight = held.get(row.name)
            if not isinstance(weight, FactoredWeight):
                raise TenfoldError(f"the plan says '{row.format}' and the model's is dense; save what this plan made.")
            if row.network(weight.net.axes) != weight.net or row.stages not in ((), weight.stages.partition):
                raise TenfoldError("the model's cores have other shapes than the plan's; save what this plan made.")
            if row.schemes(len(weight.cores)) != weight.schemes:
                raise TenfoldError("the model's cores have other bits than the plan's; save what this plan made.")
            explained.update(id(core) for core in weight.cores)
    for name, part in model.named_modules():
        if isinstance(part, FactoredWeight) and not explained.issuperset(map(id, part.cores)):
            raise TenfoldError(f"'{name}' is in cores and the plan does not say how; save it with the plan it has.")


def load(folder: str | Path, *, build: Build, model: nn.Module | None = None, trust_code: bool = False) -> nn.Module:
    """The network of a folder, in eval mode, its outputs those of the one that was saved, bit for bit.

    Reads safetensors, JSON and YAML only.

    Args:
        build: makes the dense architecture from its origin and the folder.
        model: the dense architecture, trained or not, where the caller has it; it is not touched.
        trust_code: whether code that the folder brings or names may run.
    Raises: TenfoldError for files that are not the ones that were saved, code without trust, or an architecture
        that is not the folder's.
    """
    place = standing(Path(folder))
    manifest = Manifest.read(place)
    verify(place, manifest)
    origin = manifest.document.origin
    if model is None:
        with within(f"'{folder}'"):
            check_trust(origin, trust_code)
        with torch.random.fork_rng(devices=[]):  # its first weights are drawn only to be replaced
            model = build(origin, place)
        what = f"the architecture that '{origin.name}' builds"
    else:
        what = f"the model given ({type(model).__name__})"
    with within(f"{what} is not the one that '{folder}' was made from"):
        result = skeleton(getattr(model, "_orig_mod", model), stored_plan(place))
        fill(result, place / WEIGHTS, manifest.tied, manifest.strides, manifest.remade, manifest.widened)
        check_finite(result)
    return result.eval()


def check_trust(origin: Origin, trust_code: bool) -> None:
    """Raise where building the architecture would run code that nobody allowed, or nobody has."""
    if origin.kind == "given":
        raise TenfoldError(
            f"the network was made from a model given in Python ({origin.name}); hand its architecture over: "
            f"tenfold.load(folder, model={origin.name}(...))."
        )
    if origin.kind == "zoo" or trust_code:
        return
    if origin.kind == "file":
        name = "the code" if origin.code is None else f"'{origin.code}'"
        what = f"the architecture is in {name}, which would be run; read it first, then allow it with"
    else:
        what = f"the architecture comes from '{origin.name}', which would be imported and run; allow it with"
    raise TenfoldError(
        f"{what} --trust-code, tenfold.load(folder, trust_code=True), or hand over the architecture yourself with "
        f"model=MyNet()."
    )


def read_document(folder: str | Path) -> Document:
    """What a folder says of its network.

    Raises: TenfoldError if tenfold did not write the folder.
    """
    return Manifest.read(standing(Path(folder))).document


def read_plan(folder: str | Path) -> Plan:
    """The plan that a folder's network was made by.

    Raises: TenfoldError if tenfold did not write the folder, or the plan was altered.
    """
    place = standing(Path(folder))
    verify(place, Manifest.read(place), PLAN)
    return stored_plan(place)


def stored_plan(folder: Path) -> Plan:
    """The plan file."""
    with within(f"'{folder / PLAN}'"):
        return Plan.from_yaml(text_of(folder / PLAN))


def read_report(folder: str | Path) -> dict[str, Any] | None:
    """What was measured; None if nothing was.

    Raises: TenfoldError if tenfold did not write the folder, or the report was altered or is no JSON.
    """
    place = standing(Path(folder))
    manifest = Manifest.read(place)
    if REPORT in manifest.files:
        verify(place, manifest, REPORT)
    elif not (place / REPORT).exists():
        return None
    try:
        report = json.loads(text_of(place / REPORT))
    except (json.JSONDecodeError, RecursionError) as error:
        raise TenfoldError(f"'{place / REPORT}' is no JSON file: {error}.") from error
    if not isinstance(report, dict):
        raise TenfoldError(f"'{place / REPORT}' is not a report.")
    return report
