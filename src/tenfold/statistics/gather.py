"""One pass over unlabelled inputs: what every weight meets, and what its outputs are worth."""

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from tenfold.inputs import Inputs, evaluating, run, tensors_in
from tenfold.layers import Layer, kind_of
from tenfold.measure import weights_hash
from tenfold.network import GROUPS
from tenfold.statistics.moment import Moment
from tenfold.statistics.shifts import shiftable
from tenfold.statistics.statistics import Halves, Seen, Statistics
from tenfold.surgery import Site, copied, sites
from tenfold.surgery.carry_out import swapped
from tenfold.surgery.sites import mirrored

POSITIONS = 64  # of each sample and call that are looked at; an eighth of them left results unchanged
HELD_OUT = 8  # every so many chunks, one is held out
Outputs = Callable[[Any], Sequence[Tensor]]  # what is compared of a network's outputs, samples first


def gather(
    model: nn.Module,
    chunks: Sequence[Inputs],
    *,
    outputs: Outputs | None = None,
    draws: int = 1,
    seed: int = 0,
    watch: Callable[[Iterator[Inputs]], Iterator[Inputs]] = iter,
) -> Statistics:
    """Second moments of what every weight meets and of the gradients at its outputs; no labels, memory bounded.

    The gradients are those of random projections of the outputs, whose second moment is the Gauss-Newton matrix of
    their squared error. Of every sample and call 64 positions are looked at, drawn anew for each chunk; sums are in
    float64.

    Args:
        chunks: samples (`first_samples`); every eighth chunk is held out to choose by.
        outputs: what counts of the outputs, by default all that is floating.
        draws: projections of every chunk.
        watch: is handed the chunks and hands them on, to draw a bar.
    Raises: TenfoldError if the network does not run on a chunk.
    """
    watched = Watched.of(model)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        hashed = hash_of(chunks)
    with evaluating(watched.model), torch.enable_grad():
        for k, chunk in enumerate(watch(iter(chunks))):
            held = len(chunks) > 1 and k % HELD_OUT == min(HELD_OUT, len(chunks)) - 1
            for draw in range(draws):
                watched.see(chunk, outputs or floating, held=held, inputs=draw == 0, generator=generator)
    samples = sum(chunk.size for chunk in chunks)
    return watched.statistics(weights_hash(model), hashed, samples, shiftable(model, chunks[0].samples(2)))


@dataclass(frozen=True, eq=False)
class Watch:
    """One place of a weight: the child that applies it, of which kind, and what was seen."""

    site: Site
    kind: type[Layer]
    mirrored: bool
    sums: dict[tuple[str, bool], Moment]  # ("inputs" or "outputs", held out) -> sums

    def add(self, side: str, held: bool, moment: Moment) -> None:
        """Add what was seen."""
        known = self.sums.get((side, held))
        self.sums[side, held] = moment if known is None else known + moment


