"""One pass over unlabelled inputs: what every weight meets, and what its outputs are worth."""

import hashlib
import logging
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.utils.hooks import RemovableHandle

from tenfold.inputs import Inputs, evaluating, on_copies, run, tensors_in
from tenfold.layers.recurrence import differentiable
from tenfold.measure import weights_hash
from tenfold.measure.finite import all_finite, spoiled
from tenfold.processes import gathered
from tenfold.protocols import Done, TenfoldError, listed
from tenfold.protocols import Watch as Watcher
from tenfold.statistics.begun import Begun
from tenfold.statistics.gradients import ALL, Outputs, floating, project, revealed
from tenfold.statistics.moment import Moment, is_full
from tenfold.statistics.places import UNSEEN, Applied, taken_apart
from tenfold.statistics.processes import summed_over_processes
from tenfold.statistics.shifts import shiftable
from tenfold.statistics.slope import Slope
from tenfold.statistics.statistics import Halves, Seen, Statistics
from tenfold.statistics.sums import Sums
from tenfold.surgery import copied

POSITIONS = 64  # of each sample and call that are looked at; an eighth of them left results unchanged
HELD_OUT = 8  # every so many chunks, one is held out
LONG = 600.0  # seconds: a pass that takes more is foretold
log = logging.getLogger(__name__)


def gather(
    model: nn.Module,
    chunks: Sequence[Inputs],
    *,
    outputs: Outputs | None = None,
    counted: str = ALL,
    draws: int = 1,
    seed: int = 0,
    begun: Path | None = None,
    watch: Watcher = iter,
) -> Statistics:
    """Second moments of what every weight meets and of the gradients at its outputs; no labels, memory bounded.

    The gradients are those of random projections of the outputs, whose second moment is the Gauss-Newton matrix of
    their squared error. Of every sample and call 64 positions are looked at, drawn anew for each chunk; sums are in
    float64. What is drawn for a chunk depends on the seed and the chunk alone. Where `torch.distributed` runs, each
    process gathers from chunks of its own, and every one gets the sums of all.

    Args:
        chunks: samples (`first_samples`); every eighth chunk is held out to choose by.
        outputs: what counts of the outputs, by default all that is floating.
        counted: that in words, by which statistics are told from others of the same samples.
        draws: projections of every chunk.
        begun: file, of each process its own, that keeps the sums from minute to minute, by which the same pass goes on
            after a stop; the caller deletes it.
        watch: is handed the iterator of chunks that are done and hands it on, to draw a bar.
    Raises: TenfoldError if the network does not run on a chunk, or if the chunk or what comes out is not finite; or if
        the file cannot be written.
    """
    watched, weights = Watched.of(model), weights_hash(model)
    for note, names in said_together(watched.notes).items():
        log.warning("%s: %s", listed(names), note)
    kept = None
    if begun is not None:
        kept = Begun(
            begun, " ".join([weights, str(seed), counted, str(draws), *(digest(chunk.value) for chunk in chunks)])
        )
    for _ in watch(passing(watched, chunks, outputs or floating, draws, seed, kept)):
        pass
    samples = sum(gathered(sum(chunk.size for chunk in chunks)))
    found = watched.found()
    shifts = {
        name: owner for name, owner in shiftable(model, chunks[0].samples(2)).items() if name not in watched.within
    }
    statistics = Statistics(
        weights, hash_of(chunks), samples, seed, counted, found, watched.reasons, watched.notes, shifts
    )
    if blank := [name for name in found if name not in statistics.metrics]:
        log.warning("%s: on these samples it meets zeros or counts for nothing; its own error counts", listed(blank))
    return statistics


