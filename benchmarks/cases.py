"""Run small inputs that once went wrong, and print a table: case, what happened, as wanted or not.

Usage: python benchmarks/cases.py ../shared/cases [NAME ...] [--show]
Each case is copied to a temporary folder and run there with this package; --show prints all that it prints. Exit code 1
if a case is not as wanted.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

Check = tuple[str, Callable[[str], bool]]

SOURCE = Path(__file__).parents[1] / "src"
RENAMED = {
    "--class-names": "--class-texts",
    "tip_adapter.images": "tip_adapter.data.decoding",
    "export c.tip exp": "export c.tip --output exp",
}
"""What cases call by an older name."""


def has(what: str, pattern: str, times: int = 1) -> Check:
    return what, lambda output: len(re.findall(pattern, output, re.MULTILINE)) >= times


def lacks(what: str, pattern: str) -> Check:
    return what, lambda output: not re.search(pattern, output, re.MULTILINE)


def exits(*codes: int) -> Check:
    """The commands end with these codes, one after the other."""
    return "exit codes", lambda output: [int(code) for code in re.findall(r"^\[exit (\d+)\]", output, re.M)] == [*codes]


def numbers(pattern: str, output: str) -> list[float]:
    return [float(found) for found in re.findall(pattern, output, re.MULTILINE)]


def never_fewer(output: str) -> bool:
    """More photos of other classes take hardly anything from a class with one, whatever the method."""
    pairs = re.findall(r"(?:tip-adapter|gda|proker|auto) (\d\.\d+) \(cut to the smallest (\d\.\d+)\)", output)
    return len(pairs) == 16 and all(float(everything) >= float(cut) - 0.05 for everything, cut in pairs)


def same_brightness(output: str) -> bool:
    means = numbers(r"decoded by the product: mean ([\d.]+)", output)
    return len(means) == 3 and max(means) - min(means) < 3


def names_of_sides(output: str) -> bool:
    """Product and exported script see in each of six files what it is called after."""
    found = re.findall(r"^(left|right)_(?:16bit|12bit|8bit_in_16)\.png\W.*?\b(left|right)\b", output, re.MULTILINE)
    return len(found) == 12 and all(name == answer for name, answer in found)


NO_TRACEBACK = lacks("no traceback", "Traceback|^[A-Z]\\w+Error: ")
TOLD = "splits are told, the training photos taken"
CASES: dict[str, list[Check]] = {
    "class-name-forms": [
        has("any form of a name is one class", "9 shots of 2 classes", 2),
        has("texts by any form", r"fit d -e fake -o c2\.tip(.|\n)*?saved: c2\.tip"),
        has("blanks around a name are none", "There is a class 'green' already: "),
        has("case is explained", "There is a class 'green' already, which differs from 'GREEN' in case alone"),
        has("Python, too", r"Python: \('café', 'green'\)"),
        exits(0, 0, 0, 0, 0, 3, 3, 0, 0, 0),
    ],
    "exported-script": [
        has("a bad photo is one line", r"bad\.jpg"),
        has("the others are classified", r"0\.jpg.*red"),
        lacks("no traceback", "Traceback"),
    ],
    "identical-texts": [
        (
            "texts that are all alike do not flatten probabilities",
            lambda output: all(p > 0.5 for p in numbers(r"\(p ([\d.]+)\)", output)),
        ),
        has("photos are named right in every script", r"^auto: 100\.0 %", 3),
    ],
    "manifest-dialects": [
        exits(0, 0, 3, 0, 0, 0, 0, 3, 3),
        has("web addresses are refused", "web address https://example.com/.*nothing is downloaded"),
        has("columns are told", 'metadata.csv: photos by "file_name", classes by "label"'),
        has("ones and zeros are classes", "onehot.csv: .* classes by 2 columns of zeros and ones"),
        has("a missing file is named with its row", r"an image at green \(row 2 of float\.jsonl\), found none"),
        has("a list is no label", r"got \['green'\] \(list\) in row 1 of list\.jsonl"),
    ],
    "one-shot-among-many": [("a class with one photo is recognised", never_fewer)],
    "pandas-series": [
        ("a series is read in its order", lambda output: numbers(r"fit\(Series\):.*? ([\d.]+)", output) == [1.0]),
        has("answers in the order given", r"in the order of the list: 1\.0"),
        has("filtered frames are taken", "ok", 2),
    ],
    "pickle-after-use": [has("copies after use", " ok$", 4)],
    "predict-of-one-array": [
        has("one array is one picture", "1 answers|-> 1 answer|Error"),
        lacks("no raw error", "TypeError"),
    ],
    "read-only-cache": [
        has("works without writing", "red"),
        has("says where to write", "TIP_ADAPTER_CACHE"),
        lacks("no error", r"^error"),
    ],
    "sixteen-bit": [
        ("depth is what the samples use", same_brightness),
        ("product and exported script agree", names_of_sides),
    ],
    "skip-bad-does-not-skip": [
        exits(0, 0, 0, 0, 0, 0, 0),
        has("bad photos are listed", r"skipped: .*IMG_0001\.HEIC", 2),
        has("AVIF is read", "13 shots of 3 classes"),
        has("a row without a photo is listed", r"skipped: .*gone\.jpg"),
        has("system folders are ignored", r"ignored: hidden or system folder lost\+found"),
    ],
    "small-things": [
        has("empty arguments are refused", "is empty, as when a variable", 2),
        has("closed pipes are no error", "exit 0", 2),
        has("names without a UTF-8 locale", r"saved: x\.tip"),
        ("base64 text is refused briefly", lambda output: numbers(r"message has (\d+) characters", output)[0] < 400),
    ],
    "split-folders-as-classes": [
        has(TOLD, r"data: brain: 3 classes, splits train \(Training\) and test \(Testing\); train is taken"),
        has(TOLD, r"data: intel: 3 classes, splits train \(seg_train\) and test \(seg_test\)"),
        has("shots of three classes", "^18 shots of 3 classes", 4),
        lacks("splits are no classes", r"^\| (Training|Testing|seg_\w+|[Tt]rain\w*|test) \|"),
        exits(0, 0, 0, 0),
    ],
    "system-folders": [
        exits(0, 0, 0, 0, 0),
        has("two classes", "^8 shots of 2 classes", 5),
        has("ignored folders are told", r"ignored: hidden or system folder #recycle"),
        lacks("a recycle bin is no class", r"^\| #recycle"),
    ],
    "truncated-jpeg": [
        exits(0, 0, 3),
        has("a photo without its last two bytes is read", r"cut_2\.jpg +red"),
        has("one that lacks pixels is named", r"^error: Expected cut_10\.jpg to be a whole image"),
    ],
    "wide-table": [has("probabilities stay", r"\d\.\d %$", 4), has("photos stay", r"/2\.jpg")],
}


def run(name: str, cases: Path) -> tuple[str, float]:
    """Run a case in a copy of its folder, and return what it prints."""
    with tempfile.TemporaryDirectory() as place:
        shutil.copytree(cases, place, dirs_exist_ok=True)
        folder = Path(place) / name
        for path in (*Path(place).glob("*.*"), *folder.iterdir()):
            if path.suffix in (".sh", ".py"):
                path.write_text(adapted(path.read_text()))
        environment = os.environ | {
            "TIP": str(Path(sys.executable).with_name("tip-adapter")),
            "PY": sys.executable,
            "PYTHONPATH": f"{SOURCE}:{place}",
            "TIP_ADAPTER_CACHE": os.environ.get("TIP_ADAPTER_CACHE") or f"{place}/cache",
        }
        script = ["bash", "run.sh"] if (folder / "run.sh").exists() else [sys.executable, "make.py"]
        start = time.perf_counter()
        done = subprocess.run(
            script, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        return done.stdout, time.perf_counter() - start


def adapted(script: str) -> str:
    """Let a script of a case use today's names and this source, and show all that is printed."""
    for old, new in RENAMED.items():
        script = script.replace(old, new)
    script = re.sub(r"tail -(\$\{TAIL:-4\}|\d)", "cat", script)
    return script.replace("export PYTHONPATH=$(cd .. && pwd)", f"export PYTHONPATH={SOURCE}:$(cd .. && pwd)")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", type=Path)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--show", action="store_true")
    arguments = parser.parse_args()
    wrong, rows = 0, {}
    print(f"{'case':26} {'seconds':>7}  {'as wanted':9}  what happened")
    for name in arguments.names or sorted(path.name for path in arguments.cases.iterdir() if path.is_dir()):
        checks = CASES.get(name)
        if checks is None:
            print(f"{name:26} {'':7}  {'?':9}  nothing is said here about what is wanted")
            wrong += 1
            continue
        output, seconds = run(name, arguments.cases)
        results = [(what, check(output)) for what, check in [*checks, NO_TRACEBACK]]
        failed = [what for what, right in results if not right]
        told = f"not: {'; '.join(failed)}" if failed else "; ".join(dict.fromkeys(what for what, _ in results[:-1]))
        print(f"{name:26} {seconds:7.1f}  {'no' if failed else 'yes':9}  {told}", flush=True)
        wrong += bool(failed)
        rows[name] = {"as_wanted": not failed, "what": told}
        if arguments.show:
            print(output)
    if not arguments.names:
        from provenance import write_result

        write_result("cases", rows)
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main())
