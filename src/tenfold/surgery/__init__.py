"""The weights of a network by name, a `Plan` for them, and a plan carried out."""

from tenfold.surgery.carry_out import decompose, hollowed
from tenfold.surgery.copying import copied, unwrapped
from tenfold.surgery.finite import check_finite
from tenfold.surgery.fresh import Init, check_init, fresh
from tenfold.surgery.layout import laid_out
from tenfold.surgery.lowering import lower
from tenfold.surgery.patterns import matching
from tenfold.surgery.plan import Plan, Row
from tenfold.surgery.sites import Site, sites
from tenfold.surgery.stored import stored
from tenfold.surgery.untaken import Untaken, untaken

__all__ = [
    "Init", "Plan", "Row", "Site", "Untaken", "check_finite", "check_init", "copied", "decompose", "fresh", "hollowed",
    "laid_out", "lower", "matching", "sites", "stored", "untaken", "unwrapped",
]  # fmt: skip