def passing(
    watched: "Watched", chunks: Sequence[Inputs], outputs: Outputs, draws: int, seed: int, begun: Begun | None
) -> Iterator[Done]:
    """The pass, chunk after chunk, from where it was stopped."""
    first, sums = (0, {}) if begun is None else begun.read()
    watched.go_on(sums)
    samples, began = sum(chunk.size for chunk in chunks), time.perf_counter()
    for k, chunk in enumerate(chunks[first:], start=first):
        if spoiled(chunk.value):
            raise TenfoldError(
                f"calibration: batch {k + 1} of {chunk.size} samples holds NaN or infinity; leave it out, or mend "
                "the data."
            )
        held = len(chunks) > 1 and k % HELD_OUT == min(HELD_OUT, len(chunks)) - 1
        generator = torch.Generator().manual_seed(zlib.crc32(f"{seed}/{digest(chunk.value)}".encode()))
        for draw in range(draws):
            watched.see(chunk, outputs, held=held, inputs=draw == 0, generator=generator)
        if k == first and (whole := (time.perf_counter() - began) * len(chunks)) > LONG:
            few = -(-samples // 5)
            log.warning("statistics of %d samples take about %s; those of %d (--calibrate %d) would take %s.",
                        samples, spoken(whole), few, few, spoken(whole / 5))  # fmt: skip
        if begun is not None and k + 1 < len(chunks):
            begun.keep(k + 1, watched.sums())
        yield Done("statistics", f"{samples} samples", k + 1, len(chunks))


def spoken(seconds: float) -> str:
    """`25 minutes`, `3.4 hours`."""
    return f"{seconds / 60:.0f} minutes" if seconds < 2 * 3600 else f"{seconds / 3600:.1f} hours"


@dataclass(frozen=True, eq=False)
class Watch:
    """One place of a weight, and what was seen there.

    Attributes:
        sums: ("inputs" or "outputs", whether held out) -> `Moment`; ("slope", False) -> `Slope`, of all samples.
    """

    at: Applied
    sums: dict[tuple[str, bool], Sums] = field(default_factory=dict)

    @property
    def note(self) -> str | None:
        """What will not be seen of its moments, because it would take too much memory; None if all is."""
        sides = {} if self.at.kind.reads_rows else {"inputs": self.at.features(self.at.input_axes)}
        sides["outputs"] = self.at.features(self.at.output_axes)
        wide = [f"{n} {side}" for side, n in sides.items() if not is_full(self.at.groups, n)]
        return f"of the moments of its {' and '.join(wide)} only the diagonals are kept, for memory" if wide else None

    def add(self, side: str, held: bool, seen: Sums) -> None:
        """Add what was seen."""
        known = self.sums.get((side, held))
        self.sums[side, held] = seen if known is None else known + seen


class Watched:
    """A copy of a network in which every weight that can be is applied by a module of its own, with hooks on it.

    Attributes:
        watches: by these modules.
        within: by name, of weights that are applied by code of a module around them; their gradients alone are seen.
    """

    def __init__(
        self,
        model: nn.Module,
        watches: Mapping[nn.Module, Watch],
        within: Mapping[str, Watch],
        reasons: Mapping[str, str],
    ) -> None:
        self.model, self.watches, self.within, self.reasons = model, watches, within, dict(reasons)
        self.notes = {watch.at.site.name: note for watch in self.every if (note := watch.note)}
        model.requires_grad_(requires_grad=False)
        for module in watches:
            module.requires_grad_()
            module.register_forward_pre_hook(on_copies, with_kwargs=True)
            module.register_forward_hook(self.after, with_kwargs=True)
        for watch in within.values():
            getattr(watch.at.module, watch.at.weight).requires_grad_()

    @classmethod
    def of(cls, model: nn.Module) -> "Watched":
        """Of a dense network, which is left alone."""
        apart = taken_apart(copied(model).eval())
        watches = {module: Watch(place) for module, place in apart.alone.items()}
        within = {place.site.name: Watch(place) for place in apart.within}
        return cls(apart.model, watches, within, apart.reasons)

    @property
    def every(self) -> list[Watch]:
        """In an order that is the same in every pass."""
        return [*self.watches.values(), *self.within.values()]

    def see(self, chunk: Inputs, outputs: Outputs, *, held: bool, inputs: bool, generator: torch.Generator) -> None:
        """One forward, and one backward of a random projection of the outputs."""
        self.held, self.inputs, self.size, self.generator = held, inputs, chunk.size, generator
        self.reached: set[Watch] = set()
        self.shifts: dict[Watch, Tensor] = {}
        self.hooks: dict[Watch, RemovableHandle] = {}
        with evaluating(self.model), torch.enable_grad(), differentiable([self.model]), parametrize.cached():
            for watch in self.within.values():
                self.hook_weight(watch, self.after_within)
            found = outputs(run(self.model, chunk.value))
            if not all_finite(found):
                raise TenfoldError(
                    f"calibration: the network's outputs on {chunk.size} samples are not finite; see that these are "
                    "normalised."
                )
            project(found, generator)
        for handle in self.hooks.values():
            handle.remove()
        self.model.zero_grad()

    def sums(self) -> dict[str, Sums]:
        """What was seen so far, by names that are the same in every pass."""
        each = enumerate(self.every)
        return {f"{k} {side} {int(held)}": seen for k, watch in each for (side, held), seen in watch.sums.items()}

    def go_on(self, sums: Mapping[str, Sums]) -> None:
        """Put in what an earlier pass has seen."""
        watches = self.every
        for key, seen in sums.items():
            k, side, held = key.split()
            watches[int(k)].sums[side, bool(int(held))] = seen

    def after(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any) -> Any:
        """What a watched module met, and hooks on the gradients of its output and of its weight."""
        watch = self.watches[module]
        place = watch.at
        given = next(tensors_in((args, kwargs)))
        if self.inputs:
            with torch.no_grad():
                rows = place.kind.input_rows(module, given, self.pick)
            if rows is None:
                self.reasons[place.site.name] = UNSEEN
            else:
                watch.add("inputs", self.held, moment_of(rows[0].detach(), place.features(place.input_axes)))
        if not isinstance(result, Tensor):
            return result
        if len(place.site.places) == 1:
            self.hook_weight(watch, self.after_slope)
        held, size, reached = self.held, self.size, self.reached

        def backward(gradient: Tensor) -> None:
            rows = place.kind.output_rows(module, gradient.detach(), self.pick)
            if rows is None:
                return
            each, positions = rows
            moment = moment_of(each * (positions / each.shape[1]) ** 0.5, each.shape[-1])
            count = torch.tensor(0 if watch in reached else size, dtype=torch.float64)  # once, of however many calls
            reached.add(watch)
            watch.add("outputs", held, replace(moment, count=count))
            every = place.kind.output_rows(module, gradient.detach(), torch.arange)
            assert every is not None  # as before
            shift = every[0].double().sum((0, 1))  # (groups, o)
            self.shifts[watch] = self.shifts[watch] + shift if watch in self.shifts else shift

        return revealed(result, backward)

    def hook_weight(self, watch: Watch, see: Callable[[Watch, Tensor], None]) -> None:
        """Show the whole gradient of a weight, as it is applied in this forward, once."""
        weight = getattr(watch.at.module, watch.at.weight)
        if weight.requires_grad and watch not in self.hooks:
            self.hooks[watch] = weight.register_hook(lambda gradient: see(watch, gradient))

    def after_slope(self, watch: Watch, gradient: Tensor) -> None:
        """The gradient of a weight whose inputs and outputs are seen."""
        if watch in self.shifts:
            watch.add("slope", False, Slope.of(watch.at.in_groups(gradient), self.shifts[watch], self.size))

    def after_within(self, watch: Watch, gradient: Tensor) -> None:
        """The gradient of a weight of which nothing else is seen: its rows stand for inputs, columns for outputs."""
        each, count = watch.at.in_groups(gradient), torch.tensor(self.size, dtype=torch.float64)
        for side, rows in (("inputs", each), ("outputs", each.mT)):
            watch.add(side, self.held, replace(Moment.of(rows.transpose(0, 1), rows.shape[-1]), count=count))
        watch.add("slope", False, Slope.of(each, each.new_zeros(each.shape[:2]), self.size))

    def pick(self, positions: int) -> Tensor:
        """Which positions are looked at."""
        if positions <= POSITIONS:
            return torch.arange(positions)
        return torch.randperm(positions, generator=self.generator)[:POSITIONS]

    def found(self) -> dict[str, tuple[Seen, ...]]:
        """What was seen, by weight."""
        seen: dict[str, tuple[Seen, ...]] = {}
        sums = summed_over_processes(self.sums())
        for k, watch in enumerate(self.every):
            place = watch.at
            inputs, slope = halves(sums, k, "inputs"), sums.get(f"{k} slope 0")
            if inputs is None:
                self.reasons.setdefault(place.site.name, "the inputs do not reach it")
                continue
            outputs, axes = halves(sums, k, "outputs"), (" ".join(place.input_axes), " ".join(place.output_axes))
            each = Seen(*axes, inputs, outputs, slope)
            seen[place.site.name] = (*seen.get(place.site.name, ()), each)
        return seen


def hash_of(chunks: Sequence[Inputs]) -> str:
    """SHA-256 over all tensors of the samples, those of all processes, as a hexadecimal text."""
    own = [digest(chunk.value) for chunk in chunks]
    return hashlib.sha256(" ".join(each for part in gathered(own) for each in part).encode()).hexdigest()


def digest(value: Any) -> str:
    """The same over the tensors of one value."""
    found = hashlib.sha256()
    for tensor in tensors_in(value):
        found.update(f"{tuple(tensor.shape)} {tensor.dtype}".encode())
        found.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def said_together(notes: Mapping[str, str]) -> dict[str, list[str]]:
    """By note the weights that it is said of."""
    found: dict[str, list[str]] = {}
    for name, note in notes.items():
        found.setdefault(note, []).append(name)
    return found


def moment_of(rows: Tensor, features: int) -> Moment:
    """Rows (samples, p, groups, k) or indices (samples, p) as sums."""
    return Moment.of(rows.flatten(0, 1), features)


def halves(sums: Mapping[str, Any], watch: int, side: str) -> Halves | None:
    """What a watch saw on one side; nothing where no sample reached it."""
    fitted, held = sums.get(f"{watch} {side} 0"), sums.get(f"{watch} {side} 1")
    if fitted is None:
        return None
    return Halves(fitted, held)
