"""Milliseconds of ResNet-50 in factors: tenfold's stages and tensorly-torch's layers, at the same ranks.

    pip install tensorly-torch
    python benchmarks/speed_peers.py --page

Two threads, nothing else on the machine; 224 x 224 images, batch 8; numbers in the cores are drawn, they are of no
account for times. Every convolution but the first is factorised; tensorly-torch chooses the ranks (one share of the
parameters everywhere), tenfold takes the same. Both as they are deployed (`implementation="factorized"`; lowered, batch
norms folded), each in the faster of the contiguous and the channels_last layout, with the dense network in turn, in one
process. Median and distance between the quartiles of the ratio, round by round.
"""

import argparse
import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tltorch
import torch
from torch import Tensor, nn

import tenfold
from table import page, table, written
from tenfold.api import open_network
from tenfold.inputs import evaluating, inputs_for, run
from tenfold.measure import in_fastest_layout, ratio
from tenfold.measure.timing import paired
from tenfold.planning.timed import with_fastest_stages
from tenfold.surgery import Plan, Row, lower, sites
from tenfold.surgery.carry_out import skeleton

HEAD = ("format", "parameters kept", "dense ms", "tensorly-torch ms", "tenfold ms", "dense over tensorly-torch",
        "dense over tenfold", "tensorly-torch over tenfold")  # fmt: skip
OURS = {"tucker": "tucker2", "cp": "cp"}


def main() -> None:
    given = arguments()
    torch.set_num_threads(given.threads)
    model = open_network("resnet50", seed=0).model
    x = torch.randn(8, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    for factorization in given.formats:
        for share in given.shares:
            row = {"format": factorization, "share": share, **measured(model, x, factorization, share, given.rounds)}
            print(json.dumps(row), flush=True)
            with given.results.open("a") as file:
                file.write(json.dumps(row) + "\n")
    rows = [json.loads(line) for line in given.results.read_text().splitlines()]
    text = page("At the same ranks", __doc__, table(HEAD, lines(rows)))
    print(text)
    if given.page:
        written("speed-peers", text)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--formats", nargs="+", default=list(OURS), choices=OURS)
    parser.add_argument("--shares", type=float, nargs="+", default=[0.25], help="of each convolution's parameters")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--results", type=Path, default=Path("speed-peers.jsonl"), help="rows that are done")
    parser.add_argument("--page", action="store_true", help="write docs/benchmarks/speed-peers.md")
    return parser.parse_args()


def measured(model: nn.Module, x: Tensor, factorization: str, share: float, rounds: int) -> dict[str, Any]:
    """Milliseconds of the three networks, and the ratios that count."""
    theirs, ranks = factorised(model, factorization, share)
    given = inputs_for(model, x)
    plan = Plan({name: row(name, OURS[factorization], ranks.get(name)) for name in sites(model)})
    plan = with_fastest_stages(model, plan, tenfold.inspect(model, given.samples(1)), given)
    ours = skeleton(model, plan)
    forms = {"dense": lower(model), "theirs": theirs, "ours": lower(ours)}
    laid = {name: in_fastest_layout(form, given)[0] for name, form in forms.items()}
    with evaluating(laid["dense"]):
        times = paired({name: lambda form=form: run(form, given.value) for name, form in laid.items()}, repeats=rounds)
    pairs = {f"{a} over {b}": ratio(times[a], times[b])
             for a, b in (("dense", "theirs"), ("dense", "ours"), ("theirs", "ours"))}  # fmt: skip
    return {
        "params": [sum(p.numel() for p in form.parameters()) for form in (model, theirs, ours)],
        "ms": {name: 1e3 * each.median for name, each in times.items()},
        **{name: [each.median, each.spread] for name, each in pairs.items()},
    }


def factorised(model: nn.Module, factorization: str, share: float) -> tuple[nn.Module, dict[str, tuple[int, ...]]]:
    """A copy with every convolution but the first in tensorly-torch's layer; the ranks that it chose, by layer."""
    small = copy.deepcopy(model).eval()
    ranks: dict[str, tuple[int, ...]] = {}
    convolutions = [(name, module) for name, module in small.named_modules() if isinstance(module, nn.Conv2d)]
    for name, module in convolutions[1:]:
        layer = tltorch.FactorizedConv.from_conv(
            module, rank=share, factorization=factorization, implementation="factorized", decompose_weights=False,
            fixed_rank_modes="spatial" if factorization == "tucker" else None,
        )  # fmt: skip
        layer.weight.normal_(0, 0.02)
        small.set_submodule(name, layer)
        rank = layer.weight.rank
        ranks[name] = (rank,) if isinstance(rank, int) else (rank[1], rank[0])
    return small, ranks


def row(name: str, format: str, ranks: tuple[int, ...] | None) -> Row:
    """A layer in a format at these ranks; dense without."""
    return Row(name) if ranks is None else Row(name, format, ranks=ranks)


def lines(rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, ...]]:
    """A line for each format and share."""
    for row in rows:
        dense, theirs, ours = row["params"]
        ms = (f"{row['ms'][name]:.0f}" for name in ("dense", "theirs", "ours"))
        pairs = (f"{median:.2f}x ({spread:.2f})" for median, spread in (
            row["dense over theirs"], row["dense over ours"], row["theirs over ours"]))  # fmt: skip
        yield row["format"], f"1 of {dense / theirs:.2f}, 1 of {dense / ours:.2f}", *ms, *pairs


if __name__ == "__main__":
    main()
