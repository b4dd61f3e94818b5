"""How often the modules of a network are called: what is compressed is what must run."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from tenfold.inputs import evaluating, inputs_for, run
from tenfold.layers import kind_of
from tenfold.measure.forward import hooked
from tenfold.protocols import TenfoldError
from tenfold.surgery.sites import reachable


def calls(model: nn.Module, inputs: Any) -> Counter[str]:
    """How often every module that a kind of layer takes, or that is one, is called in one forward, by name.

    Raises: TenfoldError for a network whose forward exchanges parameters: cores in their place would be thrown out.
    """
    names = {module: name for name, module in reachable(model) if kind_of(module) is not None}
    found: Counter[str] = Counter()

    def before(module: nn.Module) -> None:
        found[names[module]] += 1

    def after(module: nn.Module, given: list[Tensor], result: Tensor) -> None:
        pass

    given = inputs_for(model, inputs)
    parameters = [(module, key, part) for module in names for key, part in module._parameters.items()]
    with evaluating(model):
        with hooked(names, before, after):
            run(model, given.value)
        for module, key, part in parameters:
            if module._parameters.get(key) is not part and "forward" not in vars(module):  # (one that moves weights)
                raise TenfoldError(
                    f"layer '{names[module]}': the network's forward puts another parameter in the place of its "
                    f"'{key}'; let it do so once, when the network is made."
                )
    return found


def check_calls(small: nn.Module, before: Mapping[str, int], inputs: Any) -> None:
    """Check that a compressed network calls every layer as often as the dense one did on the same inputs.

    Args: before: the calls of the dense network, as it was given.
    Raises: TenfoldError that names a layer which is called less: something runs the dense one in its place.
    """
    after = calls(small, inputs)
    for name, count in before.items():
        if after[name] < count:
            raise TenfoldError(
                f"layer '{name}': calls in one forward fell from {count} to {after[name]} when it was replaced, so "
                f"something outside the network's modules still runs the dense one, or the forward picks modules by "
                f"their type; leave it dense (--exclude '{name}')."
            )
