"""One class for each pixel."""

from typing import ClassVar

from tenfold.protocols import Score
from tenfold.tasks.classes import Classes, accuracy
from tenfold.tasks.metrics import from_torchmetrics


def mean_iou() -> Score:
    """Intersection over union of a class over all pixels, in per cent; the mean over classes that occur."""
    return from_torchmetrics("mean IoU", "MulticlassJaccardIndex")


class Segmentation(Classes):
    """One class for each pixel of a picture, sample of a signal or voxel of a volume."""

    name = "segmentation"
    outputs = "(n, classes, h, w)"
    targets = "(n, h, w) of whole numbers"
    dims = (3, 4, 5)
    scores: ClassVar = {"mean IoU": mean_iou, "pixel accuracy": lambda: accuracy("pixel accuracy")}
