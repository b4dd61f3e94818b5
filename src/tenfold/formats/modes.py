"""Factors of an axis: balanced modes, padded where the size has none."""

import math
from functools import lru_cache


@lru_cache(maxsize=4096)
def balanced_factors(size: int, count: int) -> tuple[int, ...]:
    """`count` factors as equal as can be, ascending, whose product is `size` or, where that is lopsided, a little more.

    The product may exceed the size by up to 5 % (at least 2) where this at least halves the largest factor.
    """
    exact = most_even(size, count)
    allowed = size + max(2, size // 20)
    best = min((most_even(n, count) for n in range(size, allowed + 1)), key=lambda f: (f[-1], math.prod(f)))
    return best if 2 * best[-1] <= exact[-1] else exact


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
