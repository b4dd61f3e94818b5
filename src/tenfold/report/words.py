"""A report in plain words."""

import re
from collections.abc import Iterable
from typing import NamedTuple, Protocol

from tenfold.formats import DENSE
from tenfold.measure import OutputError, Profile, Speedup
from tenfold.measure.weights import COMPRESSED
from tenfold.report.layer_row import seconds_at
from tenfold.report.measurement import Measurement, furthest
from tenfold.report.report import Part, Report

MEASURED = re.compile(r"[\d.]+x fewer |relative error about ")  # parts of a reason that tables have as numbers
MOST_NAMES = 8
LOST = 0.9  # relative error from which outputs are destroyed, and above which almost nothing is left of a weight
UNRELATED = 0.1  # cosine down to which outputs are destroyed
COSTS = {
    "params": "parameters",
    "deployed_params": "parameters in the form that runs",
    "bytes": "bytes",
    "macs": "multiply-adds a sample",
}  # what a budget counts
NOT_COMPARED = (
    "How far the outputs went from the dense network's was not measured; compress does it with --input 3x224x224 or "
    "--data, recover with --weights."
)


class Explained(Protocol):
    """A row that says why it is so."""

    @property
    def name(self) -> str: ...

    @property
    def form(self) -> str: ...

    @property
    def reason(self) -> str: ...


class Growth(NamedTuple):
    """Seconds by which a layer takes longer than it did dense."""

    name: str
    seconds: float


def sentences(report: Report, before: Profile | None = None, after: Profile | None = None) -> list[str]:
    """The ratios in words, how far the outputs went, and what a reader should be warned of; damage comes first.

    Args:
        before, after: profiles of the dense network and of the final one (compressed or lowered) on the same inputs;
            with both, a network that became slower has its layers to blame named.
    """
    ratio = report.ratio
    blamed = [] if before is None or after is None else blame(report, before, after)
    gains = [
        part(report.part),
        smaller(ratio.params, "parameters"),
        smaller(ratio.deployed_params, "parameters in the form that runs"),
        smaller(ratio.payload_bytes, "bytes of numbers") if any(row.bits for row in report.layers) else "",
        smaller(ratio.file_bytes, "bytes in the file"),
        smaller(ratio.macs, "multiply-adds a sample"),
        faster(report.final.speedup, blamed),
        score(report),
        deployed(report),
        lowering(report),
        "" if before is None else before.sampling,
    ]
    losses = [outputs(report), hollow(report)]
    found = [*losses, *gains] if is_destroyed(report.final) else [*gains, *losses]
    return [sentence for sentence in found if sentence]


def is_destroyed(network: Measurement) -> bool:
    """Whether some output has next to nothing left of the dense network's."""
    return any(is_lost(error) for error in (*network.outputs.values(), *network.elsewhere.values()))


def is_lost(error: OutputError) -> bool:
    """Whether an output has next to nothing left of the dense network's."""
    if error.relative_error is None or error.cosine is None:
        return False
    return error.relative_error >= LOST or error.cosine <= UNRELATED


def outputs(report: Report) -> str:
    """How far the outputs went from the dense network's, or that nobody looked; nothing where that was not trained."""
    network = report.final
    if network.furthest is None:
        return NOT_COMPARED if any(row.rel_error is not None for row in report.layers) else ""
    name, error = network.furthest
    whose = "outputs" if len(network.outputs) == 1 else f"output '{name}', the one that went furthest,"
    if error.relative_error is None:
        return (
            f"The {whose} cannot be compared with the dense network's: of another shape, or nothing in them is finite."
        )
    far = distance(error)
    if other := furthest(network.elsewhere):
        far += f"; on inputs of the test data: {distance(other[1])}"
    if is_destroyed(network):
        return f"DESTROYED: next to nothing of the dense network is left in the {whose} on these inputs: {far}."
    return f"The {whose} on these inputs against the dense network's: {far}."


def distance(error: OutputError) -> str:
    """How far an output went, and how often its largest entry is the same where that means something."""
    if error.relative_error is None or error.cosine is None:
        return "not comparable"
    far = f"relative error {error.relative_error:.3f}, cosine {error.cosine:.3f}"
    if error.agreement is not None:
        far += f", the same largest entry along axis {error.axis} in {100 * error.agreement:.1f} %"
    return far


def part(found: Part | None) -> str:
    """What was gained in the part that budgets were asked of."""
    if found is None:
        return ""
    macs = "" if found.macs is None else f", {found.macs:.2f}x multiply-adds"
    return (
        f"In {' and '.join(map(repr, found.of))}, dense over compressed: {found.params:.2f}x parameters "
        f"({found.deployed_params:.2f}x in the form that runs), {found.bytes:.2f}x bytes{macs}; in the whole network:"
    )


def hollow(report: Report) -> str:
    """The layers of whose weights almost nothing is left, unless the outputs show that little was lost with that."""
    if report.final.furthest is not None and not is_destroyed(report.final):
        return ""
    names = [row.name for row in report.layers if row.rel_error is not None and row.rel_error > LOST]
    if not names:
        return ""
    return f"ALMOST NOTHING IS LEFT of the weights of {some(names)}: relative errors above {LOST}."


