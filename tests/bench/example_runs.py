"""A finished run, as a worker writes it."""

from tip_adapter.bench.provenance import versions
from tip_adapter.bench.records import FORMAT


def record(**changes):
    base = {
        "format": FORMAT,
        "status": "done",
        "dataset": "pets",
        "dataset_id": "0123abcd",
        "encoder": "lite",
        "protocol": "fair",
        "method": "gda",
        "shots": 4,
        "seed": 0,
        "accuracy": 0.75,
        "accuracy_interval": [0.5, 0.9],
        "nll": 0.5123456789,
        "ece": 0.1,
        "fit_seconds": 0.2,
        "predict_seconds": 0.1,
        "trainable_parameters": 0,
        "peak_memory_mb": 10.0,
        "versions": versions(),
        "machine": {"cpu": "x", "cores": 2, "system": "Linux"},
        "n_classes": 2,
        "n_test": 8,
        "n_validation": 0,
        "right": "/A==",  # the first six of eight
    }
    return base | changes
