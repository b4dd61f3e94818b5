"""A plan under budgets, or by a rule."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypedDict, get_args

from torch import nn

from tenfold.arguments import typed
from tenfold.fitting import Metric
from tenfold.measure import Clock, Profile
from tenfold.measure.runtimes import check_runtime
from tenfold.planning.asked import AUTO, formats_asked, ranks_asked, schemes_asked
from tenfold.planning.choices import Choice
from tenfold.planning.curves import ErrorCurves
from tenfold.planning.promised import promised
from tenfold.planning.search import Allocation, Search
from tenfold.planning.timed import with_fastest_stages
from tenfold.protocols import TenfoldError, Watch
from tenfold.surgery import Plan, check_finite, unwrapped
from tenfold.surgery.stored import check_dtype

Wanted = str | float | None
MAX_ERROR = 0.9  # of one weight, unless another is asked for: summed squares cap at 1, so that one would be given up


class Asked(TypedDict, total=False):
    """The options of `plan`, for verbs that hand them on."""

    params: Wanted
    macs: Wanted
    bytes: Wanted
    deployed_params: Wanted
    of: Sequence[str]
    energy: float | None
    ranks: str | int | Sequence[int] | None
    format: str
    include: Sequence[str]
    exclude: Sequence[str]
    layers: Mapping[str, str] | None
    max_error: float | None
    multiple: int
    allocation: Allocation
    bits: str | int | None
    time: Wanted
    allow_slower: bool
    runtime: str | None
    dtype: str | None


@typed
def plan(
    model: nn.Module,
    profile: Profile,
    *,
    params: Wanted = None,
    macs: Wanted = None,
    bytes: Wanted = None,
    deployed_params: Wanted = None,
    time: Wanted = None,
    of: Sequence[str] = (),
    energy: float | None = None,
    ranks: str | int | Sequence[int] | None = None,
    format: str = AUTO,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    layers: Mapping[str, str] | None = None,
    max_error: float | None = None,
    multiple: int = 1,
    allocation: Allocation = "global",
    bits: str | int | None = None,
    allow_slower: bool = False,
    runtime: str | None = None,
    dtype: str | None = None,
    seed: int = 0,
    curves: ErrorCurves | None = None,
    clock: Clock | None = None,
    inputs: Any = None,
    metrics: Mapping[str, Metric] | None = None,
    quiet: bool = False,
    watch: Watch = iter,
) -> Plan:
    """What becomes of every weight of a dense network.

    Args:
        profile: what `inspect` measured on it.
        params, macs, bytes, deployed_params, time: budgets on the whole network, alone or together: `"4x"`, `"25%"`, or
            a ratio; `deployed_params` are those of the form that runs; `time` is that of the clock.
        of: the part of the network that is planned and that budgets count: the modules of these names or patterns and
            all that is in them. The rest stays dense; without it, all is planned.
        energy: instead of budgets: for every bond the smallest rank above this share of the squared norm, 0 to 1; of
            the settings that the first format leaves open the one with the fewest parameters.
        ranks: instead of budgets: `8` for every bond, or one for each; of these settings the one that errs least
            among those that are smaller and no slower than the dense weight.
        format: a format, several, `conv=ht2,linear=svd`, or `auto`.
        include, exclude: layers by exact name, glob or `re:` pattern; without `include` all.
        layers: single layers by pattern: `dense`, a format, or a format at ranks (`svd:16`).
        max_error: the largest relative error (Frobenius norm) that a budget may cost one weight, up to 1, where weights
            may be given up; by default 0.9. Where no spectrum gives the error, its estimate counts.
        multiple: every rank is a multiple of this where its bound allows.
        allocation: `global`; `clipped`: the same, but no weight gets less than half or more than 1.6 times what it
            would get if all got alike; or `uniform` (one share of the full ranks everywhere).
        bits: of every number in the weights that are planned, 16, 8, 6, 4, 3 or 2: in cores, and where a weight stays
            whole, too; `auto`: under budgets, whatever serves each weight best. Without budgets and rules every weight
            stays whole, in these bits. Biases and norms keep their numbers.
        allow_slower: whether `auto` may take what the clock finds slower than the dense weight. Else it does only where
            the budgets cannot be met otherwise.
        runtime: of the clock, for verbs that make it: `eager` (their default), `compile`, `onnxruntime` or
            `cuda-graph`.
        dtype: in which all floating numbers are stored, `bf16` or `fp16`, two bytes each, which `bytes` counts; by
            default their own.
        curves: error curves found before; what is missing is added to them.
        clock: times of stages on this machine; what is missing is added to it. Stages are then chosen by it, too.
        inputs: a batch; every weight's stages are then the fastest for it on this machine (within the multiply-adds
            planned, where these are a budget). Without it they are those of the fewest multiply-adds.
        metrics: by weight, what an error of it costs (`tenfold.statistics`): errors are then those of the outputs, and
            those of different weights compare. A weight without one is taken to cost what the others do on average.
        quiet: whether it is left unsaid that the whole network comes out slower than was asked for.
        watch: is handed iterators of layers that are done, one after the other, and hands them on, to draw a bar.
    Raises: TenfoldError, one sentence: budgets out of reach, names that match nothing, formats that suit no layer.
    Source of the allocation: Everett, Operations Research 11 (1963), 399-417 (one multiplier for each budget).
    """
    model = unwrapped(model)
    check_finite(model)
    budgets = {"params": params, "macs": macs, "bytes": bytes, "deployed_params": deployed_params, "time": time}
    asked = {name: value for name, value in budgets.items() if value is not None}
    rules = [name for name, value in (("energy", energy), ("ranks", ranks)) if value is not None]
    schemes = schemes_asked(bits)
    check_asked(list(asked), rules, energy, multiple, allocation, max_error, bits)
    check_clock(clock, runtime, profile)
    if dtype is not None:
        check_dtype(dtype)
    search = Search(model, profile, of, include, exclude, layers or {}, formats_asked(format), curves, seed,
                    lean=deployed_params is not None, metrics=metrics or {}, schemes=schemes, clock=clock,
                    allow_slower=allow_slower or format != AUTO, dtype=dtype, watch=watch)  # fmt: skip
    if rules:
        found = search.plan(search.by_rule(energy, None if ranks is None else ranks_asked(ranks), multiple))
    elif not asked:
        found = search.plan(search.all_alone())
    else:
        most = MAX_ERROR if max_error is None else max_error
        if clock is not None and multiple == 1:
            multiple = clock.least_multiple if time is None else search.liked_multiple

        def under(budgets: Mapping[str, str | float]) -> dict[str, Choice]:
            return search.under_budgets(budgets, multiple, allocation, most)

        def at(ratio: float) -> Plan:
            near = time is None and ratio <= 1
            return search.plan(search.fastest_near(asked, under) if near else under({**asked, "time": ratio}))

        fast = time is not None or search.slow_price > 0
        if fast and clock is not None and inputs is not None:
            found = promised(model, clock, inputs, 1.0 if time is None else time, at, quiet=quiet)
        else:
            found = at(1.0) if search.slow_price and time is None else search.plan(under(asked))
    if clock is not None:
        return replace(found, batch=clock.batch, layout=clock.layout, runtime=clock.runtime)
    return found if inputs is None else with_fastest_stages(model, found, profile, inputs, budgets=asked, watch=watch)


def check_asked(
    budgets: Sequence[str],
    rules: Sequence[str],
    energy: float | None,
    multiple: int,
    allocation: str,
    max_error: float | None,
    bits: str | int | None = None,
) -> None:
    """Refuse what contradicts itself, before any work."""
    schemes = schemes_asked(bits)
    if not budgets and not rules and not any(schemes):
        raise TenfoldError(
            "nothing was asked for; give a budget (--params 4x, --macs 4x, --bytes 25%), --energy 0.8, --ranks 8, or "
            "--bits 4."
        )
    if len(schemes) > 1 and "bytes" not in budgets:
        raise TenfoldError("--bits auto spends a budget of bytes; give --bytes 20x, too, or bits such as --bits 4.")
    if len(rules) > 1 or (budgets and rules):
        given = ", ".join(f"--{name}" for name in [*budgets, *rules])
        raise TenfoldError(f"{given} exclude each other: give budgets, or one rule.")
    if energy is not None and not 0 < energy < 1:
        raise TenfoldError(f"energy {energy} is no share between 0 and 1.")
    if multiple < 1:
        raise TenfoldError(f"multiple {multiple} is below 1.")
    if allocation not in get_args(Allocation):
        raise TenfoldError(f"allocation '{allocation}' is none of {', '.join(map(repr, get_args(Allocation)))}.")
    if max_error is not None and not 0 < max_error <= 1:
        raise TenfoldError(
            f"max_error {max_error} is no relative error above 0 and up to 1, where weights are given up."
        )
    if max_error is not None and (rules or allocation == "uniform"):
        other = f"--{rules[0]}" if rules else "--allocation uniform"
        raise TenfoldError(f"--max-error limits what budgets choose, and {other} chooses by ranks alone; give one.")


def check_clock(clock: Clock | None, runtime: str | None, profile: Profile) -> None:
    """Refuse a clock of another network, and a runtime in which nothing is timed."""
    if clock is not None and clock.weights_hash != profile.weights_hash:
        raise TenfoldError("the clock is of other weights than the profile; make it with Clock.of(model, inputs).")
    if runtime is None:
        return
    check_runtime(runtime)
    if clock is None:
        raise TenfoldError(
            f"nothing is timed in {runtime}: that needs inputs (--input 3x32x32) or data, the whole network, and a "
            "budget that --format auto meets, or --time."
        )
    if clock.runtime != runtime:
        raise TenfoldError(f"the clock is of {clock.runtime}; make it with Clock.of(model, inputs, '{runtime}').")
