"""What can make good a shift of the mean of a layer's outputs."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tenfold.inputs import Inputs, run_hooked
from tenfold.surgery import Site, sites
from tenfold.surgery.sites import full


def shiftable(model: nn.Module, inputs: Inputs) -> dict[str, str]:
    """By weight what can make good a shift of its outputs: the bias of its layer, or the running mean after it.

    Args:
        model: the dense network.
        inputs: a few samples, by which is seen which batch norm follows.
    """
    norms = following_norms(model, inputs)
    found = {}
    for name, site in sites(model).items():
        if len(site.places) > 1 or site.places[0].weight != "weight" or spread(site):
            continue
        module = site.places[0].module
        if isinstance(getattr(model.get_submodule(module), "bias", None), nn.Parameter):
            found[name] = full(module, "bias")
        elif module in norms:
            found[name] = full(norms[module], "running_mean")
    return found


def spread(site: Site) -> bool:
    """Whether a weight writes windows, so that the mean of its outputs depends on the place."""
    return set(site.axes) - {"g", "o"} != set(site.kind.input_axes(site.axes))


def following_norms(model: nn.Module, inputs: Inputs) -> dict[str, str]:
    """The batch norm that takes the output of each module as it is, by the module's name."""
    made: dict[int, tuple[str, Any]] = {}
    found: dict[str, str] = {}

    def after(name: str, module: nn.Module, args: Sequence[Any], result: Any) -> None:
        given = args[0] if args else None
        if isinstance(module, _BatchNorm) and module.running_mean is not None and id(given) in made:
            found[made[id(given)][0]] = name
        if isinstance(result, Tensor):
            made[id(result)] = name, result  # (kept, so that no other tensor takes its place in memory)

    hooks = [
        module.register_forward_hook(lambda m, args, y, name=name: after(name, m, args, y))
        for name, module in model.named_modules()
        if not any(True for _ in module.children())
    ]
    run_hooked(model, inputs.value, hooks)
    return found
