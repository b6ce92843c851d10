"""Specify what a saved classifier may contain: every value of its config, every array, and how they fit together."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tip_adapter.methods.heads import HEADS
from tip_adapter.storage.schema import (
    ArrayRule,
    Rule,
    check_arrays,
    fields,
    flag,
    items,
    lengths_of,
    mapping,
    number,
    one_of,
    optional,
    plain,
    text,
    whole,
)

HEAD_PREFIX = "head."
CALIBRATION_PREFIX = "calibration."
JOURNAL_PREFIX = "journal."
SHARED = ("zero_shot_weights", "keys", "labels")
"""Arrays that a head may have in common with its model."""

_MANY = 10**9
_NAME = text(longest=10_000)
_NAMES = items(_NAME)
_ID = text(longest=100, pattern=r"[\w.-]+", named="the id of a shot")
_DIGEST = text(pattern="[0-9a-f]{64}", named="a SHA-256 in hexadecimal")
_TEXTS = items(text(longest=100_000))
_STALE = items(one_of("hyper-parameters", "calibration"))
_ACTIONS = (
    *("fit", "add", "remove", "relabel", "add-class", "remove-class", "rename-class"),
    *("refit", "undo", "forget", "purge"),
)


def _template(value: Any, where: str) -> None:
    text(longest=100_000, pattern=r"(?s).*\{\}.*", named="a text with {} in it")(value, where)


def _parameters(value: Any, where: str) -> None:
    mapping(plain, names=text(pattern=r"[a-z]\w*", named="the name of a parameter"))(value, where)


_HELD: dict[str, Rule] = {
    **dict.fromkeys(("alpha", "beta", "gamma", "text_weight"), number(0)),
    "ridge": number(above=0),
    # What `auto` holds of both of its methods.
    "held": fields({"weights": items(number(0)), "parameters": mapping(number(0))}),
}


def _held(value: Any, where: str) -> None:
    _parameters(value, where)
    for name in _HELD.keys() & value.keys():
        _HELD[name](value[name], f"{where}.{name}")
    for name, one in value.get("held", {}).get("parameters", {}).items():
        if name.endswith("ridge"):
            number(above=0)(one, f"{where}.held.parameters.{name}")


_METHOD = fields(
    {
        "name": text(longest=200),
        "parameters": _parameters,
        "chosen": mapping(plain),
        "held": _held,
        "trains": flag,
    }
)
_CALIBRATION = fields(
    {
        "temperature": number(1e-3, 1e3),
        "source": one_of("shots", "photos", "none"),
        "n": whole(0, _MANY),
        "n_folds": whole(0, _MANY),
        "chosen": flag,
        "nll": items(optional(number(0)), length=2),
        "ece": items(optional(number(0, 1)), length=2),
    }
)
_SHOTS: dict[str, Rule] = {
    "ids": items(_ID, unique=True),
    "names": _NAMES,
    "digests": items(_DIGEST),
    "thumbnails": items(_ID, unique=True),
    "groups": items(text(longest=1000)),
}
_CLASS: dict[str, Rule] = {"column": whole(0, _MANY), "name": _NAME, "texts": _TEXTS}
_UNDO = fields(
    {
        "stale": _STALE,
        "added": items(_ID, unique=True),
        "moved": mapping(_NAME, names=_ID),
        "added_class": optional(_NAME),
        "method": optional(_METHOD),
    },
    others={
        "calibration": optional(_CALIBRATION),
        "removed": fields({**_SHOTS, "classes": _NAMES, "rows": items(whole(0, _MANY), unique=True)}),
        "removed_class": fields(_CLASS),
        "renamed_class": fields({**_CLASS, "new_name": _NAME}),
    },
)
_ENTRY = fields(
    {
        "number": whole(1, _MANY),
        "when": text(longest=100),
        "action": one_of(*_ACTIONS),
        "classes": _NAMES,
        "ids": items(_ID),
        "digests": items(_DIGEST),
        "n_shots": whole(0, _MANY),
        "undo": optional(_UNDO),
        "undone": flag,
    }
)
_CONFIG = fields(
    {
        "encoder": fields(
            {
                "name": text(longest=4096, pattern=r"(?!(.*\+)?[/\\]{2})[^\x00]+", named="the name of an encoder"),
                "image_id": text(pattern=r"[\w.:+/-]{1,200}", named="the id of a tower"),
                "text_id": text(pattern=r"[\w.:+/-]{1,200}", named="the id of a tower"),
                "dim": whole(1, 10**6),
                "logit_scale": number(above=0, high=1e6),
                "precision": text(longest=100, pattern=r"(fp32|int8)(\+(fp32|int8))*", named="a precision"),
                "member_ids": items(text(pattern=r"[\w.:+/-]{1,200}", named="the id of a tower")),
            }
        ),
        "class_names": items(
            text(longest=10_000, pattern=r"(?s).+", named="the name of a class"), least=1, unique=True
        ),
        "integer_labels": flag,
        "copy_cosine": optional(number(-1, 1.001)),
        "class_texts": items(_TEXTS),
        "templates": items(_template, least=1),
        "method": _METHOD,
        "head": fields(
            {
                "kind": one_of(*HEADS),
                "parameters": mapping(plain),
                "shared": items(one_of(*SHARED), unique=True),
            }
        ),
        "shots": fields(_SHOTS),
        "calibration": optional(_CALIBRATION),
        "stale": _STALE,
        "journal": items(_ENTRY),
        "views": whole(1, 10_000),
        "random_state": whole(0, 2**32 - 1),
        "versions": mapping(text()),
    }
)

_WEIGHT = number(0, 1e9)
_HEAD_VALUES: dict[str, Rule] = {
    "n_classes": whole(1, _MANY),
    "logit_scale": number(0, 1e6),
    "alpha": _WEIGHT,
    "beta": _WEIGHT,
    "gamma": _WEIGHT,
    "slope": number(-1e9, 1e9),
    "offset": number(-1e9, 1e9),
    "balanced": flag,
    "neighbours": whole(1, _MANY),
    "ratio": number(0, 1),
    "index": one_of("exact", "faiss"),
    "probes": whole(1, _MANY),
}
_HEAD_ARRAYS = {
    "zero_shot_weights": ArrayRule("float", ("C", "D"), may_lack_rows=True),
    "weights": ArrayRule("float", ("C", "D")),
    "bias": ArrayRule("float", ("C",)),
    "keys": ArrayRule("float", ("N", "Q")),
    "labels": ArrayRule("integer", ("N",), below="C"),
    "coefficients": ArrayRule("float", ("N", "C")),
    "key_weights": ArrayRule("float", ("N",)),
    "channels": ArrayRule("integer", ("Q",), below="D"),
    "down": ArrayRule("float", ("H", "D")),
    "up": ArrayRule("float", ("D", "H")),
}
_LARGEST_EXPONENT = 80.0
"""Of what kernels are powers of: float32 ends at 88."""


def check_saved(config: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Check all that was read of a saved classifier, but its pictures."""
    _CONFIG(config, "config")
    shots, head = config["shots"], config["head"]
    sizes = {
        "C": lengths_of(class_names=config["class_names"], class_texts=config["class_texts"]),
        "D": config["encoder"]["dim"],
        "N": _check_shots(shots, "shots"),
        "V": config["views"],
    }
    head_arrays = {name.removeprefix(HEAD_PREFIX) for name in arrays if name.startswith(HEAD_PREFIX)}
    _check_head_values(head, head_arrays | set(head["shared"]), sizes)
    rules = {
        "zero_shot_weights": ArrayRule("float32", ("C", "D"), unit_rows=True, may_lack_rows=True),
        "shots.features": ArrayRule("float32", ("N", "D")),
        "shots.views": ArrayRule("float32", ("N", "V", "D"), required=False),
        "shots.labels": ArrayRule("integer", ("N",), below="C"),
    }
    rules |= {HEAD_PREFIX + name: _HEAD_ARRAYS[name] for name in sorted(head_arrays)}
    if "channels" not in head_arrays or "keys" in head["shared"]:
        sizes["Q"] = sizes["D"]
    if config["calibration"] is not None:
        rules |= _calibration_rules(CALIBRATION_PREFIX, "n")
        sizes["n"] = config["calibration"]["n"]
    for entry in _checked_journal(config["journal"]):
        rules |= _entry_rules(entry, sizes)
    check_arrays(arrays, rules, sizes)
    _check_numbers(config, arrays)


