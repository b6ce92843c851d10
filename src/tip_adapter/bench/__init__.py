"""Compare methods on data sets, shots and seeds under one stated protocol."""

from __future__ import annotations

from tip_adapter.bench.records import load_records
from tip_adapter.bench.report import write_report
from tip_adapter.bench.runner import BenchmarkResult, run
from tip_adapter.bench.standard import STANDARD_DATASETS
from tip_adapter.features.feature_data import FeatureData, Part
from tip_adapter.features.feature_files import load_feature_file, save_feature_file

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
