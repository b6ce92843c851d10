"""Data sets × methods × shots × seeds in; one JSON file per run, tables and figures out, under one stated protocol."""

from __future__ import annotations

from tip_adapter.benchmark.feature_files import FeatureData, Part, load_feature_file, save_feature_file
from tip_adapter.benchmark.records import load_records
from tip_adapter.benchmark.report import write_report
from tip_adapter.benchmark.runner import BenchmarkResult, run
from tip_adapter.benchmark.standard import STANDARD_DATASETS

__all__ = [
    "STANDARD_DATASETS",
    "BenchmarkResult",
    "FeatureData",
    "Part",
    "load_feature_file",
    "load_records",
    "run",
    "save_feature_file",
    "write_report",
]
