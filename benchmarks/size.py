"""Measure how large the package is, and how it is planned.

Usage: python benchmarks/size.py
Prints a table of this project's figures beside those of a review in which the package still had 49 modules in its root,
and writes them for benchmarks/README.md.
"""

from __future__ import annotations

import ast
import re
import statistics
import tomllib
from collections.abc import Iterator
from pathlib import Path

from provenance import write_result

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "tip_adapter"
REVIEW = {
    "packages at the root": "10",
    "modules at the root": "49",
    "lines of the import contract": "40",
    "lines": "30,588",
    "docstrings, % of lines": "34",
    "longest file": "400",
    "longest function (code)": "83",
    "function (code), median / p90": "7 / 21",
    "modules with __all__ that are no face": "160",
}

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module


def docstring_lines(tree: ast.Module) -> int:
    """Count the lines of all docstrings."""
    return sum(node.end_lineno - node.lineno + 1 for node in docstrings(tree))


def docstrings(tree: ast.Module) -> Iterator[ast.Expr]:
    for node in ast.walk(tree):
        if isinstance(node, Definition) and node.body and isinstance(node.body[0], ast.Expr):
            first = node.body[0]
            if isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
                yield first


def code_lines(function: ast.FunctionDef, lines: list[str]) -> int:
    """Count the lines of a function that are neither blank, nor comment, nor docstring."""
    told = {line for node in docstrings(ast.Module([function], [])) for line in range(node.lineno, node.end_lineno + 1)}
    body = range(function.lineno, function.end_lineno + 1)
    return sum(bool(lines[n - 1].strip()) and not lines[n - 1].strip().startswith("#") for n in body if n not in told)


def figures() -> dict[str, str]:
    files = sorted(PACKAGE.rglob("*.py"))
    texts = {path: path.read_text() for path in files}
    trees = {path: ast.parse(text) for path, text in texts.items()}
    n_lines = {path: len(text.splitlines()) for path, text in texts.items()}
    total = sum(n_lines.values())
    functions = {
        f"{path.relative_to(PACKAGE)}:{node.name}": code_lines(node, texts[path].splitlines())
        for path, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    longest_file, longest = max(n_lines, key=n_lines.__getitem__), max(functions, key=functions.__getitem__)
    sizes = sorted(functions.values())
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]
    with_all = [p for p, text in texts.items() if re.search(r"^__all__", text, re.M) and p.name != "__init__.py"]
    api = {
        name for page in (ROOT / "docs" / "api").glob("*.md") for name in re.findall(r"::\s+([\w.]+)", page.read_text())
    }
    return {
        "packages at the root": str(sum((path / "__init__.py").exists() for path in PACKAGE.iterdir())),
        "modules at the root": str(len(list(PACKAGE.glob("*.py")))),
        "lines of the import contract": str(len(contract["layers"])),
        "lines": f"{total:,}",
        "docstrings, % of lines": f"{100 * sum(map(docstring_lines, trees.values())) / total:.0f}",
        "longest file": f"{n_lines[longest_file]} ({longest_file.relative_to(PACKAGE)})",
        "longest function (code)": f"{functions[longest]} ({longest})",
        "function (code), median / p90": f"{statistics.median(sizes):.0f} / {sizes[int(0.9 * len(sizes))]}",
        "modules with __all__ that are no face": str(len(with_all)),
        "names in the documented API": str(len(api)),
    }


def main() -> None:
    rows = figures()
    print("| | now | the review |\n| --- | ---: | ---: |")
    for name, value in rows.items():
        print(f"| {name} | {value} | {REVIEW.get(name, '–')} |")
    write_result("size", {name: [value, REVIEW.get(name, "–")] for name, value in rows.items()})


if __name__ == "__main__":
    main()
