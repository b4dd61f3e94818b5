"""What a person asks for in words: formats for kinds of layers, and single layers by pattern."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from tenfold.formats import DENSE, HT, TT, Format, Whole, available, format_named
from tenfold.formats.base import Suits, is_pointwise
from tenfold.layers import available as kinds_of_layer
from tenfold.protocols import TenfoldError, near_misses, within
from tenfold.quantization import Scheme, scheme_named
from tenfold.surgery import matching
from tenfold.surgery.plan import UNIFORM

AUTO, HYBRID = "auto", "hybrid"
TRIED_BITS = 8, 6, 4, 3, 2  # by `auto`
ITEM = re.compile(r"(?:(?P<kind>[\w.]+)=)?(?P<name>[\w-]+)(?:\((?P<options>.*)\))?$")


class Hybrid:
    """HT on matrices, TT with paired modes on kernels (Wu et al., Neural Networks 132, 2020, 309-320)."""

    def suit(self, axes: Mapping[str, int], *, first: bool = False) -> Format | str:
        """The format that a weight takes."""
        wanted: Format = HT() if is_pointwise(axes) else TT(layout="pairs")
        return wanted.suit(axes, first=first)


def formats_asked(text: str) -> dict[str, list[Suits]]:
    """Formats to choose from, by kind of layer.

    `ht2`; `svd,tucker2,tt`; `conv=ht2,linear=svd` (a kind that is not named stays dense); `auto` is every format
    that is quick to try; `hybrid` is `ht` on matrices and `tt` on kernels; options stand in brackets:
    `tt(layout=split,order=2)`.

    Raises: TenfoldError for a name, kind or option that is not known.
    """
    kinds = kinds_of_layer()
    found: dict[str, list[Suits]] = {}
    with within(f"format '{text}'"):
        for item in split_outside_brackets(text):
            match = ITEM.match(item.strip())
            if match is None:
                raise TenfoldError(f"'{item}' is neither a format nor KIND=FORMAT; write ht2 or conv=ht2,linear=svd.")
            kind = match["kind"]
            if kind is not None and kind not in kinds:
                raise TenfoldError(f"no kind of layer is called '{kind}'{near_misses(kind, kinds)}")
            for name in kinds if kind is None else [kind]:
                found.setdefault(name, []).extend(named(match["name"], match["options"]))
        if not found:
            raise TenfoldError("no format is named; write ht2, or conv=ht2,linear=svd, or auto.")
    return found


def split_outside_brackets(text: str) -> list[str]:
    """Items between commas."""
    return [item for item in re.split(r",(?![^(]*\))", text) if item.strip()]


def named(name: str, options: str | None) -> list[Suits]:
    """One format, all that are quick to try for `auto`, the two of `hybrid`, or `dense`, of which bits are all."""
    if name.lower() == DENSE and options is None:
        return [Whole()]
    if name.lower() == AUTO:
        return [format_named(known) for known, kind in available().items() if kind.in_auto]
    if name.lower() == HYBRID and options is None:
        return [Hybrid()]
    return [format_named(name, **options_from(options or ""))]


def options_from(text: str) -> dict[str, Any]:
    """`layout=split,order=2` as values."""
    found = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        key, equals, value = part.partition("=")
        if not equals:
            raise TenfoldError(f"'{part}' is no option; write name=value.")
        try:
            found[key.strip()] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise TenfoldError(f"'{part}': the value is not understood; write name=value.") from error
    return found


@dataclass(frozen=True)
class Override:
    """What one layer was asked to be: dense, or a format, at these ranks if any."""

    maker: Format | None
    ranks: tuple[int, ...] = ()


def overrides_asked(layers: Mapping[str, str], names: Sequence[str]) -> dict[str, Override]:
    """Single layers by pattern: `{"layer1.*": "dense", "fc": "svd:16", "conv1": "tt"}`; a later pattern wins.

    Raises: TenfoldError for a pattern that matches nothing or a value that is not understood.
    """
    found: dict[str, Override] = {}
    for pattern, text in layers.items():
        wanted = override_from(text)
        found.update(dict.fromkeys(matching(pattern, names), wanted))
    return found


def override_from(text: str) -> Override:
    """`dense`, `svd`, `svd:16`, `ht2(window=w h):8,12,8`."""
    if text.strip().lower() == DENSE:
        return Override(None)
    name, _, ranks = (
        text.partition(":") if ")" not in text else text.rpartition(":") if "):" in text else (text, "", "")
    )
    with within(f"'{text}'"):
        match = ITEM.match(name.strip())
        if match is None or match["kind"] or text.rstrip().endswith(":"):
            raise TenfoldError("a layer is 'dense', FORMAT or FORMAT:RANKS, such as svd:16.")
        return Override(format_named(match["name"], **options_from(match["options"] or "")), ranks_asked(ranks))


def schemes_asked(bits: str | int | None) -> tuple[Scheme | None, ...]:
    """How the numbers of cores may lie in few bits: `4` as asked, `auto` in any bits or as they are.

    Raises: TenfoldError for bits that there are not.
    """
    if bits is None:
        return (None,)
    if str(bits).strip().lower() == AUTO:
        return (None, *(scheme_named(UNIFORM, each) for each in TRIED_BITS))
    try:
        return (scheme_named(UNIFORM, int(bits)),)
    except ValueError as error:  # and so a TenfoldError, which says which bits there are
        if isinstance(error, TenfoldError):
            raise
        raise TenfoldError(f"bits '{bits}' are no whole number; use 8, 4, 3, 2, .. or auto.") from None


def ranks_asked(text: str | int | Iterable[int]) -> tuple[int, ...]:
    """`8` for every bond, `24,40,24` one for each."""
    if isinstance(text, int):
        text = str(text)
    try:
        parts = [part.strip() for part in text.split(",") if part.strip()] if isinstance(text, str) else list(text)
        ranks = tuple(int(part) for part in parts)
    except (TypeError, ValueError):
        raise TenfoldError(f"ranks '{text}' are no whole numbers; write 8, or 24,40,24.") from None
    if any(rank < 1 for rank in ranks):
        raise TenfoldError(f"ranks '{text}': a rank is 1 or more.")
    return ranks
