"""Error curves: what truncation loses in every unfolding of every weight, kept beside the profile."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tenfold import documents
from tenfold.fitting import energies
from tenfold.fitting.spectra import unfolded
from tenfold.formats import Format, name_of, options_of
from tenfold.network import TensorNetwork, unfolding_of
from tenfold.protocols import TenfoldError

SCHEMA = 1
TRIALS = 0.05, 0.12, 0.28, 0.6  # of the dense weight's numbers: where true fits are made
Array = NDArray[np.float64]


@dataclass
class ErrorCurves:
    """Squared relative errors by rank, found when first asked for.

    Attributes:
        weights_hash: of the network they belong to (and of the statistics, where errors are those of outputs).
        tails: weight name -> unfolding -> entry r is the share of the squared norm beyond rank r.
        fits: weight name -> format -> (rank, squared relative error) of true fits, for formats without spectra.
        candidates: what was made of them in this process, for the next budgets; not written.
    """

    weights_hash: str
    tails: dict[str, dict[str, Array]] = field(default_factory=dict)
    fits: dict[str, dict[str, list[tuple[int, float]]]] = field(default_factory=dict)
    candidates: dict[Hashable, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def count(self) -> int:
        """How many curves there are."""
        return sum(len(each) for kept in (self.tails, self.fits) for each in kept.values())

    def tail(self, name: str, weight: Callable[[], Tensor], net: TensorNetwork, bond: str) -> Array:
        """The tail of the unfolding that a bond cuts; the mean over the groups of a grouped convolution.

        `weight`: makes it, where the tail is not known.
        """
        unfolding = unfolding_of(net, bond)
        assert unfolding is not None  # callers ask trees only
        rows, columns = sorted([sorted(side) for side in unfolding])
        key = " ".join(f"{x}={net.sizes[x]}" for x in rows) + " | " + " ".join(f"{x}={net.sizes[x]}" for x in columns)
        known = self.tails.setdefault(name, {})
        if key not in known:
            known[key] = tail_shares(weight(), net, unfolding[0])
        return known[key]

    def fit(
        self,
        name: str,
        weight: Callable[[], Tensor],
        maker: Format,
        at: Callable[[int], TensorNetwork],
        generator: torch.Generator,
    ) -> list[tuple[int, float]]:
        """(rank, squared relative error) at a few ranks of a network that no spectrum rules.

        `weight`: makes it, where the fits are not known; `at`: the network with one common rank.
        """
        key = " ".join([name_of(maker), *(f"{k}={v}" for k, v in options_of(maker).items())])
        known = self.fits.setdefault(name, {})
        if key not in known:
            dense = weight()
            ranks = sorted({rank_of_params(at, share * dense.numel()) for share in TRIALS})
            known[key] = [(rank, fitted_error(dense, maker, at(rank), generator)) for rank in ranks]
        return known[key]

    def to_json(self) -> str:
        """For `curves.json` beside the profile."""
        tails = {
            name: {key: [float(f"{x:.7g}") for x in tail] for key, tail in each.items()}
            for name, each in self.tails.items()
        }
        values = {"schema": SCHEMA, "weights_hash": self.weights_hash, "tails": tails, "fits": self.fits}
        return documents.to_json(values, indent=None)

    @staticmethod
    def from_json(text: str, weights_hash: str) -> "ErrorCurves":
        """Read them back.

        Raises: TenfoldError if they are of another network or another version, or damaged.
        """
        file = documents.from_json(text, CurvesFile, "a file of error curves", SCHEMA)
        if file.weights_hash != weights_hash:
            raise TenfoldError("made for other weights; give another --profile folder.")
        tails = {name: {key: np.asarray(tail) for key, tail in each.items()} for name, each in file.tails.items()}
        return ErrorCurves(weights_hash, tails, file.fits)


@dataclass(frozen=True)
class CurvesFile:
    """`ErrorCurves` as their file has them."""

    weights_hash: str
    tails: dict[str, dict[str, list[float]]]
    fits: dict[str, dict[str, list[tuple[int, float]]]]


def tail_shares(weight: Tensor, net: TensorNetwork, rows: Sequence[str]) -> Array:
    """What is lost beyond each rank, as a share of the squared norm; groups are summed."""
    tensor, labels = net.to_modes(weight.detach().cpu().double()), list(net.modes)
    for mode in net.batched:
        tensor = tensor.movedim(labels.index(mode), 0).flatten(0, 0)
        labels.insert(0, labels.pop(labels.index(mode)))
    count = len(net.batched)
    blocks = tensor.flatten(0, count - 1) if count else tensor.unsqueeze(0)
    at = [labels.index(x) - count for x in rows]
    energy = torch.stack([energies(unfolded(block, at)) for block in blocks]).sum(0)
    shares = torch.cat([energy.flip(0).cumsum(0).flip(0), energy.new_zeros(1)]) / energy.sum().clamp_min(1e-300)
    return shares.numpy()


def rank_of_params(at: Callable[[int], TensorNetwork], params: float) -> int:
    """The common rank, 1 or more, whose network has nearest to so many parameters (which grow with it)."""
    low, high = 1, 2
    while at(high).params < params:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if at(middle).params < params else (low, middle)
    return low if params - at(low).params <= at(high).params - params else high


def fitted_error(weight: Tensor, maker: Format, net: TensorNetwork, generator: torch.Generator) -> float:
    """Squared relative error of a true fit."""
    dense = weight.detach().cpu().double()
    cores = maker.trial().decompose(dense, net, generator=generator)
    return float((net.weight(cores) - dense).square().sum() / dense.square().sum().clamp_min(1e-300))
