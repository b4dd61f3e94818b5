"""`LayerRow`: what became of one weight, and how far it is from the weight that it replaced."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod

from torch import Tensor, nn

from tenfold.formats import DENSE
from tenfold.layers import FactoredWeight, Layer, kind_of, name_of
from tenfold.measure import LayerProfile, Profile, relative_error
from tenfold.protocols import TenfoldError, within
from tenfold.report.spectrum import Foreseen, Known, Spectrum
from tenfold.surgery import Plan, Row, Site, Untaken, sites, untaken
from tenfold.surgery.plan import in_bits


@dataclass(frozen=True)
class LayerRow:
    """What became of one weight.

    Attributes:
        name, kind: its site and its kind of layer; the module's class where no kind takes it.
        shape: the weight's axes and their sizes, in its order; `d0`, `d1`, .. where no kind names them.
        format, modes, ranks, stages, bits, reason: the plan's; rank None where a bond is not cut.
        params: numbers in the cores, or in the weight where it is dense; without the bias.
        macs: multiply-adds of one sample; None where they were not measured.
        rel_error: norm of the difference over the norm of the dense weight; 0 for a dense one that was not trained on;
            None where the weight was trained from the start, and so replaced none.
        macs_before: multiply-adds of the dense weight, likewise.
        seconds_before, seconds: of all its calls for one sample, dense, and in the last network as it runs; None where
            they were not measured.
        spectra: of the bonds that were cut, where they are known.
        foreseen: the error that they foretold, and what it came to; None where they do not tell it.
    """

    name: str
    kind: str
    shape: Mapping[str, int] = field(hash=False)
    format: str
    modes: Mapping[str, tuple[int, ...]] = field(hash=False)
    ranks: tuple[int | None, ...]
    stages: tuple[tuple[int, ...], ...]
    params: int
    macs: int | None
    rel_error: float | None
    reason: str
    macs_before: int | None = None
    seconds_before: float | None = None
    seconds: float | None = None
    spectra: tuple[Spectrum, ...] = ()
    foreseen: Foreseen | None = None
    bits: tuple[int, ...] = ()

    @property
    def form(self) -> str:
        """`tucker2, 4 bits`."""
        return in_bits(self.format, self.bits)

    @property
    def params_before(self) -> int:
        """Numbers in the dense weight."""
        return prod(self.shape.values())


def layer_rows(
    dense: nn.Module,
    small: nn.Module,
    plan: Plan,
    profile: Profile | None = None,
    *,
    after: Profile | None = None,
    knowing: Known | None = None,
) -> tuple[LayerRow, ...]:
    """A row for every weight of the dense network, in the order of its modules.

    Args:
        small: the network that the plan made of the dense one, trained on or not, not lowered.
        profile: of the dense network, for the multiply-adds and times.
        after: of the last network, for the times.
        knowing: what the plan was made by, for the spectra.
    Raises: TenfoldError, naming the layer, if the two networks do not belong together.
    """
    known = {} if profile is None else profile.layers
    spent = {} if after is None else {name: layer.seconds for name, layer in after.layers.items()}
    found = []
    for name, site in sites(dense).items():
        with within(f"layer '{name}'"):
            row = plan.rows.get(name, Row(name, reason="not in the plan"))
            found.append(layer_row(site, dense, small, row, known.get(name), seconds_at(name, spent), knowing))
    return (*found, *(untaken_row(other) for other in untaken(dense).values()))


def untaken_row(other: Untaken) -> LayerRow:
    """A weight that no kind of layer takes."""
    shape = {f"d{k}": size for k, size in enumerate(other.shape)}
    return LayerRow(other.name, other.module, shape, DENSE, {}, (), (), other.params, None, 0.0, other.reason)


def layer_row(
    site: Site,
    dense: nn.Module,
    small: nn.Module,
    row: Row,
    measured: LayerProfile | None,
    seconds: float | None,
    knowing: Known | None,
) -> LayerRow:
    """What became of one weight."""
    before, after = numbers(weight_at(site, dense)), weight_at(site, small)
    now = numbers(after)
    if before.shape != now.shape:
        raise TenfoldError(f"a weight of shape {tuple(now.shape)} stands for one of {tuple(before.shape)}.")
    spectra = () if knowing is None else knowing.spectra(row, before, site.axes)
    return LayerRow(
        name=site.name,
        kind=name_of(site.kind),
        shape=dict(site.axes),
        format=row.format,
        modes={axis: tuple(sizes) for axis, sizes in row.modes.items()},
        ranks=row.ranks,
        stages=after.stages.partition if isinstance(after, FactoredWeight) else (),
        params=after.net.params if isinstance(after, FactoredWeight) else after.numel(),
        macs=macs_of(site, after, measured),
        rel_error=relative_error(before, now),
        reason=row.reason,
        macs_before=None if measured is None else measured.macs,
        seconds_before=None if measured is None else measured.seconds,
        seconds=seconds,
        spectra=spectra,
        foreseen=None if knowing is None else knowing.foreseen(row, spectra, before, now, site.axes),
        bits=row.bits,
    )


def weight_at(site: Site, model: nn.Module) -> Tensor | FactoredWeight:
    """The weight at a site: in cores, or with its named axes as dimensions.

    Raises: TenfoldError if the network has nothing like it there.
    """
    place = site.places[0]
    try:
        module = model.get_submodule(place.module)
    except AttributeError as error:
        raise TenfoldError(f"{type(model).__name__} has no module '{place.module}'.") from error
    if kind_of(module) is not place.kind:
        raise TenfoldError(f"{type(model).__name__} has no such weight; give the network as compressed, not lowered.")
    if not isinstance(module, Layer):
        return place.kind.dense_weight(module, place.weight)
    held = module.held(place.weight)
    return held if isinstance(held, FactoredWeight) else held.detach().reshape(tuple(site.axes.values()))


def numbers(weight: Tensor | FactoredWeight) -> Tensor:
    """The weight as a tensor in its axes."""
    return weight.in_axes().detach() if isinstance(weight, FactoredWeight) else weight


def macs_of(site: Site, weight: Tensor | FactoredWeight, measured: LayerProfile | None) -> int | None:
    """Multiply-adds of one sample in the form that the weight has now, from those of the dense one."""
    if measured is None or isinstance(weight, Tensor):
        return None if measured is None else measured.macs
    return site.macs(weight.stages, measured.positions, measured.macs, measured.calls)


def seconds_at(name: str, spent: Mapping[str, float | None]) -> float | None:
    """Seconds of a layer under its own name, or of the modules that stand in its place; None where none is known."""
    own = [
        s for other, s in spent.items() if s is not None and (name in (other, "model") or other.startswith(f"{name}."))
    ]
    return sum(own) if own else None
