"""What the papers claim of networks trained on CIFAR-10, and what runs say of it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from calibration import spread

Row = Mapping[str, Any]
NEAR = 0.3  # points: as far as figures read off plots, and one seed, can tell
HT2 = {  # network -> energy -> change of top-1, read off the paper's plots
    "resnet20": {0.9: 0.36, 0.8: 0.24, 0.7: -0.26, 0.6: -1.25, 0.5: -2.44},
    "resnet32": {0.9: 0.20, 0.8: -0.18, 0.7: -0.40, 0.6: -1.09, 0.5: -1.67},
    "resnet56": {0.9: 0.63, 0.8: 0.39, 0.7: 0.06, 0.6: -0.87, 0.5: -2.04},
}
MIXED = ("ht", "tt", "opposite")


@dataclass(frozen=True)
class Claim:
    """Something that a paper says.

    Attributes:
        figure: the paper's, in words.
        cells: that it takes.
        ours: top-1 of the cells, seed by seed -> the number that counts, in points, seed by seed.
        least: that the number has to be; from `NEAR` above `least` on the claim is beaten, where `beatable`.
    """

    paper: str
    words: str
    figure: str
    cells: tuple[str, ...]
    ours: Callable[[Mapping[str, Row]], float]
    least: float
    beatable: bool = True

    @property
    def compares(self) -> bool:
        """Whether it only says which of two is better."""
        return not self.beatable and self.least == 0.0

    def line(self, runs: Sequence[Mapping[str, Row]]) -> tuple[str, ...]:
        """Of the page; `runs`: all cells, once for each seed that has them all."""
        if not runs:
            return (self.paper, self.words, self.figure, "", "", "not run")
        found = [self.ours(each) for each in runs]
        mean = sum(found) / len(found)
        one = runs[0][self.cells[-1]]
        verdict = "not reached" if mean < self.least - NEAR * self.beatable else "reproduced"
        verdict = "beaten" if self.beatable and mean > self.least + NEAR else verdict
        verdict = "within noise" if self.compares and abs(mean) < NEAR else verdict
        scores = ", ".join(
            f"{name.rsplit('/', 1)[1]} {spread([each[name]['top1'] for each in runs])} at "
            f"{one_of(runs, name)['ratio']:.2f}x"
            for name in self.cells
        )
        seeds = "one seed" if len(runs) == 1 else f"{len(runs)} seeds"
        how = f"{seeds}, {one['epochs']} epochs, {one['device']}"
        return (self.paper, self.words, self.figure, f"{signed(found)} ({scores})", how, verdict)


def one_of(runs: Sequence[Mapping[str, Row]], name: str) -> Row:
    """A run of a cell."""
    return runs[0][name]


def signed(values: Sequence[float]) -> str:
    """`+0.24`: the mean, and where there are several the largest less the smallest."""
    mean = sum(values) / len(values)
    return f"{mean:+.2f}" + (f" ({max(values) - min(values):.2f})" if len(values) > 1 else "")


def above(better: str, *others: str) -> Callable[[Mapping[str, Row]], float]:
    """How far one cell's top-1 is above the best of others."""
    return lambda runs: runs[better]["top1"] - max(runs[other]["top1"] for other in others)


def change(cell: str) -> Callable[[Mapping[str, Row]], float]:
    """Of top-1, from the dense network's."""
    return lambda runs: runs[cell]["top1"] - runs[cell]["dense"]


def every_claim() -> Iterator[Claim]:
    """In the order of the page."""
    for row, network, paper, semi, plain, figures in (
        ("stt", "resnet32", "semi-tensor", "stt-t2", "tt-r14", ("TT 3x", "STT 9x")),
        ("str", "wrn28-10", "semi-tensor", "str-t2", "tr-r16", ("TR 99x", "STR 179x")),
        ("str", "wrn16-4", "semi-tensor", "str-t2", "tr-r16", ("TR 99x (of WRN-28-10)", "STR 179x (of WRN-28-10)")),
    ):
        at = f"{row}/{network}/"
        equal = at + f"{plain[:2]}-equal"
        for cell, figure in zip((plain, semi), figures, strict=True):
            words = f"{network} from scratch, {figure.split()[0]}: within 2 points of dense"
            yield Claim(paper, words, figure, (at + "dense", at + cell), above(at + cell, at + "dense"), -2.0, False)
        words = f"{network} from scratch: {figures[1].split()[0]} above {figures[0].split()[0]} of the same size"
        yield Claim(paper, words, "no number", (equal, at + semi), above(at + semi, equal), 0.0, False)
    for network, figures_at in HT2.items():
        for start, words in (("norms", "batch norms anew"), ("calibrated", "calibrated")):
            for energy, figure in figures_at.items():
                cell = f"ht2/{network}/{energy}-{start}"
                yield Claim(
                    "HT-2", f"{network}, e = {energy}, {words}", f"{figure:+.2f}", (cell,), change(cell), figure
                )
    for start, words in (("trained", "from trained weights"), ("scratch", "from scratch")):
        hybrid, *rest = (f"hybrid/six-three/{each}-{start}" for each in ("hybrid", *MIXED))
        said = f"three matrices, {words}: TT on kernels with HT on matrices above all others of its size"
        yield Claim("hybrid", said, "no number", (hybrid, *rest), above(hybrid, *rest), 0.0, False)
    for network in ("resnet20", "wrn16-4"):
        for times in ("4x", "10x"):
            for name in ("ada", "scada"):
                cell, *others = (f"ada/{network}/{each}-{times}" for each in (name, "tucker2", "svd"))
                said = f"{network} at {times}: {name.upper()}-Tucker above Tucker-2 and SVD"
                yield Claim("ADA-Tucker", said, "no number", (cell, *others), above(cell, *others), 0.0, False)


def claims(rows: Sequence[Row]) -> Iterator[tuple[str, ...]]:
    """A line for each claim; of a cell that was run several times, the runs of the most epochs count."""
    for claim in every_claim():
        each = {name: longest([row for row in rows if row["cell"] == name]) for name in claim.cells}
        seeds = set.intersection(*(set(found) for found in each.values()))
        yield claim.line([{name: each[name][seed] for name in claim.cells} for seed in sorted(seeds)])


def longest(rows: Sequence[Row]) -> dict[int, Row]:
    """By seed, the runs of the most epochs."""
    most = max((row["epochs"] for row in rows), default=0)
    return {row["seed"]: row for row in rows if row["epochs"] == most}
