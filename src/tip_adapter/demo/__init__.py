"""Show the product on real photos: how good it is with and without texts, what was searched, and why one prediction."""

from tip_adapter.demo.photos import DIGIT_TEXTS, clothing_texts, write_clothing, write_digits
from tip_adapter.demo.run import DemoResult, run_demo, support_and_queries

__all__ = [
    "DIGIT_TEXTS",
    "DemoResult",
    "clothing_texts",
    "run_demo",
    "support_and_queries",
    "write_clothing",
    "write_digits",
]
