"""How a core's numbers lie in few bits: numbers and a scheme in, codes and scales out, and back.

A new scheme is a file here and a line in `SCHEMES`.
"""

from tenfold.protocols import TenfoldError, near_misses
from tenfold.quantization.codebook import Codebook
from tenfold.quantization.packing import pack, unpack
from tenfold.quantization.rounding import Coded, rounded
from tenfold.quantization.scheme import CORE, ROW, Bits, Per, Scheme
from tenfold.quantization.uniform import Uniform

SCHEMES: dict[str, type[Scheme]] = {"uniform": Uniform, "codebook": Codebook}


def scheme_named(name: str, bits: int, per: Per = CORE) -> Scheme:
    """A scheme by the name of its levels.

    Raises: TenfoldError for a name that is none, or for bits or scales that it does not have.
    """
    if name not in SCHEMES:
        raise TenfoldError(f"no levels are called '{name}'{near_misses(name, SCHEMES)}")
    return SCHEMES[name](bits, per)


def levels_of(scheme: Scheme) -> str:
    """The name of a scheme's levels."""
    return next(name for name, kind in SCHEMES.items() if type(scheme) is kind)


__all__ = [
    "CORE", "ROW", "SCHEMES", "Bits", "Codebook", "Coded", "Per", "Scheme", "Uniform", "levels_of", "pack", "rounded",
    "scheme_named", "unpack",
]  # fmt: skip
