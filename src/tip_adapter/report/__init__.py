"""Show what was measured of a classifier: pictures, and one HTML page that needs nothing else."""

from tip_adapter.report.content import ComparedMethod, ExplainedPhoto, Mistake, PhotoStrip, ReportContent
from tip_adapter.report.page import render_doctor, render_report

__all__ = [
    "ComparedMethod",
    "ExplainedPhoto",
    "Mistake",
    "PhotoStrip",
    "ReportContent",
    "render_doctor",
    "render_report",
]
