"""Hierarchical Tucker beside the tensor train on trained weights, at equal numbers of parameters.

    python benchmarks/ht_tt_weights.py --data DIR --weights resnet56-4bfd9763.th --cache DIR

Weights: the LeNets, trained here on MNIST (seed 0; kept in the cache), and the 55 3x3 kernels of a trained ResNet-56.
HT on balanced trees and TT in layout `pairs`, over the same modes: axes in 2, 3 or 4 modes, a kernel's window a mode of
its own. All bonds are cut; the root of HT, which only hands a bond on, is merged away. Ranks by one rule for both: of a
grid within the parameters the 16 with the least sum and the 16 with the least maximum of the bonds' tails, filled up,
each truly decomposed (no sweeps, no training), the best kept. The numbers are relative errors in the Frobenius norm,
and errors of HT over errors of TT: below 1.00 HT is nearer to the weight. Nothing is drawn but the LeNets.
"""

import argparse
import os
import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt

from fits import Fit, Weight, best_fit, geometric_mean, weights_of
from table import PAGES, printed
from tenfold.api import open_network
from tenfold.formats import HT, TT
from training import trained

RATIOS = {False: (4, 10, 25), True: (2, 4, 8)}  # of matrices, of kernels
ORDERS = 2, 3, 4
KINDS = "matrices", "kernels"
PICTURE = PAGES.parent / "pictures" / "ht-tt-weights.svg"

NOTE = """
![error of HT over error of TT](../pictures/{picture})

The papers' finding holds here as a tendency, not as a rule. Kernels: TT is nearer in most cases, by 2 to 8 % of the
error at 2x and 4x and by 0 to 2 % at 8x. Matrices: HT is nearer on the largest layer of LeNet-300, by 2 to 7 %;
on the other three the two cannot be told apart. At order 2 a matrix has two modes, and HT and TT are one network.

By counting, HT stores less than TT at equal ranks where m > r²/(r-1) (mean mode m, mean rank r, the root merged). As a
forecast of the smaller error at equal parameters this is little better than a coin; ranks and modes are unequal here:

- matrices: {matrices};
- kernels: {kernels}.

More telling than either: the plain chain, which for a matrix is the SVD, is nearer to every matrix but LeNet-5's last
than both, by up to a third, and to kernels at 8x and on narrow layers; only at 2x and on 32 channels or more is `pairs`
nearer. Pairing input and output modes spreads the spectrum of a weight that was trained without it; whether a network
trained from scratch in these modes suffers is open here."""


@dataclass(frozen=True)
class Pair:
    """HT and TT of one weight at one ratio, by order; TT's plain chain (a matrix: the SVD)."""

    weight: Weight
    ratio: int
    ht: dict[int, Fit | None]
    tt: dict[int, Fit | None]
    chain: Fit | None

    @property
    def orders(self) -> list[int]:
        """Orders at which both are small enough."""
        return [order for order in ORDERS if self.ht[order] and self.tt[order]]

    def quotient(self, order: int) -> float:
        """The error of HT over that of TT."""
        return self.ht[order].error / self.tt[order].error

    def best(self, side: str) -> Fit:
        """The least error over the orders."""
        return min((fit for fit in getattr(self, side).values() if fit), key=lambda fit: fit.error)

    @property
    def best_quotient(self) -> float:
        """The same, each at its best order."""
        return self.best("ht").error / self.best("tt").error


def pair(weight: Weight, ratio: int) -> Pair:
    """All fits of a weight at a ratio."""
    ht = {order: best_fit(weight, [HT(order=order)], ratio) for order in ORDERS}
    tt = {order: best_fit(weight, [TT(layout="pairs", order=order)], ratio) for order in ORDERS}
    chains = TT(layout="chain").variants(weight.axes)
    return Pair(weight, ratio, ht, tt, best_fit(weight, chains, ratio))


def groups(data: str, weights: str, cache: Path) -> Iterator[tuple[str, list[Weight]]]:
    """Weights by the row of the table that they belong to."""
    for name in ("lenet300", "lenet5"):
        for weight in weights_of(trained(name, data, cache)):
            if weight.tensor.numel() >= 5000 or "h" in weight.axes:
                sizes = " x ".join(str(weight.axes[axis]) for axis in ("i", "o", "h", "w") if axis in weight.axes)
                yield f"{name} {weight.name}, {sizes}", [weight]
    by_width = defaultdict(list)
    for weight in weights_of(open_network("resnet56", weights=weights).model):
        if "h" in weight.axes:
            by_width[weight.axes["o"]].append(weight)
    for width, each in by_width.items():
        yield f"resnet56, 3x3 to {width} channels", each


