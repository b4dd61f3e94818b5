"""Labels, sizes, stages and contractions: a format is a labelled einsum, evaluation a partition of its cores."""

from tenfold.network.contraction import Contraction, Labels, contract
from tenfold.network.counts import Count
from tenfold.network.stages import (
    SPATIAL,
    Build,
    Partition,
    Positions,
    Stage,
    Stages,
    backwards,
    input_labels,
    output_labels,
)
from tenfold.network.tensor_network import Fold, TensorNetwork

__all__ = [
    "SPATIAL", "Build", "Contraction", "Count", "Fold", "Labels", "Partition", "Positions", "Stage", "Stages",
    "TensorNetwork", "backwards", "contract", "input_labels", "output_labels",
]  # fmt: skip
