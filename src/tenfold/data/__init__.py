"""Data sets as re-iterable batches."""

from tenfold.data.augmentation import Augment, Chain, Shift, flip
from tenfold.data.batches import Batches
from tenfold.data.sets import DATA_SETS, DataSet, load_data

__all__ = ["DATA_SETS", "Augment", "Batches", "Chain", "DataSet", "Shift", "flip", "load_data"]
