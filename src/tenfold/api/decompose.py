"""A plan carried out on trained weights."""

from torch import nn

from tenfold import surgery
from tenfold.arguments import typed
from tenfold.protocols import Watch
from tenfold.statistics import Statistics, shift_means
from tenfold.surgery import Plan, stored, unwrapped


@typed
def decompose(
    model: nn.Module,
    plan: Plan,
    *,
    statistics: Statistics | None = None,
    seed: int = 0,
    quiet: bool = False,
    watch: Watch = iter,
) -> nn.Module:
    """A copy of a dense network in which every planned weight is a tensor network.

    Tied weights stay tied. A layer's random numbers depend on the seed and its name only.

    Args:
        statistics: of this network (`tenfold.calibrate`): weights are then fitted so that outputs err least, and biases
            and batch norms make good what is lost of the mean.
        quiet: whether concerns about the cores are left unsaid.
        watch: is handed the iterator of layers that are fitted and hands it on, to draw a bar.
    Raises: TenfoldError that names the layer: unknown to the network, or not fitting its plan; or a tensor that is not
        finite.
    """
    if statistics is None:
        return surgery.decompose(model, plan, seed=seed, quiet=quiet, watch=watch)
    small = surgery.decompose(model, plan, statistics.metrics, seed=seed, quiet=quiet, watch=watch)
    shift_means(unwrapped(model), small, statistics)
    return stored(small, plan.dtype)
