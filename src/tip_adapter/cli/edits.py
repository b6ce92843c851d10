"""Commands that correct a saved classifier: add, remove, relabel, class, refit, undo, purge, shots, journal."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tip_adapter.cli import options
from tip_adapter.cli.help import ReadableCommand, ReadableGroup
from tip_adapter.cli.output import echo, echo_json, echo_next, echo_skipped, left_out, warn_of_stale
from tip_adapter.cli.photos import find_photos, read_photos
from tip_adapter.cli.streams import with_names_read
from tip_adapter.cli.tables import echo_table, number, text, whole
from tip_adapter.storage.locking import WAIT_S

if TYPE_CHECKING:
    from tip_adapter.classifier import ImageClassifier
    from tip_adapter.classifier.adding import AddedShots
    from tip_adapter.data import Findings
    from tip_adapter.features.sinks import ParquetRows
    from tip_adapter.model.few_shot_model import FewShotModel

IdsArgument = Annotated[
    list[str], typer.Argument(help="Ids of shots, beginnings of ids, or file names; `tip-adapter shots` lists them.")
]
RefitOption = Annotated[
    bool, typer.Option("--refit", help="Choose the hyper-parameters again; methods that are trained need it.")
]
TextsOption = Annotated[list[str] | None, typer.Option("--text", help="Text for the class; may be repeated.")]

classes = typer.Typer(
    cls=ReadableGroup, help="Add, remove and rename the classes of a saved classifier.", no_args_is_help=True
)


FilesOption = Annotated[
    list[str] | None,
    typer.Option("--files", help="Parquet files of embed or predict that lose what is forgotten, too; repeatable."),
]


def _sinks(files: list[str] | None) -> list[ParquetRows]:
    from tip_adapter.features.sinks import ParquetRows

    return [ParquetRows(file) for file in files or ()]


@contextlib.contextmanager
def _editing(model: str, wait: float, encoder: str | None = None) -> Iterator[ImageClassifier]:
    from tip_adapter.classifier import ImageClassifier

    with ImageClassifier.editing(model, encoder=encoder, wait_s=wait) as classifier:
        yield classifier


def add(
    model: options.Edited,
    photos: Annotated[
        list[str], typer.Argument(help="Photos, with --class; else one folder of class folders, or a manifest")
    ],
    null: options.Null = False,
    class_name: Annotated[str | None, typer.Option("--class", "-c", help="The class of all these photos.")] = None,
    new_classes: Annotated[
        bool, typer.Option("--new-classes", help="Also add classes that the classifier does not know yet.")
    ] = False,
    split: options.Split = None,
    encoder: options.Where = None,
    refit: RefitOption = False,
    skip_bad: options.SkipBad = False,
    wait: options.Wait = WAIT_S,
    as_json: options.Json = False,
) -> None:
    """Add labelled photos to a saved classifier; nothing else is encoded again."""
    from tip_adapter.progress import progress_bar

    photos = with_names_read(photos, null=null)
    data, labels, findings = _labelled(photos, class_name, split=split, skip_bad=skip_bad, as_json=as_json)
    with _editing(model, wait, encoder) as classifier, progress_bar("Encoding shots") as progress:
        added = classifier.add_shots(
            data, labels, new_classes=new_classes, refit=refit, skip_bad=skip_bad, progress=progress
        )
    _tell_added(model, classifier, added, findings, as_json=as_json)


def _labelled(
    photos: list[str], class_name: str | None, *, split: str | None, skip_bad: bool, as_json: bool
) -> tuple[Any, list[str] | None, Findings]:
    """Photos of one class, or a data set that says itself of which classes they are."""
    from tip_adapter.data import says_classes
    from tip_adapter.errors import InputError

    if class_name is None and len(photos) == 1 and says_classes(photos[0]):
        dataset = read_photos(
            photos[0], split=split, prefer=("train",), min_classes=1, skip_bad=skip_bad, as_json=as_json
        )
        return dataset, None, dataset.findings
    # Looked for first, so that a mistyped path is told as that.
    images, findings = find_photos(photos, skip_bad=skip_bad, as_json=as_json)
    if class_name is None:
        number = _counted(len(images), "photo")
        raise InputError(
            f"Expected --class for the {number} of {photos[0]}{' …' if len(photos) > 1 else ''}, such as --class hat, "
            "or one folder of class folders, or a manifest"
        )
    return images, [class_name] * len(images), findings


def remove(
    model: options.Edited,
    ids: IdsArgument,
    forget: Annotated[
        bool,
        typer.Option(
            "--forget", help="Erase for good: features, thumbnail and name leave the classifier and the feature store."
        ),
    ] = False,
    files: FilesOption = None,
    encoder: options.Where = None,
    refit: RefitOption = False,
    wait: options.Wait = WAIT_S,
    as_json: options.Json = False,
) -> None:
    """Remove shots from a saved classifier; `undo` brings them back unless they are forgotten."""
    from tip_adapter.errors import InputError

    if files and not forget:
        raise InputError("Expected --forget with --files: what is only removed, undo brings back")
    with _editing(model, wait, encoder) as classifier:
        gone = classifier.remove_shots(ids, forget=forget, sinks=_sinks(files), refit=refit)
    what = "forgotten for good" if forget else "removed"
    _tell(model, classifier, {"ids": list(gone), "forgotten": forget}, f"{_counted(len(gone), 'shot')} {what}", as_json)


def relabel(
    model: options.Edited,
    ids: IdsArgument,
    class_name: Annotated[str, typer.Option("--class", "-c", help="Their new class.")],
    encoder: options.Where = None,
    refit: RefitOption = False,
    wait: options.Wait = WAIT_S,
    as_json: options.Json = False,
) -> None:
    """Move shots of a saved classifier to another class."""
    with _editing(model, wait, encoder) as classifier:
        moved = classifier.relabel(ids, class_name, refit=refit)
    _tell(model, classifier, {"ids": list(moved)}, f"{_counted(len(moved), 'shot')} moved to {class_name}", as_json)


def purge(
    model: options.Edited, files: FilesOption = None, wait: options.Wait = WAIT_S, as_json: options.Json = False
) -> None:
    """Erase for good what was removed earlier, from a saved classifier and from the feature store."""
    with _editing(model, wait) as classifier:
        count = classifier.purge(sinks=_sinks(files))
    _tell(model, classifier, {"photos": count}, f"{_counted(count, 'photo')} forgotten for good", as_json)


def refit(
    model: options.Edited, encoder: options.Where = None, wait: options.Wait = WAIT_S, as_json: options.Json = False
) -> None:
    """Choose the hyper-parameters of a saved classifier again for its present shots; no photos are needed."""
    from tip_adapter.progress import progress_bar

    with _editing(model, wait, encoder) as classifier, progress_bar("Fitting") as progress:
        classifier.refit(progress=progress)
    chosen = classifier.model_.method.chosen
    _tell(model, classifier, {"chosen": dict(chosen)}, str(chosen.get("summary", "fitted again")), as_json)


def undo(
    model: options.Edited,
    encoder: options.Where = None,
    refit: RefitOption = False,
    wait: options.Wait = WAIT_S,
    as_json: options.Json = False,
) -> None:
    """Undo the last edit of a saved classifier; run it again to undo the one before."""
    with _editing(model, wait, encoder) as classifier:
        entry = classifier.undo(refit=refit)
    about = f" ({', '.join(entry.classes)})" if entry.classes else ""
    _tell(model, classifier, {"undone": entry.to_dict()}, f"undone: {entry.number}. {entry.action}{about}", as_json)


@classes.command("add", cls=ReadableCommand)
def add_class(
    model: options.Edited,
    name: Annotated[str, typer.Argument(help="Name of the new class.")],
    photos: Annotated[list[str] | None, typer.Argument(help="Its first photos, if you have some.")] = None,
    text: TextsOption = None,
    no_text: Annotated[bool, typer.Option("--no-text", help="Recognise it by its photos alone.")] = False,
    encoder: options.Where = None,
    refit: RefitOption = False,
    skip_bad: options.SkipBad = False,
    wait: options.Wait = WAIT_S,
    as_json: options.Json = False,
) -> None:
    """Add a class, from its name or --text, and from photos if you have some."""
    from tip_adapter.data import Findings
    from tip_adapter.errors import InputError
    from tip_adapter.progress import progress_bar

    if text and no_text:
        raise InputError("Expected --text or --no-text, got both: leave one out")
    images, findings = find_photos(photos, skip_bad=skip_bad, as_json=as_json) if photos else ([], Findings())
    with _editing(model, wait, encoder) as classifier, progress_bar("Encoding shots") as progress:
        added = classifier.add_class(
            name, () if no_text else text, images=images, refit=refit, skip_bad=skip_bad, progress=progress
        )
    _tell_added(model, classifier, added, findings, as_json=as_json, new_class=name)


@classes.command("remove", cls=ReadableCommand)
def remove_class(
    model: options.Edited,
    name: Annotated[str, typer.Argument(help="Name of the class.")],
    encoder: options.Where = None,
    refit: RefitOption = False,
    wait: options.Wait = WAIT_S,
    as_json: options.Json = False,
) -> None:
    """Remove a class and its shots."""
    with _editing(model, wait, encoder) as classifier:
        gone = classifier.remove_class(name, refit=refit)
    _tell(model, classifier, {"ids": list(gone)}, f"{name} removed, with {_counted(len(gone), 'shot')}", as_json)


@classes.command("rename", cls=ReadableCommand)
def rename_class(
    model: options.Edited,
    name: Annotated[str, typer.Argument(help="Name of the class.")],
    new_name: Annotated[str, typer.Argument(help="Its new name.")],
    text: TextsOption = None,
    encoder: options.Where = None,
    refit: RefitOption = False,
    wait: options.Wait = WAIT_S,
    as_json: options.Json = False,
) -> None:
    """Rename a class. Its texts, and so all predictions, stay the same unless --text is given."""
    with _editing(model, wait, encoder) as classifier:
        classifier.rename_class(name, new_name, text or None, refit=refit)
    _tell(model, classifier, {}, f"{name} is {new_name} now", as_json)


def shots(
    model: options.Model,
    class_name: Annotated[str | None, typer.Option("--class", "-c", help="List only the shots of this class.")] = None,
    as_json: options.Json = False,
) -> None:
    """List the shots of a saved classifier: ids, classes and files."""
    from tip_adapter.classifier import ImageClassifier
    from tip_adapter.model.description import listed_shots

    rows = listed_shots(ImageClassifier.load(model).model_, class_name)
    if as_json:
        echo_json({"shots": rows})
        return
    echo_table([whole("id"), text("class"), text("photo")], [list(row.values()) for row in rows])
    if rows:
        echo_next("remove", model, rows[0]["id"], so_that="take a shot out")


def journal(model: options.Model, as_json: options.Json = False) -> None:
    """List what was done to a saved classifier, and so what can be undone."""
    from tip_adapter.classifier import ImageClassifier

    rows = [entry.to_dict() for entry in ImageClassifier.load(model).journal]
    if as_json:
        echo_json({"journal": rows})
        return
    cells = []
    for row in rows:
        ids = ", ".join(row["ids"][:4]) + (" …" if len(row["ids"]) > 4 else "")
        note = " (undone)" if row["undone"] else ""
        count = str(row["shots"]) if row["shots"] else ""
        cells.append([str(row["number"]), row["when"], row["action"] + note, ", ".join(row["classes"]), count, ids])
    columns = [number(""), whole("when"), text("what"), text("classes"), number("shots"), text("ids")]
    echo_table(columns, cells)
    if any(row["action"] != "fit" and not row["undone"] for row in rows):
        echo_next("undo", model, so_that="take the last edit back")
    else:
        echo_next("shots", model, so_that="list the shots")


def _tell_added(
    path: str,
    classifier: ImageClassifier,
    added: AddedShots,
    findings: Findings,
    *,
    as_json: bool,
    new_class: str | None = None,
) -> None:
    # What was skipped in a data set is in the result already.
    skipped = tuple(dict.fromkeys((*findings.skipped, *added.skipped)))
    echo_skipped(skipped)
    if not as_json:
        for name, shot, class_name in added.known:
            echo(f"already there: {name} is the shot {shot} of {class_name}", err=True)
    facts = added.to_dict() | left_out(skipped, findings)
    number = _counted(len(added.ids), "shot")
    _tell(path, classifier, facts, f"{new_class} added, with {number}" if new_class else f"{number} added", as_json)


def _tell(path: str, classifier: ImageClassifier, facts: dict[str, Any], sentence: str, as_json: bool) -> None:
    model = classifier.model_
    if as_json:
        echo_json(facts | state_of(model))
        return
    echo(f"{sentence}: {model.counted}")
    warn_of_stale(classifier)
    if model.stale:
        echo_next("refit", path, so_that="choose the hyper-parameters for the shots as they are now")
    else:
        echo_next("journal", path, so_that="see what was done")


def state_of(model: FewShotModel) -> dict[str, Any]:
    """What an edit leaves, as JSON values."""
    counts = dict(zip(model.class_names, model.counts.tolist(), strict=True))
    return {"shots": len(model.shots), "classes": counts, "stale": list(model.stale)}


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
