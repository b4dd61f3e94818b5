"""Semi-tensor formats beside their plain ones on the kernels of a trained ResNet-32.

    python benchmarks/semi_tensor.py --weights resnet32-d509ac18.th

STTu and Tucker, STT and TT (layouts `split` and `pairs`), STR and TR; t = 2. Equal parameters: ranks by one rule (see
`ht_tt_weights`) for trees, equal but for one for rings. Equal rank: every bond of the plain format at the rank or the
largest useful one, every bond of the semi-tensor one that carries a digit at half of it, as the paper counts. Relative
errors in the Frobenius norm, mean and standard deviation over the kernels; the last column counts the kernels on which
either error is smaller by half a percent. No sweeps for trees; rings take 10 sweeps from the better of two starts (seed
0), in two modes an axis and on every third kernel only, because their fits take long.
"""

import argparse
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from fits import Fit, Weight, best_fit, evened, fitted, geometric_mean, weights_of
from table import printed
from tenfold.api import open_network
from tenfold.formats import STR, STT, TR, TT, Format, STTu, Tucker
from tenfold.network import TensorNetwork, closing, useful

NOTE = """\
At equal parameters a semi-tensor format is the plain one of the same weight with its modes dealt otherwise, and on
trained kernels that changes little: STT is nearer than TT in layout `pairs` (4 % of the error at 2x, nothing at 8x)
and no nearer in layout `split`; STTu is 4 to 5 % farther than Tucker, STR 1 to 2 % farther than TR. At equal rank,
which is how the paper compares, the semi-tensor format is much smaller (rank 14, `pairs`: 7.56x against 2.97x; the
paper names 9x and 3x, with ranks that are not capped) and much farther from the weight (17 to 57 %): the gain in size
is mostly that of a smaller rank. The large deviations at equal rank come from the narrow layers, which rank 14 hardly
truncates."""
SWEEPS = 10  # of rings


@dataclass(frozen=True)
class Rivals:
    """A plain format and its semi-tensor one, and at what they are compared."""

    name: str
    plain: Format
    semi: Format
    ratios: tuple[int, ...]
    rank: int
    every: int = 1


RIVALS = (
    Rivals("STTu / Tucker", Tucker(), STTu(), (2, 4, 8), 14),
    Rivals("STT / TT, split", TT(layout="split"), STT(layout="split"), (2, 4, 8), 14),
    Rivals("STT / TT, pairs", TT(layout="pairs"), STT(layout="pairs"), (2, 4, 8), 14),
    Rivals("STR / TR", TR(order=2, sweeps=SWEEPS), STR(order=2, sweeps=SWEEPS), (2, 4, 8), 8, every=3),
)


def at_ratio(weight: Weight, maker: Format, ratio: float) -> Fit | None:
    """The best of the format's settings at so many times fewer parameters."""
    if not maker.iterates:
        return best_fit(weight, maker.variants(weight.axes), ratio)
    net = evened(maker.network(weight.axes), weight.tensor.numel() / ratio)
    return None if net is None else fitted(weight, maker, net)


def network_at(maker: Format, axes: Mapping[str, int], rank: int) -> TensorNetwork:
    """Every bond at a rank as the paper counts it, none of a tree above the largest useful one."""
    net = maker.network(axes)
    dealt = {STTu: "io", STR: "io", STT: "o" if getattr(maker, "layout", "") == "pairs" else "io"}.get(type(maker), "")
    net = net.with_ranks([max(1, rank // digit(net, bond, dealt)) for bond in net.bonds])
    return net if closing(net) else useful(net)


def at_rank(weight: Weight, maker: Format, rank: int) -> Fit:
    """The fit at a rank as the paper counts it; axes in two modes."""
    maker = maker if isinstance(maker, Tucker | STTu) else replace(maker, order=2)
    return fitted(weight, maker, network_at(maker, weight.axes, rank))


def digit(net: TensorNetwork, bond: str, dealt: str) -> int:
    """The part of a bond that is a fast digit: one of its two cores holds it, the other the slow digit of that mode.

    dealt: the axes whose modes are pairs of digits, slow and fast in turn.
    """
    one, two = (set(net.cores[k]) for k in net.holders[bond])
    pairs = [(f"{axis}{k}", f"{axis}{k + 1}") for axis in dealt for k in range(1, len(net.modes), 2)]
    return net.size(b for a, b in pairs if (a in one and b in two) or (a in two and b in one))


def row(rivals: Rivals, setting: str, plain: Sequence[Fit], semi: Sequence[Fit], dense: int) -> tuple[str, ...]:
    """A line of the table."""
    quotients = [b.error / a.error for a, b in zip(plain, semi, strict=True)]
    sizes = [dense / sum(fit.net.params for fit in fits) for fits in (plain, semi)]
    errors = [[fit.error for fit in fits] for fits in (plain, semi)]
    return (
        rivals.name,
        setting,
        *(f"{size:.2f}x" for size in sizes),
        *(f"{statistics.mean(each):.3f} ± {statistics.stdev(each):.3f}" for each in errors),
        f"{geometric_mean(quotients):.2f} ± {statistics.stdev(quotients):.2f}",
        f"{sum(q < 0.995 for q in quotients)} : {sum(q > 1.005 for q in quotients)}",
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--weights", required=True, help="resnet32-d509ac18.th")
    model = open_network("resnet32", weights=parser.parse_args().weights).model
    kernels = [weight for weight in weights_of(model) if "h" in weight.axes][1:]  # not the one from 3 channels
    rows = []
    for rivals in RIVALS:
        some = kernels[:: rivals.every]
        dense = sum(weight.tensor.numel() for weight in some)
        sides = rivals.plain, rivals.semi
        for ratio in rivals.ratios:
            fits = [[at_ratio(weight, side, ratio) for weight in some] for side in sides]
            rows.append(row(rivals, f"{ratio}x", *fits, dense))
            print(*rows[-1], flush=True)
        fits = [[at_rank(weight, side, rivals.rank) for weight in some] for side in sides]
        rows.append(row(rivals, f"rank {rivals.rank}", *fits, dense))
        print(*rows[-1], flush=True)
    head = ("formats", "at equal", "plain, fewer", "semi, fewer", "plain, error", "semi, error", "semi/plain")
    head += ("semi better : plain better",)
    printed("semi-tensor", "Semi-tensor formats on trained kernels", head, rows, NOTE, __doc__)


if __name__ == "__main__":
    main()
