"""Measurements side by side: a `Report` as JSON, as words, as tables."""

from tenfold.report.course import CoursePoint, noted
from tenfold.report.exported import Exported, ExportedFile, export_sentences
from tenfold.report.frontier import Frontier, FrontierRow, check_picture
from tenfold.report.layer_row import LayerRow, layer_rows
from tenfold.report.measurement import Measurement, ScoreValue, compare, runnable
from tenfold.report.report import Part, PlannedRatios, Ratios, Report
from tenfold.report.runtimes import RuntimeTimes, in_runtime
from tenfold.report.spectrum import Foreseen, Known, Spectrum
from tenfold.report.tables import (
    export_table,
    frontier_table,
    layer_table,
    plan_table,
    profile_table,
    runtimes_table,
    side_by_side,
    summary_table,
)
from tenfold.report.words import COSTS, growths, notes, reasons, sentences

__all__ = [
    "COSTS", "CoursePoint", "Exported", "ExportedFile", "Foreseen", "Frontier", "FrontierRow", "Known", "LayerRow",
    "Measurement", "Part", "PlannedRatios", "Ratios", "Report", "RuntimeTimes", "ScoreValue", "Spectrum",
    "check_picture", "compare", "export_sentences", "export_table", "frontier_table", "growths", "in_runtime",
    "layer_rows", "layer_table", "noted", "notes", "plan_table", "profile_table", "reasons", "runnable",
    "runtimes_table", "sentences", "side_by_side", "summary_table",
]  # fmt: skip
