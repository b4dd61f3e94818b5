"""Work on many layers: side by side in threads, or one after the other, and how far it is."""

from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

from tenfold.protocols import Done, Watch

Result = TypeVar("Result")


def by_layer(
    title: str, work: Callable[[str], Result], sizes: Mapping[str, int], watch: Watch, *, alone: bool = False
) -> dict[str, Result]:
    """What `work` makes of every name, in the order of `sizes`.

    Args:
        title: what is done, `decompose`.
        sizes: by name what the work grows with, such as the numbers of a weight.
        watch: is handed the iterator of layers that are done, and hands it on.
        alone: one after the other, with all threads each: for work that is timed.
    Raises: what `work` raises, of the first name where it does.
    """
    found: dict[str, Result] = {}

    def working() -> Iterator[Done]:
        done, whole = 0, sum(sizes.values())
        yield Done(title, "", done, whole)
        each = map(work, sizes) if alone else side_by_side(work, sizes)
        for at, (name, size) in enumerate(sizes.items(), start=1):
            found[name] = next(each)
            done += size
            yield Done(f"{title} {name}", f"{at} of {len(sizes)}", done, whole)

    for _ in watch(working()):
        pass
    return found


def side_by_side(work: Callable[[str], Result], names: Collection[str]) -> Iterator[Result]:
    """What `work` makes of names, in their order, as many at once as torch has threads, which they share.

    torch and LAPACK let go of the interpreter while they compute. How many threads torch uses is a setting of each
    thread, and of those that are started later; the caller's own stays as it is.
    """
    threads = torch.get_num_threads()
    workers = min(threads, len(names))
    if workers < 2:
        yield from map(work, names)
        return
    try:
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(threads // workers,)) as pool:
            yield from pool.map(work, names)
    finally:
        torch.set_num_threads(threads)  # of threads that are started later
