"""Formats by name. A new one is a file here and a line in `BUILT_IN`; third parties use the entry point
group `tenfold.formats`."""

from functools import cache
from importlib.metadata import entry_points

from tenfold.documents import expected, fits, hints
from tenfold.formats.ada_tucker import ADATucker
from tenfold.formats.base import Format, options_of
from tenfold.formats.btd import BTD
from tenfold.formats.cp import CP
from tenfold.formats.ht import HT
from tenfold.formats.ht2 import HT2
from tenfold.formats.modes import balanced_factors
from tenfold.formats.scada_tucker import SCADATucker
from tenfold.formats.semi_tensor_ring import STR  # a module called str would hide the builtin
from tenfold.formats.stt import STT
from tenfold.formats.sttu import STTu
from tenfold.formats.svd import SVD
from tenfold.formats.tr import TR
from tenfold.formats.tt import TT
from tenfold.formats.tucker import Tucker
from tenfold.formats.tucker2 import Tucker2
from tenfold.formats.whole import DENSE, Whole
from tenfold.protocols import TenfoldError, near_misses

BUILT_IN: dict[str, type[Format]] = {
    "svd": SVD,
    "tucker": Tucker,
    "tucker2": Tucker2,
    "ada-tucker": ADATucker,
    "scada-tucker": SCADATucker,
    "cp": CP,
    "btd": BTD,
    "tt": TT,
    "tr": TR,
    "ht": HT,
    "ht2": HT2,
    "sttu": STTu,
    "stt": STT,
    "str": STR,
}


@cache
def available() -> dict[str, type[Format]]:
    """Every format by name, those of installed packages included."""
    return BUILT_IN | {entry.name: entry.load() for entry in entry_points(group="tenfold.formats")}


def format_named(name: str, **options: object) -> Format:
    """The format of this name with these options.

    Raises: TenfoldError for an unknown name, option or value.
    """
    known = available()
    if name.lower() not in known:
        raise TenfoldError(f"no format is called '{name}'{near_misses(name, known)}")
    kind = known[name.lower()]
    allowed = kind.option_names()
    for option, value in options.items():
        if option not in allowed:
            raise TenfoldError(f"format '{name}' has no option '{option}'{near_misses(option, allowed)}")
        takes = hints(kind)[option]
        if not fits(value, takes):
            raise TenfoldError(f"option '{option}' of format '{name}' takes {expected(takes)}, not {value!r}.")
    return kind(**options)


def name_of(given: Format) -> str:
    """The name under which a format is registered; `dense` for the whole weight."""
    return next(name for name, kind in {DENSE: Whole, **available()}.items() if type(given) is kind)


__all__ = [
    "BTD", "BUILT_IN", "CP", "DENSE", "HT", "HT2", "STR", "STT", "SVD", "TR", "TT", "ADATucker", "Format",
    "SCADATucker", "STTu", "Tucker", "Tucker2", "Whole", "available", "balanced_factors", "format_named", "name_of",
    "options_of",
]  # fmt: skip