def cell(values: Sequence[float]) -> str:
    """A mean of quotients to two decimals, with the spread where there are several."""
    if not values:
        return "-"
    spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{geometric_mean(values):.2f}{spread}"


def row(label: str, pairs: Sequence[Pair]) -> tuple[str, ...]:
    """A line of the table, over the weights of a group at one ratio."""
    each = [cell([p.quotient(order) for p in pairs if order in p.orders]) for order in ORDERS]
    errors = [statistics.mean(p.best(side).error for p in pairs) for side in ("ht", "tt")]
    chains = [p.chain.error for p in pairs if p.chain]
    wins = sum(p.best_quotient < 0.995 for p in pairs), sum(p.best_quotient > 1.005 for p in pairs)
    return (
        f"{label} ({len(pairs)})" if len(pairs) > 1 else label,
        f"{pairs[0].ratio}x",
        *each,
        cell([p.best_quotient for p in pairs]),
        f"{wins[0]} : {wins[1]}",
        *(f"{error:.3f}" for error in errors),
        f"{statistics.mean(chains):.3f}" if len(chains) == len(pairs) else "-",
    )


def foretold(pairs: Sequence[Pair]) -> str:
    """What the inequality of METHODS A.2, without the root, foretells at every order, and how often it is right."""
    right = of_ht = total = 0
    for each in pairs:
        for order in each.orders:
            net = each.tt[order].net
            if len(net.cores) < 3:
                continue
            mode, rank = geometric_mean([net.sizes[x] for x in net.modes]), geometric_mean(net.ranks)
            mode **= len(net.modes) / len(net.cores)  # a core holds a pair of modes
            expected = rank > 1 and mode > rank**2 / (rank - 1)
            right += expected == (each.quotient(order) < 1)
            of_ht += expected
            total += 1
    return f"it foretells HT {of_ht} times of {total} and is right {right} times"


def picture(pairs: Sequence[Pair]) -> None:
    """HT over TT against the ratio: matrices and kernels."""
    mpl.rcParams["svg.hashsalt"] = "tenfold"
    figure, ax = plt.subplots(figsize=(7, 4.2))
    for is_kernel, colour, label in ((False, "#d95f02", "matrices (LeNets)"), (True, "#1f78b4", "3x3 and 5x5 kernels")):
        some = [p for p in pairs if ("h" in p.weight.axes) == is_kernel]
        shifts = [1 + 0.12 * ((k * 0.618) % 1 - 0.5) for k in range(len(some))]
        x = [p.ratio * shift for p, shift in zip(some, shifts, strict=True)]
        y = [p.best_quotient for p in some]
        ax.scatter(x, y, s=16, alpha=0.5, color=colour, linewidths=0, label=label)
    ax.axhline(1, color="#5b6770", linewidth=1)
    ax.set(xscale="log", xlabel="times fewer parameters", ylabel="error of HT / error of TT, each at its best order")
    ax.set_xticks([2, 4, 8, 10, 25], ["2", "4", "8", "10", "25"])
    ax.minorticks_off()
    ax.legend(frameon=False)
    figure.savefig(PICTURE, bbox_inches="tight", facecolor="white", metadata={"Date": None})
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default=os.environ.get("TENFOLD_DATA", "."), help="folder with mnist/")
    parser.add_argument("--weights", required=True, help="resnet56-4bfd9763.th")
    parser.add_argument("--cache", type=Path, required=True, help="folder where trained LeNets are kept")
    given = parser.parse_args()
    rows, found = [], []
    for label, weights in groups(given.data, given.weights, given.cache):
        for ratio in RATIOS["h" in weights[0].axes]:
            pairs = [pair(weight, ratio) for weight in weights]
            rows.append(row(label, pairs))
            print(*rows[-1], flush=True)
            found += pairs
    picture(found)
    said = {noun: foretold([p for p in found if ("h" in p.weight.axes) == k]) for k, noun in enumerate(KINDS)}
    note = NOTE.format(picture=PICTURE.name, **said)
    head = ("weight", "fewer", *(f"HT/TT, order {order}" for order in ORDERS))
    head += ("HT/TT, best orders", "HT better : TT better", "HT", "TT pairs", "TT chain")
    printed("ht-tt-weights", "HT and TT on trained weights", head, rows, note, __doc__)


if __name__ == "__main__":
    main()
