"""A network as a file that runs without tenfold."""

import tempfile
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tenfold import storage, surgery, targets
from tenfold.api.samples import timed
from tenfold.arguments import typed
from tenfold.inputs import Inputs, inputs_for
from tenfold.measure import MsPerBatch, Speedup, macs, paired
from tenfold.protocols import Done, Progress, TenfoldError, Watch, within
from tenfold.report import Exported, ExportedFile
from tenfold.targets import Target

STEPS = "captured", "written", "checked", "dense network", "timed"
REPEATS = 20


@typed
def export(
    model: nn.Module,
    inputs: Any,
    out: str | Path,
    *,
    dense: nn.Module | None = None,
    overwrite: bool = False,
    watch: Watch = iter,
) -> Exported:
    """Write a network as a file that runs without tenfold, lowered and its batch norms folded, in eval mode.

    The file takes any number of samples, where `inputs` show where they are counted. It is run in a fresh process
    without tenfold, on two numbers of samples, before it takes its place.

    Args:
        model: compressed or not; it stays as it is.
        inputs: a batch, as the network takes it: a tensor, a tuple of arguments, or a dict of them by name.
        out: `model.onnx` or `model.pt2`.
        dense: the network to be put beside it: exported the same way, measured and dropped.
        overwrite: replace a file that stands there.
        watch: is handed the iterator of steps that are done and hands it on, to draw a bar.
    Returns: what the two take and how far the outputs differ.
    Raises: TenfoldError, one sentence, for a file that cannot be written, a network that cannot be captured, or outputs
        that are not the network's to 1e-5 of the largest; no file is put in place then.
    """
    target = check_export(out, overwrite)
    found: list[Exported] = []
    for _ in watch(exporting(model, inputs, Path(out), target, dense, found)):
        pass
    return found[0]


def check_export(out: str | Path, overwrite: bool) -> Target:
    """The target of a file to write.

    Raises: TenfoldError for an unknown suffix, a package that is not there, or a place where nothing can be written.
    """
    target = targets.target_of(out)
    storage.check_replaceable(out, overwrite, example=f"model{Path(out).suffix}", ours=lambda path: None)
    return target


def exporting(
    model: nn.Module, inputs: Any, out: Path, target: Target, dense: nn.Module | None, found: list[Exported]
) -> Iterator[Progress]:
    """Step by step; what was found is put into a list in the end."""

    def done(step: str) -> Progress:
        return Done("exporting", step, STEPS.index(step) + 1, len(STEPS))

    plain = as_shipped(model)
    given = inputs_for(plain, inputs).to("cpu")
    network = targets.captured(plain, given)
    yield done("captured")
    with storage.placing(out, target.made(network.program, network.outputs)) as file, within(f"'{out}'"):
        yield done("written")
        differences = targets.differences(target, file, network)
        furthest = max(differences, key=lambda each: each.error)
        if not furthest.agrees:
            raise TenfoldError(
                f"the outputs of {furthest.samples} samples are {furthest.error:.1e} of the largest entry away from "
                f"the network's, and {furthest.allowed:.1e} is allowed; it is not written."
            )
        yield done("checked")
    batch = timed(given, macs(plain, given.samples(1)).total)
    with tempfile.TemporaryDirectory() as folder:
        files = {"exported": out}
        if dense is not None:
            with within("the dense network"):
                other = targets.captured(as_shipped(dense), given)
                content = target.made(other.program, other.outputs)
            files["dense"] = Path(folder) / f"dense{out.suffix}"
            storage.write_bytes(files["dense"], content)
        yield done("dense network")
        each, speedup = costs(target, files, batch)
        yield done("timed")
    found.append(
        Exported(str(out), out.suffix[1:].lower(), network.takes_any, differences, each["exported"], each.get("dense"),
                 speedup)
    )  # fmt: skip


def as_shipped(model: nn.Module) -> nn.Module:
    """A copy of a network in the form in which it is shipped: plain modules on the CPU, batch norms folded."""
    return surgery.lower(model).cpu().eval()


def costs(target: Target, files: Mapping[str, Path], batch: Inputs) -> tuple[dict[str, ExportedFile], Speedup | None]:
    """Bytes and times of files, timed in turn on a batch; how many times as long the dense one takes."""
    threads, given = torch.get_num_threads(), targets.arrays(batch)
    forwards = {name: partial(target.opened(file, threads), given) for name, file in files.items()}
    times = paired(forwards, repeats=REPEATS)
    each = {
        name: ExportedFile(file.stat().st_size, MsPerBatch.of(times[name], batch.size)) for name, file in files.items()
    }
    return each, Speedup.of(times["exported"], times["dense"]) if "dense" in times else None
