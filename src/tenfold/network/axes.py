"""What the names of axes mean, and where a weight is applied."""

from collections.abc import Mapping

INPUTS = ("i",)  # axes that an input brings
OUTPUTS = ("o",)  # axes that are left in the end
GROUPS = "g"  # the axis of a grouped convolution's groups
SPATIAL = ("d", "h", "w")  # axes that are windows of a convolution
Positions = Mapping[str, tuple[int, int]]  # axis -> positions of one sample before and after its stage


def backwards(positions: Positions) -> Positions:
    """The positions of the transposed map."""
    return {axis: (after, before) for axis, (before, after) in positions.items()}
