"""Layers chosen by exact name, glob or `re:` pattern."""

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase

from tenfold.protocols import TenfoldError, near_misses


def matching(pattern: str, names: Iterable[str]) -> list[str]:
    """The names that a pattern means: the exact name, a glob (`layer1.*`), or `re:` and a regular expression.

    Raises: TenfoldError if there are none, with near misses, or for an expression that does not compile.
    """
    known = list(names)
    if pattern in known:
        return [pattern]
    if pattern.startswith("re:"):
        try:
            expression = re.compile(pattern[3:])
        except re.error as error:
            raise TenfoldError(f"'{pattern}' is no regular expression: {error}.") from error
        found = [name for name in known if expression.fullmatch(name)]
    else:
        found = [name for name in known if fnmatchcase(name, pattern)]
    if not found and any(name.startswith(f"{pattern}.") for name in known):
        raise TenfoldError(f"'{pattern}' has several weights; write '{pattern}.*' for all of them.")
    if not found:
        raise TenfoldError(f"no layer matches '{pattern}'{near_misses(pattern.removeprefix('re:'), known)}")
    return found
