"""A network captured as one graph of torch's operators, for any number of samples."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from tenfold.inputs import ENTRIES, Inputs, arguments, between, evaluating, run, tensors_in
from tenfold.inputs.containers import held, mapped
from tenfold.inputs.inputs import is_part
from tenfold.measure.outputs import named_tensors
from tenfold.measure.runtimes import first_line, quiet_exporter
from tenfold.protocols import TenfoldError

TRACES = "stack_trace", "nn_module_stack", "source_fn_stack", "from_node", "torch_fn"  # where code lay, for debugging


@dataclass(frozen=True, eq=False)
class Captured:
    """A network as one graph, and what it is tried on.

    Attributes:
        outputs: the names of what it gives, in order.
        trials: batches with what the network answers: of one sample and of three, or the only batch that it takes.
    """

    program: ExportedProgram
    outputs: tuple[str, ...]
    trials: tuple[tuple[Inputs, tuple[Tensor, ...]], ...]

    @property
    def takes_any(self) -> bool:
        """Whether it takes any number of samples."""
        return len(self.trials) > 1


def captured(model: nn.Module, inputs: Inputs) -> Captured:
    """A network, on the CPU and in the form in which it runs, as one graph.

    The graph is captured with two samples and tried with one and with three, as `inputs_for` found the batch. What it
    gives comes in plain containers: dicts, lists and tuples.

    Raises: TenfoldError, one sentence, if the network cannot run on the inputs, or cannot be captured.
    """
    takes_any = inputs.is_cut and ENTRIES not in inputs.dims
    one = inputs.samples(1)
    batches = [one, between(one)] if takes_any else [inputs]
    with evaluating(model), plain_outputs(model):
        answers = [run(model, batch.value) for batch in batches]
        program = traced(model, batches[-1].samples(2), takes_any)
    named = tuple(name for name, _ in named_tensors(answers[0]))
    if not named:
        raise TenfoldError(f"{type(model).__name__} gives no tensors, so that there is nothing to export.")
    found = zip(batches, (tuple(tensors_in(each)) for each in answers), strict=True)
    return Captured(program, named, tuple(found))


def traced(model: nn.Module, inputs: Inputs, takes_any: bool) -> ExportedProgram:
    """The program, without what it was traced on and where the code lay."""
    args, kwargs = arguments(inputs.value)
    try:
        with quiet_exporter():
            dims = counted(model, inputs) if takes_any else None
            program = torch.export.export(model, args, kwargs, dynamic_shapes=dims, strict=False)
    except (
        Exception
    ) as error:  # torch.export and the forward that it traces raise anything: one sentence, its cause kept
        way = "; with --batch-dim none it is exported for the inputs as they are" if takes_any else ""
        raise TenfoldError(
            f"{type(model).__name__} cannot be captured by torch.export{' for any number of samples' if way else ''}: "
            f"{type(error).__name__}: {first_line(error)}{way}."
        ) from error
    program.example_inputs = None
    for graph in (
        module.graph for module in program.graph_module.modules() if isinstance(module, torch.fx.GraphModule)
    ):
        for node in graph.nodes:
            for trace in TRACES:
                node.meta.pop(trace, None)
    return program


def counted(model: nn.Module, inputs: Inputs) -> dict[str, Any]:
    """By argument of the forward: for every tensor, the dimension that counts samples."""
    batch = Dim("batch")
    dims = iter(inputs.dims)

    def dynamic(leaf: Any) -> Any:
        if not is_part(leaf) or (dim := next(dims)) is None:
            return None
        return {dim: batch} if isinstance(leaf, Tensor) else [{dim: batch} for _ in leaf]

    args, kwargs = mapped(dynamic, arguments(inputs.value), is_part)
    return signature(model.forward).bind(*args, **kwargs).arguments


@contextmanager
def plain_outputs(model: nn.Module) -> Iterator[None]:
    """What the network gives comes in dicts, lists and tuples, which any reader knows."""
    hook = model.register_forward_hook(lambda module, args, output: plain(output))
    try:
        yield
    finally:
        hook.remove()


def plain(value: Any) -> Any:
    """Containers of any kind as dicts, lists and tuples."""
    parts = held(value)
    if parts is None:
        return value
    found = {key: plain(part) for key, part in parts.items()}
    if isinstance(value, tuple | list) and not hasattr(value, "_fields"):
        return (list if isinstance(value, list) else tuple)(found.values())
    return found
