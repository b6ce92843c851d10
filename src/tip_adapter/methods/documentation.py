"""Read the docstring of a method: what it is, what its parameters do, and where it was published."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass

from tip_adapter.methods import method_class
from tip_adapter.methods.spec import parameters_of, shown


@dataclass(frozen=True)
class MethodDocumentation:
    """A method in words: parameters are (name, default, what it does)."""

    summary: str
    parameters: tuple[tuple[str, str, str], ...]
    sources: str


def document(name: str) -> MethodDocumentation:
    """Read what the docstring of a method says.

    Examples
    --------
    >>> from tip_adapter.methods.documentation import document
    >>> document("tip-adapter").parameters[0]
    ('alpha', 'auto', 'α, weight of the cache against the text.')
    """
    text = inspect.getdoc(method_class(name)) or ""
    sections = dict(re.findall(r"^(\w+)\n-+\n(.*?)(?=^\w+\n-+\n|\Z)", text, re.MULTILINE | re.DOTALL))
    entries = re.findall(r"^([\w, ]+) : [^\n]*\n((?:    [^\n]*\n?)*)", sections.get("Parameters", ""), re.MULTILINE)
    said = {key.strip(): _sentence(words) for keys, words in entries for key in keys.split(",")}
    parameters = [(key, shown(default), said.get(key, "")) for key, default in parameters_of(name).items()]
    sources = _joined(sections.get("References", ""))
    return MethodDocumentation(_joined(text.split("\n\n")[0]), tuple(parameters), sources)


def _sentence(words: str) -> str:
    return re.split(r"(?<=[.])\s+(?=[A-Z\"])", _joined(words))[0]


def _joined(text: str) -> str:
    return re.sub(r"\.\. \[\d+\] ", "", " ".join(text.split())).replace("``", "")