def reasons(rows: Iterable[Explained]) -> list[str]:
    """Why layers are as they are: `fc, conv1: excluded by 'fc'`, a line for all that have a reason in common."""
    found: dict[str, list[str]] = {}
    for row in rows:
        for part in [row.reason] if row.form == DENSE and row.reason else untabled(row.reason):
            found.setdefault(part, []).append(row.name)
    return [f"{some(names)}: {reason}." for reason, names in found.items()]


def untabled(reason: str) -> list[str]:
    """The parts of a reason that tables do not have as numbers."""
    return [part for part in reason.split("; ") if part and not MEASURED.match(part)]


def notes(profile: Profile) -> list[str]:
    """Which weights can gain, why the others cannot, and under what was measured."""
    stays: dict[str, list[str]] = {}
    for row in profile.layers.values():
        if row.note:
            stays.setdefault(row.note, []).append(row.name)
    count = len(profile.layers) - sum(map(len, stays.values()))
    for other in profile.untaken.values():
        stays.setdefault(other.reason, []).append(other.name)
    found = [f"{count} of {len(profile.layers) + len(profile.untaken)} layers can gain."]
    found += [f"{some(names)}: {reason}." for reason, names in stays.items()]
    if profile.batch is None:
        return [*found, "No inputs, so no MACs, time or memory; give --input 3x224x224, or --data."]
    threads = f"{profile.threads} thread{'s' if profile.threads > 1 else ''}"
    batch = f"{profile.batch} sample{'s' if profile.batch > 1 else ''}"
    found += [profile.sampling] if profile.sampling else []
    return [*found, f"Measured on {batch} with {threads} on {profile.device}; MACs are those of one sample."]


def some(names: list[str]) -> str:
    """The first names, and how many more there are."""
    more = len(names) - MOST_NAMES
    return ", ".join(names) if more <= 1 else f"{', '.join(names[:MOST_NAMES])} and {more} more"


def smaller(ratio: float | None, what: str) -> str:
    """`3.97 times fewer parameters`."""
    if ratio is None:
        return ""
    if ratio == 0:
        return f"The dense network takes no {what}; the compressed one does."
    if round(ratio, 2) == 1:
        return f"As many {what} as the dense network."
    if ratio < 1:
        return f"MORE {what} than the dense network: {1 / ratio:.2f} times as many."
    return f"{ratio:.2f} times fewer {what}."


def faster(speedup: Speedup | None, blamed: list[Growth]) -> str:
    """`1.21 times faster`, that it is slower and why, or that nobody can tell."""
    if speedup is None:
        return ""
    ratio, noise = speedup.median, f"(± {speedup.spread:.2f})"
    if not speedup.is_clear:
        return f"No difference in time within the noise: {ratio:.2f} times as fast as the dense network {noise}."
    if ratio > 1:
        return f"{ratio:.2f} times faster {noise} than the dense network on this machine."
    named = ", ".join(f"{name} (+{1e3 * seconds:,.2f} ms)" for name, seconds in blamed[:3])
    why = f"; the layers to blame: {named}" if named else ""
    return f"SLOWER: takes {1 / ratio:.2f} times as long as the dense network on this machine{why}."


def score(report: Report) -> str:
    """What it scored, before and after where there was a before."""
    dense, final = report.dense.score, report.final.score
    if final is None:
        return ""
    if dense is None:
        return f"{final.name} {final.shown}."
    better = (final.value >= dense.value) == dense.higher_is_better or final.value == dense.value
    return f"{dense.name} {final.shown} against {dense.shown} dense{'' if better else ' (worse)'}."


def deployed(report: Report) -> str:
    """That the form which runs holds more than the folder, if it does."""
    final = report.final
    if final.deployed_params <= final.params:
        return ""
    return (
        f"The form that runs holds {final.deployed_params:,} parameters, the folder {final.params:,}: layers of one "
        "stage have their dense weight rebuilt, and a tied weight stands in each of its places."
    )


def lowering(report: Report) -> str:
    """That the network does not run lowered, if so."""
    reason = report.final.lowering_failed
    return f"The LOWERED form fails ({reason}); what was measured is the network in cores." if reason else ""


def growths(before: Profile, after: Profile) -> list[Growth]:
    """Layers that take longer than they did dense, the one that grew most first.

    A layer that was lowered to several modules (`conv1.0`, `conv1.1`) takes what they take together.
    """
    spent = {name: layer.seconds for name, layer in after.layers.items()}
    found = [
        Growth(name, (seconds_at(name, spent) or 0.0) - layer.seconds)
        for name, layer in before.layers.items()
        if layer.seconds is not None
    ]
    return sorted((each for each in found if each.seconds > 0), key=lambda each: -each.seconds)


def blame(report: Report, before: Profile, after: Profile) -> list[Growth]:
    """The growths of modules that were replaced; what the others take longer is noise."""
    dense = {row.name for row in report.layers if row.format == DENSE}
    replaced = {name for name, layer in after.layers.items() if layer.obstacle == COMPRESSED}
    return [each for each in growths(before, after) if each.name not in dense - replaced]
