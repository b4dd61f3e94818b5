"""All cores of a network at once, by a quasi-Newton method."""

from collections.abc import Sequence

import torch
from torch import Tensor

from tenfold.fitting.metric import Metric
from tenfold.network import TensorNetwork

HISTORY = 20  # steps that the curvature is estimated from


def quasi_newton(
    weight: Tensor,
    net: TensorNetwork,
    cores: Sequence[Tensor],
    *,
    steps: int,
    metric: Metric | None = None,
    tolerance: float = 0.0,
) -> tuple[list[Tensor], float]:
    """Better cores from a start: L-BFGS with a strong Wolfe line search on the squared error of the weight.

    Where alternating least squares creeps (rings, block terms), all cores move together. It never ends worse than it
    started: the least error seen is kept.

    Args:
        weight: in the order of `net.axes`; worked on in float64.
        steps: iterations at most.
        metric: what an error costs; without it the Frobenius norm.
        tolerance: the share of the error at the start below which what a step saves is not worth another.
    Returns: float64 cores; their squared error as a share of the weight's own cost.
    Source: Liu and Nocedal, Mathematical Programming 45 (1989), 503-528.
    """
    wanted, measure = weight.detach().double(), metric or Metric({})
    axes = tuple(net.axes)
    total = measure.squared_error(wanted, axes)
    start = [core.detach().double() for core in cores]
    if total == 0 or steps < 1:
        return start, 0.0 if total == 0 else measure.squared_error(net.weight(start) - wanted, axes) / total
    moving = [core.clone(memory_format=torch.contiguous_format).requires_grad_() for core in start]
    begun = measure.squared_error(net.weight(start) - wanted, axes) / total
    search = torch.optim.LBFGS(
        moving, max_iter=steps, max_eval=2 * steps, history_size=HISTORY, tolerance_grad=1e-14,
        tolerance_change=max(1e-15, tolerance * begun), line_search_fn="strong_wolfe",
    )  # fmt: skip
    least, best = float("inf"), start

    def loss() -> Tensor:
        nonlocal least, best
        search.zero_grad()
        error = measure.cost(net.weight(moving) - wanted, axes) / total
        value = float(error.detach())
        if value < least:
            least, best = value, [core.detach().clone() for core in moving]
        error.backward()  # type: ignore[no-untyped-call]
        return error

    with torch.enable_grad():
        search.step(loss)  # type: ignore[no-untyped-call]
    return best, least
