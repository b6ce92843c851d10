"""The command export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tip_adapter.cli import options
from tip_adapter.cli.output import echo, echo_json, echo_next
from tip_adapter.cli.photos import find_photos


def export(
    model: options.Model,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder to write: new, empty, or an earlier export.")
    ] = Path("exported-classifier"),
    sample: Annotated[
        list[str] | None,
        typer.Option("--sample", help="Photos to check the export on; may be repeated. Default: the shots."),
    ] = None,
    web: Annotated[
        bool, typer.Option("--web", help="Also write a web page that classifies in the browser; needs onnxruntime-web.")
    ] = False,
    ort_web: Annotated[
        Path, typer.Option("--ort-web", help="Where `npm install onnxruntime-web` put the package, for --web.")
    ] = Path("node_modules/onnxruntime-web"),
    head_only: Annotated[
        bool, typer.Option("--head-only", help="Write only head.onnx, which takes features; needs no encoder.")
    ] = False,
    encoder: options.Where = None,
    as_json: options.Json = False,
) -> None:
    """Export a classifier as ONNX files and a script that run without this package; --web adds a web page."""
    from tip_adapter.classifier import ImageClassifier
    from tip_adapter.export import export_classifier

    samples, _ = find_photos(sample, as_json=as_json) if sample else ([], None)
    report = export_classifier(
        ImageClassifier.load(model, encoder=encoder),
        output,
        samples=samples,
        ort_web=ort_web if web else None,
        head_only=head_only,
    )
    if as_json:
        classifier_parity = report.classifier.to_dict() if report.classifier else None
        parities = {"head": report.head.to_dict(), "classifier": classifier_parity}
        echo_json({"output": str(report.path), "files": list(report.files), "parity": parities})
        return
    parity = report.classifier or report.head
    echo(
        f"checked on {parity.samples} samples ({parity.source}): largest difference of a logit "
        f"{parity.max_logit_difference:.1e}, same top class {parity.same_top_class} of {parity.samples}"
    )
    echo(f"saved: {report.path} ({', '.join(name for name in report.files if '/' not in name)})")
    if web:
        echo_next("python", "-m", "http.server", "--directory", report.path, so_that="then open http://localhost:8000")
    elif not head_only:
        echo_next("python", report.path / "predict.py", "PHOTO", so_that="classify without this package")
