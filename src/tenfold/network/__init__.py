"""Labels, sizes, stages and contractions: a format is a labelled einsum, evaluation a partition of its cores."""

from tenfold.network.axes import GROUPS, INPUTS, SPATIAL, Positions, backwards
from tenfold.network.bounds import closing, full_rank, global_bound, local_bound, side_of, unfolding_of, useful
from tenfold.network.contraction import Contraction, Labels, contract
from tenfold.network.counts import Count
from tenfold.network.random_cores import deviation_of, random_cores
from tenfold.network.stages import (
    Build,
    Partition,
    Stage,
    Stages,
    every_stages,
    input_labels,
    output_labels,
    partitions_of,
)
from tenfold.network.tensor_network import Fold, TensorNetwork

__all__ = [
    "GROUPS", "INPUTS", "SPATIAL", "Build", "Contraction", "Count", "Fold", "Labels", "Partition", "Positions",
    "Stage", "Stages", "TensorNetwork", "backwards", "closing", "contract", "deviation_of", "every_stages",
    "full_rank", "global_bound", "input_labels", "local_bound", "output_labels", "partitions_of", "random_cores",
    "side_of", "unfolding_of", "useful",
]  # fmt: skip
