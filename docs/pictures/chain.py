"""Draw chain.svg: one kernel, and the chain of four small convolutions that stands for it.

python docs/pictures/chain.py

The numbers are worked out by tenfold from the sizes below.
"""

import math
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import Circle, FancyBboxPatch

from tenfold.formats import HT2
from tenfold.network import Stages, TensorNetwork

AXES = {"o": 64, "i": 64, "h": 3, "w": 3}
RANKS = (16, 20, 16)
POSITIONS = {"h": (32, 32), "w": (32, 32)}
INK, LINE, DENSE, CORE = "#222222", "#5b6770", "#d9d9d9", "#9ecae1"


def ball(ax: Axes, x: float, y: float, radius: float, colour: str, text: str) -> None:
    """A tensor."""
    ax.add_patch(Circle((x, y), radius, facecolor=colour, edgecolor=INK, linewidth=1.2, zorder=3))
    ax.text(x, y, text, ha="center", va="center", fontsize=12, zorder=4)


def leg(ax: Axes, x: float, y: float, length: float, text: str) -> None:
    """A label that the weight has."""
    ax.plot([x, x], [y, y - length], color=LINE, linewidth=1.6, zorder=1)
    ax.text(x, y - length - 0.12, text, ha="center", va="top", fontsize=11)


def box(ax: Axes, x: float, y: float, text: str, colour: str) -> None:
    """A convolution."""
    style = {"boxstyle": "round,pad=0.02,rounding_size=0.12", "edgecolor": INK, "linewidth": 1.2, "zorder": 3}
    ax.add_patch(FancyBboxPatch((x - 0.72, y - 0.42), 1.44, 0.84, facecolor=colour, **style))
    ax.text(x, y, text, ha="center", va="center", fontsize=10, zorder=4)


def arrow(ax: Axes, start: float, end: float, y: float, text: str = "") -> None:
    """Channels between two convolutions."""
    ax.annotate("", (end, y), (start, y), arrowprops={"arrowstyle": "->", "color": LINE, "linewidth": 1.4})
    ax.text((start + end) / 2, y + 0.12, text, ha="center", va="bottom", fontsize=10)


def draw(net: TensorNetwork, path: Path) -> None:
    """Above: tensors and their labels. Below: what is applied to an input."""
    stages = Stages.of(net, [(k,) for k in range(len(net.cores))])
    dense = math.prod(AXES.values())
    dense_macs = dense * math.prod(after for _, after in POSITIONS.values())
    figure, ax = plt.subplots(figsize=(11, 4.9))
    ax.set(xlim=(-1.5, 13.1), ylim=(-3.8, 2.6), aspect="equal")
    ax.axis("off")
    ball(ax, 0.6, 1.0, 0.72, DENSE, "W")
    for x, axis in zip((0.0, 0.4, 0.8, 1.2), "ihwo", strict=True):
        leg(ax, x, 0.8, 0.8, f"{axis}\n{AXES[axis]}")
    ax.text(2.75, 1.0, "≈", ha="center", va="center", fontsize=22)
    places = [4.6, 6.7, 8.8, 10.9]
    ax.plot([places[0], places[-1]], [1.0, 1.0], color=LINE, linewidth=1.6, zorder=1)
    for k, x in enumerate(places):
        mode = next(label for label in net.cores[k] if label in net.modes)
        ball(ax, x, 1.0, 0.52, CORE, f"{math.prod(net.shapes[k]):,}")
        leg(ax, x, 0.5, 0.5, f"{mode}\n{net.sizes[mode]}")
    for left, right, rank in zip(places, places[1:], net.ranks, strict=False):
        ax.text((left + right) / 2, 1.1, f"rank {rank}", ha="center", va="bottom", fontsize=10)
    ax.text(0.6, 2.25, f"one weight\n{dense:,} numbers", ha="center", va="center", fontsize=11, weight="bold")
    small = f"four cores, {net.params:,} numbers: {dense / net.params:.1f} times fewer"
    ax.text(7.75, 2.25, small, ha="center", va="center", fontsize=11, weight="bold")
    y = -2.35
    box(ax, 0.6, y, "conv\n3 x 3", DENSE)
    arrow(ax, -1.15, -0.16, y, "64")
    arrow(ax, 1.36, 2.35, y, "64")
    channels = [AXES["i"], *net.ranks, AXES["o"]]
    arrow(ax, places[0] - 1.5, places[0] - 0.76, y, str(channels[0]))
    for k, x in enumerate(places):
        window = ["3" if axis in stages.each[k].window else "1" for axis in "hw"]
        box(ax, x, y, f"conv\n{window[0]} x {window[1]}", CORE)
        end = places[k + 1] - 0.76 if k + 1 < len(places) else x + 1.5
        arrow(ax, x + 0.76, end, y, str(channels[k + 1]))
    cost = stages.macs(POSITIONS)
    ax.text(0.6, -3.3, f"{dense_macs / 1e6:.1f} million\nmultiply-adds", ha="center", va="center", fontsize=11)
    text = f"{cost / 1e6:.1f} million multiply-adds: {dense_macs / cost:.1f} times fewer (on 32 x 32 positions)"
    ax.text(7.75, -3.3, text, ha="center", va="center", fontsize=11)
    figure.savefig(path, bbox_inches="tight", facecolor="white", metadata={"Date": None})
    plt.close(figure)


if __name__ == "__main__":
    mpl.rcParams["svg.hashsalt"] = "tenfold"
    draw(HT2().network(AXES, RANKS), Path(__file__).with_suffix(".svg"))
