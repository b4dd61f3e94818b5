"""Every format from scratch on the digits, at full rank and at rank 4, at the dense network's learning rate.

    python benchmarks/from_scratch.py

The digits CNN (four convolutions, one linear layer) on scikit-learn's 8 x 8 digits: `tenfold.train`, 10 epochs in
batches of 128, Adam. Every weight that the format suits is in cores; a stand-in takes the others. Top-1 on the 359 test
images (one image is 0.28), mean and standard deviation over seeds 0, 1, 2.
"""

import logging
import statistics

import torch

import tenfold
from table import printed
from tenfold.data import load_data
from tenfold.formats import BUILT_IN, Format, format_named, name_of, options_of
from tenfold.models import zoo_model
from tenfold.surgery import Plan, Row, sites

NETWORK, EPOCHS, RATES, SEEDS, LOW = "digits-cnn", 10, (0.01,), (0, 1, 2), 4
HEAD = "format", *(f"{size}, rate {rate}" for size in ("full rank", f"rank {LOW}") for rate in RATES)


def plan(name: str, most: int | None) -> Plan:
    """Every weight in a format or its stand-in, at full rank or at ranks up to `most`, in one stage."""
    rows = {}
    for site in sites(zoo_model(NETWORK).build()).values():
        maker = site.suit(format_named(name)) if site.obstacle is None else site.obstacle
        if isinstance(maker, Format):
            net = maker.network(site.axes)
            ranks = net.ranks if most is None else net.with_ranks([min(most, r) for r in net.ranks]).clipped().ranks
            modes = {axis: tuple(sizes) for axis, sizes in maker.default_modes(site.axes).items()}
            stages = (tuple(range(len(net.cores))),)
            rows[site.name] = Row(site.name, name_of(maker), modes, ranks, stages, options_of(maker))
    return Plan(rows)


def scores(found: Plan, rate: float) -> list[float]:
    """Test top-1 of every seed."""
    each = []
    for seed in SEEDS:
        torch.manual_seed(seed)
        model = zoo_model(NETWORK).build()
        result = tenfold.train(model, load_data("digits"), plan=found, epochs=EPOCHS, lr=rate, seed=seed)
        score = result.report.compressed.score
        assert score is not None  # the data has a test split
        each.append(score.value)
    return each


def cell(found: Plan, rate: float, dense: float | None) -> str:
    """Mean and deviation, and how far the mean is from the dense network's."""
    each = scores(found, rate)
    words = f"{statistics.mean(each):.2f} ± {statistics.stdev(each):.2f}"
    return words if dense is None else f"{words} ({statistics.mean(each) - dense:+.2f})"


def main() -> None:
    logging.disable(logging.WARNING)
    nothing = Plan({})
    dense = {rate: statistics.mean(scores(nothing, rate)) for rate in RATES}
    lines = [("dense", *(cell(nothing, rate, None) for rate in RATES), *("" for _ in RATES))]
    for name in BUILT_IN:
        cells = [cell(plan(name, most), rate, dense[rate]) for most in (None, LOW) for rate in RATES]
        lines.append((f"`{name}`", *cells))
        print(lines[-1], flush=True)
    printed(
        "from-scratch", "Every format from scratch", HEAD, lines, "In brackets: against the dense network.", __doc__
    )


if __name__ == "__main__":
    main()