class Watched:
    """A copy of a network in which every weight that can be is applied by a module of its own, with hooks on it."""

    def __init__(self, model: nn.Module, watches: Mapping[nn.Module, Watch], reasons: Mapping[str, str]) -> None:
        self.model, self.watches, self.reasons = model, watches, dict(reasons)
        for module in watches:
            module.register_forward_hook(self.after, with_kwargs=True)
        model.requires_grad_(requires_grad=False)

    @classmethod
    def of(cls, model: nn.Module) -> "Watched":
        """Of a dense network, which is left alone."""
        twin = copied(model).eval()
        known = sites(twin)
        apart = {}
        for place in {p.module: p for site in known.values() for p in site.places}.values():
            module = twin.get_submodule(place.module)
            apart[place.module] = module, *place.kind.apart(module)
        watches: dict[nn.Module, Watch] = {}
        reasons = {}
        for name, site in known.items():
            for place in site.places:
                _, new, children = apart[place.module]
                if place.weight not in children:
                    reasons[name] = "what it meets is not seen from outside"
                    continue
                child = new.get_submodule(children[place.weight])
                kind = kind_of_part(child, place.kind)
                watches[child] = Watch(site, kind, place.mirrored, {})
        twin = swapped(twin, {old: new for old, new, _ in apart.values() if old is not new})
        return cls(twin, watches, reasons)

    def see(self, chunk: Inputs, outputs: Outputs, *, held: bool, inputs: bool, generator: torch.Generator) -> None:
        """One forward, and one backward of a random projection of the outputs."""
        self.held, self.inputs, self.size, self.generator = held, inputs, chunk.size, generator
        self.reached: set[Watch] = set()
        found = outputs(run(self.model, chunk.value))
        terms = [(y * torch.randn(y.shape, generator=generator).to(y)).sum() for y in found if y.requires_grad]
        if terms:
            torch.stack(terms).sum().backward()  # type: ignore[no-untyped-call]

    def after(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any) -> Any:
        """What a watched module met, and a hook on its output's gradient."""
        watch = self.watches[module]
        given = next(tensors_in((args, kwargs)))
        if self.inputs:
            with torch.no_grad():
                rows = watch.kind.input_rows(module, given, self.pick)
            if rows is not None:
                watch.add("inputs", self.held, moment_of(rows[0].detach(), features_in(watch)))
        if not isinstance(result, Tensor):
            return result
        y = result if result.requires_grad else result.detach().requires_grad_().clone()
        held, size, first = self.held, self.size, watch not in self.reached
        self.reached.add(watch)

        def backward(gradient: Tensor) -> None:
            rows = watch.kind.output_rows(module, gradient.detach(), self.pick)
            if rows is None:
                return
            each, positions = rows
            moment = moment_of(each * (positions / each.shape[1]) ** 0.5, each.shape[-1])
            count = torch.tensor(size if first else 0, dtype=torch.float64)
            watch.add("outputs", held, replace(moment, count=count))

        y.register_hook(backward)  # type: ignore[no-untyped-call]
        return y

    def pick(self, positions: int) -> Tensor:
        """Which positions are looked at."""
        if positions <= POSITIONS:
            return torch.arange(positions)
        return torch.randperm(positions, generator=self.generator)[:POSITIONS]

    def statistics(self, weights: str, inputs: str, samples: int, shifts: Mapping[str, str]) -> Statistics:
        """What was seen."""
        seen: dict[str, tuple[Seen, ...]] = {}
        for watch in self.watches.values():
            found = halves(watch.sums, "inputs")
            if found is None:
                self.reasons[watch.site.name] = "the inputs do not reach it"
                continue
            own = watch.site.axes
            axes = watch.kind.input_axes(mirrored(own) if watch.mirrored else own)
            axes = tuple(mirrored(dict.fromkeys(axes, 1))) if watch.mirrored else axes
            others = tuple(axis for axis in own if axis != GROUPS and axis not in axes)
            each = Seen(" ".join(axes), " ".join(others), found, halves(watch.sums, "outputs"))
            seen[watch.site.name] = (*seen.get(watch.site.name, ()), each)
        return Statistics(weights, inputs, samples, seen, self.reasons, shifts)


def kind_of_part(child: nn.Module, kind: type[Layer]) -> type[Layer]:
    """The kind that knows what the child which applies a weight meets."""
    return kind_of(child) or kind


def features_in(watch: Watch) -> int:
    """How many features a row of the weight's inputs has in each group."""
    own = mirrored(watch.site.axes) if watch.mirrored else watch.site.axes
    return math.prod(own[axis] for axis in watch.kind.input_axes(own))


def hash_of(chunks: Sequence[Inputs]) -> str:
    """SHA-256 over all tensors of the samples, as a hexadecimal text."""
    digest = hashlib.sha256()
    for tensor in tensors_in([chunk.value for chunk in chunks]):
        digest.update(f"{tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def moment_of(rows: Tensor, features: int) -> Moment:
    """Rows (samples, p, groups, k) or indices (samples, p) as sums."""
    return Moment.of(rows.flatten(0, 1), features)


def halves(sums: Mapping[tuple[str, bool], Moment], side: str) -> Halves | None:
    """What was seen on one side; nothing where no sample reached it."""
    fitted, held = sums.get((side, False)), sums.get((side, True))
    if fitted is None:
        return None
    return Halves(fitted, held)


def floating(outputs: Any) -> list[Tensor]:
    """All that is floating in a network's outputs."""
    return [tensor for tensor in tensors_in(outputs) if tensor.is_floating_point()]
