"""The verbs, and what they open and hand on."""

from tenfold.api.border import check_asked, check_file, check_one, given_only, write_plan
from tenfold.api.calibrate import calibrate
from tenfold.api.compress import compress
from tenfold.api.compressed import Compressed, save
from tenfold.api.decompose import decompose
from tenfold.api.evaluate import evaluate, in_runtimes, side_by_side
from tenfold.api.export import check_export, export
from tenfold.api.frontier import frontier
from tenfold.api.goal import Goal
from tenfold.api.lower import lower
from tenfold.api.opened import Opened, dense_of, load, open_network, origin_of
from tenfold.api.plan import plan_from, planned, profiled
from tenfold.api.predicted import PlannedLayer, Predicted, foreseen, predicted
from tenfold.api.reconstruct import reconstruct
from tenfold.api.recover import Training, recover, recover_folder
from tenfold.api.samples import given_inputs, parse_inputs
from tenfold.api.train import check as check_train
from tenfold.api.train import is_dense, train

__all__ = [
    "Compressed", "Goal", "Opened", "PlannedLayer", "Predicted", "Training", "calibrate", "check_asked", "check_export",
    "check_file", "check_one", "check_train", "compress", "decompose", "dense_of", "evaluate", "export",
    "foreseen", "frontier", "given_inputs", "given_only", "in_runtimes", "is_dense", "load", "lower", "open_network",
    "origin_of", "parse_inputs", "plan_from", "planned", "predicted", "profiled", "reconstruct", "recover",
    "recover_folder", "save", "side_by_side", "train", "write_plan",
]  # fmt: skip
