"""Show the evaluation of a classifier as pictures and as one self-contained HTML page."""

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
