"""Factors of an axis: balanced modes, padded where the size has none; channel modes in pairs."""

import math
from collections.abc import Mapping
from functools import lru_cache

from tenfold.formats.base import spatial_axes
from tenfold.network import Labels
from tenfold.protocols import TenfoldError

LISTED = 20_000  # up to this size every number within the padding is tried


@lru_cache(maxsize=4096)
def balanced_factors(size: int, count: int) -> tuple[int, ...]:
    """`count` factors as equal as can be, ascending, whose product is `size` or, where that is lopsided, a little more.

    The product may exceed the size by up to 5 % (at least 2) where this at least halves the largest factor.
    """
    exact = most_even(size, count)
    allowed = size + max(2, size // 20)
    best = rounded_up(size, count)
    if size <= LISTED or math.prod(best) > allowed:
        best = min((most_even(n, count) for n in range(size, allowed + 1)), key=lambda f: (f[-1], math.prod(f)))
    return best if 2 * best[-1] <= exact[-1] else exact


def rounded_up(size: int, count: int) -> tuple[int, ...]:
    """Factors, ascending, none above the root of the size rounded up, whose product is the size or a little more."""
    root = math.ceil(round(size ** (1 / count), 9))
    return (size,) if count == 1 else tuple(sorted((root, *rounded_up(-(-size // root), count - 1))))


def most_even(size: int, count: int) -> tuple[int, ...]:
    """The exact factorisation into `count` factors with the smallest largest one."""
    if count == 1:
        return (size,)
    found = None
    for factor in (f for f in range(1, math.isqrt(size) + 1) if size % f == 0):
        if factor**count > size:
            break
        rest = most_even(size // factor, count - 1)
        candidate = tuple(sorted((factor, *rest)))
        if found is None or (candidate[-1], -candidate[0]) < (found[-1], -found[0]):
            found = candidate
    assert found is not None  # 1 divides every size
    return found


def channel_factors(axes: Mapping[str, int], order: int | None) -> dict[str, tuple[int, ...]]:
    """Both channel axes in `order` modes, ascending and descending; by default 3, or 2 where one is below 64."""
    count = order or (3 if min(axes["i"], axes["o"]) >= 64 else 2)
    return {"i": balanced_factors(axes["i"], count), "o": balanced_factors(axes["o"], count)[::-1]}


def one_by_one(modes: Mapping[str, Labels]) -> list[Labels]:
    """Every channel mode by itself, input first, the window as one between them."""
    window = tuple(x for axis in spatial_axes(modes) for x in modes[axis])
    return [*((x,) for x in modes["i"]), *([window] if window else []), *((x,) for x in modes["o"])]


def paired(modes: Mapping[str, Labels], who: str, way_out: str = "") -> list[Labels]:
    """`(i_k, o_k)` for every k, and the window in front of them where there is one.

    Raises: TenfoldError, "`who` joins .. give both the same number `way_out`", for axes of unequal order.
    """
    window = tuple(x for axis in spatial_axes(modes) for x in modes[axis])
    if len(modes["i"]) != len(modes["o"]):
        raise TenfoldError(
            f"{who} joins the modes of 'i' and 'o' one by one; there are {len(modes['i'])} and {len(modes['o'])}; "
            f"give both the same number{way_out}."
        )
    return [*([window] if window else []), *zip(modes["i"], modes["o"], strict=True)]


# ---- semi-tensor formats: modes of two digits, the fast one on the core before (METHODS C.3)
def split_channels(axes: Mapping[str, int], order: int | None, t: int, layout: str) -> dict[str, tuple[int, ...]]:
    """The channel modes as digits (slow, fast); fast is `t`, or 1 where it does not divide or no bond can carry it."""
    factors = channel_factors(axes, order)
    has_window = bool(spatial_axes(axes))
    carried = {  # whether a bond that may be split leads to the first mode of the axis
        "i": layout == "ring",
        "o": has_window if layout == "pairs" else not has_window,
    }
    found = {}
    for axis, sizes in factors.items():
        ratios = [t if n % t == 0 and (k or carried[axis]) else 1 for k, n in enumerate(sizes)]
        found[axis] = tuple(x for n, ratio in zip(sizes, ratios, strict=True) for x in (n // ratio, ratio))
    return found if layout != "pairs" else {**found, "i": factors["i"]}


def digits(labels: Labels) -> list[tuple[str, Labels]]:
    """Labels of an axis as (slow, (fast,)) for every mode; one label alone has no fast digit.

    Raises: TenfoldError for another odd number.
    """
    if len(labels) == 1:
        return [(labels[0], ())]
    if len(labels) % 2:
        raise TenfoldError(f"modes come as two digits each, slow and fast; {len(labels)} were given; add a digit of 1.")
    return [(slow, (fast,)) for slow, fast in zip(labels[::2], labels[1::2], strict=True)]


def redealt(modes: Mapping[str, Labels], layout: str) -> list[Labels]:
    """The modes of every core of a chain: slow digits, and the fast digit of the core after (the first's: see below).

    In a ring the last core has the fast digit of the first; in an open chain the first core keeps its own.
    """
    window = tuple(x for axis in spatial_axes(modes) for x in modes[axis])
    outputs = digits(modes["o"])
    if layout == "pairs":
        slow = paired({**modes, "o": tuple(slow for slow, _ in outputs)}, "layout 'pairs'", ", or use layout 'split'")
        fast = [*([()] if window else []), *(part for _, part in outputs)]
    else:
        each = [*digits(modes["i"]), *([(window, ())] if window else []), *outputs]
        slow = [part if isinstance(part, tuple) else (part,) for part, _ in each]
        fast = [part for _, part in each]
    own, behind = (fast[0], ()) if layout != "ring" else ((), fast[0])
    parts = [(*part, *after) for part, after in zip(slow, [*fast[1:], behind], strict=True)]
    return [(*parts[0], *own), *parts[1:]]