def _check_shots(shots: Mapping[str, Any], where: str) -> int:
    count = lengths_of(**{name: shots[name] for name in ("ids", "names", "digests")})
    if not set(shots["thumbnails"]) <= set(shots["ids"]):
        raise ValueError(f"{where}.thumbnails should be ids of its shots")
    if len(shots["groups"]) not in (0, count):
        raise ValueError(f"{where}.groups should be none, or one of each of its {count} shots")
    return count


def _check_head_values(head: Mapping[str, Any], arrays: set[str], sizes: Mapping[str, int]) -> None:
    """What a head is made of are its arrays and its parameters, each once; an array that is not there is null."""
    values, kind = head["parameters"], head["kind"]
    fields = {field.name: str(field.type) for field in dataclasses.fields(HEADS[kind])}
    if arrays & set(values) or arrays | set(values) != set(fields):
        raise ValueError(f"head should have {', '.join(fields)}, got {', '.join(sorted(arrays | set(values)))}")
    for name in arrays:
        if name not in _HEAD_ARRAYS:
            raise ValueError(f"head.{name} should be no array")
    for name, value in values.items():
        if name not in _HEAD_ARRAYS:
            _HEAD_VALUES[name](value, f"head.parameters.{name}")
        elif value is not None or "None" not in fields[name]:
            raise ValueError(f"head.{name} should be an array")
    if values["n_classes"] != sizes["C"]:
        raise ValueError(f"head.parameters.n_classes should be {sizes['C']}, got {values['n_classes']}")
    if values.get("neighbours", 1) > max(sizes["N"], 1):
        raise ValueError(f"head.parameters.neighbours should be at most {sizes['N']}, got {values['neighbours']}")


