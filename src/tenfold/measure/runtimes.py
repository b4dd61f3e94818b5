"""Runtimes: the ways in which a network can be run here, each checked against the first, and timed side by side."""

import logging
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from tenfold.inputs import Inputs, arguments, device_of, evaluating, inputs_for, run, tensors_in
from tenfold.measure.outputs import relative_error
from tenfold.measure.timing import Timing, paired
from tenfold.protocols import TenfoldError, near_misses
from tenfold.surgery.plan import COMPILE, CUDA_GRAPH, EAGER, ONNXRUNTIME

if TYPE_CHECKING:
    from onnx import ModelProto

Forward = Callable[[], Any]
EXPORTERS = "torch.onnx", "onnxscript", "onnx_ir"  # names of their logs
SAME = 1e-5  # relative error of outputs: another order of sums, and no other network
ROUNDED = 8.0  # the same in steps of a coarser type, in which every layer rounds anew
TF32 = 2.0**-10  # the step of float32 products on a GPU that may round their factors


def eager(model: nn.Module, inputs: Inputs) -> Forward:
    """As it stands."""
    return lambda: run(model, inputs.value)


def compile(model: nn.Module, inputs: Inputs) -> Forward:
    """By torch.compile, its weights frozen."""
    frozen = compiled(model)
    return lambda: run(frozen, inputs.value)


def compiled(model: nn.Module) -> nn.Module:
    """A network that is compiled at its first call, its weights frozen into the code."""
    return cast(nn.Module, torch.compile(model, options={"freezing": True}))


def onnxruntime(model: nn.Module, inputs: Inputs) -> Forward:
    """As an ONNX file, by onnxruntime on as many threads as torch has."""
    if find_spec("onnxruntime") is None:  # before the exporter takes its seconds
        raise TenfoldError("onnxruntime is not installed; pip install 'tenfold[export]'.")
    return in_session(exported(model, inputs.value), inputs.value)


def cuda_graph(model: nn.Module, inputs: Inputs) -> Forward:
    """Recorded once and replayed as a CUDA graph: where kernels are short, launching them one by one takes longer."""
    return recorded(lambda: run(model, inputs.value))


def recorded(forward: Forward) -> Forward:
    """The kernels that a call launches, as one CUDA graph; its result is the same tensors at every replay."""
    aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):  # libraries allocate at their first calls, which no graph can
        for _ in range(3):
            forward()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = forward()

    def replay() -> Any:
        graph.replay()
        return result

    return replay


def exported(model: nn.Module, given: Any) -> "ModelProto":
    """A network on these inputs as ONNX."""
    args, kwargs = arguments(given)
    return by_exporter(model, args, kwargs=kwargs)


def by_exporter(*given: Any, **options: Any) -> "ModelProto":
    """What torch's exporter makes of a network or a program."""
    with quiet_exporter():
        program = torch.onnx.export(*given, **options, dynamo=True, verbose=False)
    if program is None:
        raise TenfoldError("torch gives no ONNX program for it.")
    return program.model_proto


@contextmanager
def quiet_exporter() -> Iterator[None]:
    """Without what exporters say of their own code: no warnings, and of their logs only errors."""
    logs = [logging.getLogger(name) for name in EXPORTERS]
    levels = [log.level for log in logs]
    try:
        for log in logs:
            log.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            # what they deprecate is theirs to change; warnings of a network's own code are shown
            warnings.filterwarnings("ignore", module=r"(torch|onnx|onnxscript|onnx_ir|copyreg)\b")
            yield
    finally:
        for log, level in zip(logs, levels, strict=True):
            log.setLevel(level)


def in_session(graph: "ModelProto", given: Any) -> Forward:
    """An ONNX graph on these inputs."""
    from tenfold.runners.onnx import opened

    forward = opened(graph.SerializeToString(), torch.get_num_threads())
    arrays = [x.contiguous().numpy() for x in tensors_in(given)]
    return lambda: [torch.from_numpy(each) for each in forward(arrays)]


