"""Ten thousand spoilt folders, and what reading each comes to.

    python benchmarks/fuzz.py --page

A folder of a few kB (cores, tied and transposed weights, a batch norm, code with a neighbour, a report) is copied,
spoilt in one way (`tests/mutations.py`), and read by every function that reads folders. Damage leaves the hashes in
`model.json` as they were: it is refused, or the network is the same bit for bit (a link to an equal file). What is
forged has hashes that fit, as whoever means harm would make them; such a folder is read without trust in its code, and
loads as what was signed where that is a network of this architecture. `wrong` would be another network without a word,
an error that is not one sentence, a crash, more than 20 seconds, more than 6 GiB of address space, code run, or a file
outside touched.
"""

import argparse
import resource
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from table import page, table, written

sys.path.append(str(Path(__file__).parent.parent / "tests"))

from mutations import KINDS, ground, outcome

HEAD = ("what is done", "count", "refused", "identical", "as signed", "wrong")
SPACE = 6 * 2**30  # bytes


def main() -> None:
    given = arguments()
    resource.setrlimit(resource.RLIMIT_AS, (SPACE, resource.RLIM_INFINITY))
    found: Counter[tuple[str, str]] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        place = ground(Path(folder) / "ground")
        sys.path.append(str(place.outside))  # where code lies that must not be run
        for seed in range(given.count):
            name = list(KINDS)[seed % len(KINDS)]
            result, said = outcome(place, name, seed)
            found[name, result] += 1
            if result == "wrong":
                print(f"{name}, seed {seed}: {said}", file=sys.stderr)
    text = page(f"{given.count:,} spoilt folders", __doc__, table(HEAD, rows(found)))
    print(text)
    if given.page:
        written("fuzz", text)


def rows(found: Counter[tuple[str, str]]) -> Iterator[tuple[str, ...]]:
    """A line for each kind, and one for all."""
    for name in KINDS:
        yield name, *counted([found[name, result] for result in HEAD[2:]])
    yield "all", *counted([sum(found[name, result] for name in KINDS) for result in HEAD[2:]])


def counted(numbers: list[int]) -> Iterator[str]:
    """Their sum, and each."""
    return (f"{number:,}" for number in (sum(numbers), *numbers))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--page", action="store_true", help="write docs/benchmarks/fuzz.md")
    return parser.parse_args()


if __name__ == "__main__":
    main()