def _calibration_rules(prefix: str, length: str) -> dict[str, ArrayRule]:
    return {
        f"{prefix}true": ArrayRule("float", (length,), 0, 1 + 1e-6),
        f"{prefix}ahead": ArrayRule("float", (length,), 0, 1 + 1e-6),
        f"{prefix}means": ArrayRule("float", (2,)),
        f"{prefix}spreads": ArrayRule("float", (2,), low=1e-30),
        f"{prefix}familiar": ArrayRule("float", (length,)),
    }


def _checked_journal(journal: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    last = 0
    for index, entry in enumerate(journal):
        where = f"journal[{index}]"
        lengths_of(ids=entry["ids"], digests=entry["digests"])
        if entry["number"] <= last:
            raise ValueError(f"{where}.number should be above {last}, got {entry['number']}")
        last = entry["number"]
        yield entry


def _entry_rules(entry: Mapping[str, Any], sizes: dict[str, int]) -> dict[str, ArrayRule]:
    """Arrays that the undo of an entry needs; lengths of its own have its number behind them."""
    undo, number_ = entry["undo"] or {}, entry["number"]
    prefix = f"{JOURNAL_PREFIX}{number_}."
    rules: dict[str, ArrayRule] = {}
    if undo.get("calibration") is not None:
        rules |= _calibration_rules(f"{prefix}calibration.", f"n{number_}")
        sizes[f"n{number_}"] = undo["calibration"]["n"]
    if (removed := undo.get("removed")) is not None:
        sizes[f"M{number_}"] = _check_shots(removed, f"journal {number_}")
        lengths_of(ids=removed["ids"], classes=removed["classes"], rows=removed["rows"])
        rules[f"{prefix}features"] = ArrayRule("float32", (f"M{number_}", "D"))
        rules[f"{prefix}views"] = ArrayRule("float32", (f"M{number_}", "V", "D"), required=False)
    for name in ("removed_class", "renamed_class"):
        if name in undo:
            rules[prefix + name] = ArrayRule("float32", ("D",), may_lack_rows=True)
    return rules


def _check_numbers(config: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
    """What arrays are together: no photo without a feature, no kernel without end."""
    for name, array in arrays.items():
        if name.endswith(("features", "views")) and not np.abs(array).max(axis=-1, initial=0).all():
            raise ValueError(f"the array {name} should have no row of zeros")
        if name.endswith("familiar") and (np.diff(array) < 0).any():
            raise ValueError(f"the array {name} should ascend")
    weights = arrays.get(f"{HEAD_PREFIX}zero_shot_weights")
    if "zero_shot_weights" in config["head"]["shared"]:
        weights = arrays["zero_shot_weights"]
    if weights is not None and np.isnan(weights).all():
        raise ValueError("the head should have a class with text, or no texts at all")
    keys, beta = arrays.get(f"{HEAD_PREFIX}keys"), config["head"]["parameters"].get("beta")
    if keys is not None and beta is not None and keys.size:
        longest = float(np.linalg.norm(keys.astype(np.float64), axis=1).max())
        if beta * (longest - 1 - 1e-3) > _LARGEST_EXPONENT:
            raise ValueError(f"head.keys of length {longest:.3g} are too long for head.parameters.beta {beta:g}")
