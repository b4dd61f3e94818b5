"""Every format from scratch on the digits, at full rank, at the dense network's learning rate.

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

NETWORK, EPOCHS, RATE, SEEDS = "digits-cnn", 10, 0.01, (0, 1, 2)
HEAD = "format", "top-1", "against dense"


def plan(name: str) -> Plan:
    """Every weight in a format or its stand-in, at full rank, in one stage."""
    rows = {}
    for site in sites(zoo_model(NETWORK).build()).values():
        maker = site.suit(format_named(name)) if site.obstacle is None else site.obstacle
        if isinstance(maker, Format):
            net = maker.network(site.axes)
            modes = {axis: tuple(sizes) for axis, sizes in maker.default_modes(site.axes).items()}
            stages = (tuple(range(len(net.cores))),)
            rows[site.name] = Row(site.name, name_of(maker), modes, net.ranks, stages, options_of(maker))
    return Plan(rows)


def scores(found: Plan) -> list[float]:
    """Test top-1 of every seed."""
    each = []
    for seed in SEEDS:
        torch.manual_seed(seed)
        model = zoo_model(NETWORK).build()
        result = tenfold.train(model, load_data("digits"), plan=found, epochs=EPOCHS, lr=RATE, seed=seed)
        score = result.report.compressed.score
        assert score is not None  # the data has a test split
        each.append(score.value)
    return each


def main() -> None:
    logging.disable(logging.WARNING)
    found = {"dense": scores(Plan({}))}
    lines = []
    for name in ("dense", *BUILT_IN):
        each = found.setdefault(name, []) or scores(plan(name))
        ahead = statistics.mean(each) - statistics.mean(found["dense"])
        lines.append((f"`{name}`", f"{statistics.mean(each):.2f} ± {statistics.stdev(each):.2f}", f"{ahead:+.2f}"))
        print(lines[-1], flush=True)
    printed("from-scratch", "Every format from scratch", HEAD, lines, "", __doc__)


if __name__ == "__main__":
    main()
