"""What was measured of a classifier in; one HTML page that needs nothing else out."""

from tip_adapter.report.content import Mistake, PhotoStrip, ReportContent
from tip_adapter.report.page import render_doctor, render_report

__all__ = ["Mistake", "PhotoStrip", "ReportContent", "render_doctor", "render_report"]