RUNTIMES: dict[str, Callable[[nn.Module, Inputs], Forward]] = {
    EAGER: eager, COMPILE: compile, ONNXRUNTIME: onnxruntime, CUDA_GRAPH: cuda_graph,
}  # fmt: skip
ONLY = {ONNXRUNTIME: "cpu", CUDA_GRAPH: "cuda"}  # where a runtime runs, if not everywhere
BLOCKS = {ONNXRUNTIME: 4}  # it lays maps out by itself, in blocks, where channels are a multiple of this


def check_runtime(name: str) -> None:
    """Raise a TenfoldError for a runtime that there is not."""
    if name not in RUNTIMES:
        raise TenfoldError(f"no runtime is called '{name}'{near_misses(name, RUNTIMES)}")


def runtimes_on(device: str) -> list[str]:
    """The runtimes that there are for a kind of device: `cpu`, `cuda`."""
    return [name for name in RUNTIMES if ONLY.get(name, device) == device]


def prepared(runtime: str, model: nn.Module, inputs: Inputs) -> Forward:
    """A forward of a network in a runtime, which gives what the network gives.

    Raises: TenfoldError, one sentence, where the runtime is not installed, cannot take it, or gives something else.
    """
    device = kind_of_device(model)
    if runtime not in runtimes_on(device):
        raise TenfoldError(f"{runtime} does not run on {device} here; use --device {ONLY[runtime]}.")
    try:
        forward = RUNTIMES[runtime](model, inputs)
        found = forward()
    except TenfoldError:
        raise
    except Exception as error:  # compilers and exporters raise anything: said in one sentence, its cause kept
        raise TenfoldError(f"{runtime} cannot run it: {type(error).__name__}: {first_line(error)}.") from error
    if runtime != EAGER:
        wanted, given = list(tensors_in(run(model, inputs.value))), list(tensors_in(found))
        if [each.shape for each in wanted] != [each.shape for each in given]:
            raise TenfoldError(f"{runtime} gives outputs of other shapes.")
        for own, other in zip(wanted, given, strict=True):
            if not (apart := relative_error(own, other)) <= rounding(own):
                raise TenfoldError(f"{runtime} gives other outputs: relative error {apart:.2g}.")
    return forward


def kind_of_device(model: nn.Module) -> str:
    """`cpu` or `cuda`."""
    return (device_of(model) or torch.device("cpu")).type


def rounding(output: Tensor) -> float:
    """The relative error that another order of sums may have."""
    if not output.is_floating_point():
        return SAME
    coarse = output.device.type == "cuda" and torch.backends.cudnn.allow_tf32
    step = max(torch.finfo(output.dtype).eps, TF32 if coarse else 0.0)
    return ROUNDED * step if step >= TF32 else SAME


def first_line(error: Exception) -> str:
    """What an exception says first."""
    return (str(error).strip().splitlines() or [""])[0][:200].rstrip(".")


def runtime_timings(
    networks: Mapping[str, nn.Module], inputs: Any, runtimes: Iterable[str] | None = None, *, repeats: int = 20
) -> tuple[dict[tuple[str, str], Timing], dict[tuple[str, str], str]]:
    """Every network in every runtime, all timed in turn in one run.

    Args:
        networks: in the form in which they run (lowered).
        runtimes: None for all that there are for the device that a network lies on.
    Returns: by (network, runtime): times; or why there are none.
    Raises: TenfoldError if a network cannot even run as it stands.
    """
    forwards: dict[tuple[str, str], Forward] = {}
    refused: dict[tuple[str, str], str] = {}
    for name, model in networks.items():
        with evaluating(model):
            given = inputs_for(model, inputs)
            for runtime in runtimes_on(kind_of_device(model)) if runtimes is None else runtimes:
                try:
                    forwards[name, runtime] = prepared(runtime, model, given)
                except TenfoldError as error:
                    if runtime == EAGER:
                        raise
                    refused[name, runtime] = str(error)
    with torch.no_grad():
        times = paired({" ".join(key): forward for key, forward in forwards.items()}, repeats=repeats)
    return {key: times[" ".join(key)] for key in forwards}, refused
