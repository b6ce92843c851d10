"""Tables as spreadsheets, competitions and programs write them; whatever is not understood is said in one line."""

import csv
import io
import json
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from image_files import touch
from tip_adapter.data import Findings, find_images, load_dataset, load_splits
from tip_adapter.errors import DatasetError, SkippableError, TipAdapterError

PATH_COLUMNS = [
    "path",
    "file_name",
    "filename",
    "File Name",
    "image",
    "Image Path",
    "image_path",
    "filepaths",
    "img",
    "id",
]
LABEL_COLUMNS = ["label", "class", "Class Name", "breed", "category", "species", "target", "labels", "dx", "quality"]


@pytest.fixture
def folder(tmp_path):
    return touch(tmp_path, *(f"img/{name}.jpg" for name in ("a1", "a2", "b1", "b2")))


def rows_of(dataset, root):
    names = [dataset.class_names[label] for label in dataset.labels]
    return sorted(zip([path.relative_to(root).as_posix() for path in dataset.paths], names, strict=True))


EXPECTED = [("img/a1.jpg", "ant"), ("img/a2.jpg", "ant"), ("img/b1.jpg", "bee"), ("img/b2.jpg", "bee")]


def as_csv(columns, rows, delimiter=","):
    buffer = io.StringIO()
    csv.writer(buffer, delimiter=delimiter).writerows([columns, *rows])
    return buffer.getvalue()


@settings(max_examples=150, deadline=None)
@given(
    columns=st.tuples(st.sampled_from(PATH_COLUMNS), st.sampled_from(LABEL_COLUMNS)),
    form=st.sampled_from(
        ["img/{}.jpg", "img\\{}.jpg", "./img/{}.jpg", "{}.jpg", "{}", "{}.JPG", "/content/img/{}.jpg", " img/{}.jpg "]
    ),
    delimiter=st.sampled_from(",;\t|"),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    newline=st.sampled_from(["\n", "\r\n"]),
    blanks=st.booleans(),
    last=st.booleans(),
)
def test_dialects_of_csv(columns, form, delimiter, encoding, newline, blanks, last):
    """Any of the names for columns, ways to write a path, delimiters, encodings and blanks give the same photos."""
    with tempfile.TemporaryDirectory() as root:
        touch(root, *(path for path, _ in EXPECTED))
        rows = [[form.format(Path(path).stem), label] for path, label in EXPECTED]
        columns = list(columns)
        if last:
            columns, rows = [*columns, "width"], [[*row, "640"] for row in rows]
            columns[1] = "label" if columns[1] == "quality" else columns[1]
        if blanks:
            columns, rows = [f" {name} " for name in columns], [[f"{cell} " for cell in row] for row in rows]
        text = as_csv(columns, rows, delimiter).replace("\r\n", newline)
        (Path(root) / "table.csv").write_bytes(text.encode(encoding))
        assert rows_of(load_dataset(Path(root) / "table.csv"), root) == EXPECTED


@pytest.mark.parametrize("form", ["img/{}.jpg", "{}"])
@pytest.mark.parametrize("name", ["m.jsonl", "m.ndjson", "m.parquet", "m.tsv"])
def test_other_kinds_of_tables(folder, name, form):
    rows = [{"file_name": form.format(Path(path).stem), "species": label, "box": [1, 2]} for path, label in EXPECTED]
    if name.endswith("parquet"):
        pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        parquet.write_table(pa.Table.from_pylist(rows), folder / name)
    elif name.endswith("tsv"):
        text = as_csv(list(rows[0]), [list(row.values()) for row in rows], "\t")
        (folder / name).write_text(text, encoding="utf-8")
    else:
        (folder / name).write_text("\n".join(map(json.dumps, rows)))
    assert rows_of(load_dataset(folder / name), folder) == EXPECTED
    assert load_dataset(folder / name).findings.lines == [
        f'{folder / name}: photos by "file_name", classes by "species"'
    ]


def write(folder, name, text):
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


# ---------------------------------------------------------------- shapes of the field


def test_a_competition_with_ids_and_two_folders(tmp_path):
    """One table of ids without suffix, the photos of train and test in folders that number them alike."""
    touch(tmp_path, *(f"{split}/{number}.jpg" for split in ("train", "test") for number in range(4)))
    write(tmp_path, "labels.csv", "id,breed\n0,pug\n1,pug\n2,boxer\n3,boxer\n")
    write(tmp_path, "sample_submission.csv", "id,label\n0,pug\n1,boxer\n")
    for source in (tmp_path, tmp_path / "labels.csv"):
        dogs = load_dataset(source, prefer=("train",))
        assert dogs.class_names == ("boxer", "pug")
        assert {path.parent.name for path in dogs.paths} == {"train"}
    write(tmp_path, "trainLabels.csv", "id,label\n0,cat\n1,owl\n")
    assert {path.parent.name for path in load_dataset(tmp_path / "trainLabels.csv").paths} == {"train"}
    write(tmp_path, "test.csv", "id,label\n0,cat\n1,owl\n")
    assert {path.parent.name for path in load_dataset(tmp_path / "test.csv").paths} == {"test"}


def test_photos_in_numbered_parts(tmp_path):
    touch(tmp_path, "part_1/x1.jpg", "part_1/x2.jpg", "part_2/x3.jpg")
    write(tmp_path, "metadata.csv", "lesion,image_id,dx,age\n9,x1,nv,80\n9,x2,mel,70\n9,x3,nv,60\n")
    assert rows_of(load_dataset(tmp_path), tmp_path) == [
        ("part_1/x1.jpg", "nv"),
        ("part_1/x2.jpg", "mel"),
        ("part_2/x3.jpg", "nv"),
    ]


def test_an_image_folder_with_its_table(folder):
    write(
        folder,
        "img/metadata.jsonl",
        "".join(f'{{"file_name": "{Path(p).name}", "label": "{label}"}}\n' for p, label in EXPECTED),
    )
    assert rows_of(load_dataset(folder), folder) == EXPECTED
    assert rows_of(load_dataset(folder / "img"), folder) == EXPECTED


def test_zeros_and_ones(tmp_path):
    """A table for each split, with a column for each class and blanks before their names."""
    for split in ("train", "valid", "test"):
        touch(tmp_path, f"{split}/a.jpg", f"{split}/b.jpg")
        write(tmp_path, f"{split}/_classes.csv", "filename, ant, bee\na.jpg, 1, 0\nb.jpg, 0, 1\n")
    splits = load_splits(tmp_path)
    assert set(splits) == {"train", "validation", "test"}
    assert all(dataset.class_names == ("ant", "bee") for dataset in splits.values())
    floats = write(tmp_path, "train/f.csv", "image,ant,bee,rest\na,1.0,0.0,0.0\nb,0.0,1.0,0.0\n")
    assert load_dataset(floats).class_names == ("ant", "bee")
    several = write(tmp_path, "train/s.csv", "filename,ant,bee\na.jpg,1,1\nb.jpg,0,1\n")
    with pytest.raises(DatasetError, match=r"one class for each photo in .*, got 2 in row 2 \(ant, bee\): keep one"):
        load_dataset(several)


def test_names_beside_numbers_and_a_split_in_words(tmp_path):
    touch(tmp_path, *(f"{split}/{name}.jpg" for split in ("train", "test") for name in "ab"))
    rows = ["0,train/a.jpg,AIR HOCKEY,train,AH", "1,train/b.jpg,BMX,train,BM"]
    rows += ["0,test/a.jpg,AIR HOCKEY,test,AH", "1,test/b.jpg,BMX,test,BM"]
    path = write(tmp_path, "sports.csv", "\n".join(["class id,filepaths,labels,data set,code", *rows]))
    assert set(load_splits(path)) == {"train", "test"}
    sports = load_dataset(path, prefer=("train",))
    assert sports.class_names == ("AIR HOCKEY", "BMX")
    assert len(load_dataset(path, split="none")) == 4
    path = write(tmp_path, "two.csv", "path,target,species\ntrain/a.jpg,0,ant\ntrain/b.jpg,1,bee\n")
    assert load_dataset(path).class_names == ("ant", "bee")


def test_numbers_that_became_floats(folder):
    path = write(folder, "m.csv", "path,label\nimg/a1.jpg,1.0\nimg/b1.jpg,0.0\n")
    assert load_dataset(path).class_names == ("0", "1")
    path = write(folder, "m.jsonl", '{"path": "img/a1.jpg", "label": 1.0}\n{"path": "img/b1.jpg", "label": 0}\n')
    assert load_dataset(path).class_names == ("0", "1")
    path = write(folder, "v.csv", "path,label\nimg/a1.jpg,1.0\nimg/b1.jpg,1.5\n")
    assert load_dataset(path).class_names == ("1.0", "1.5")


def test_the_products_own_predictions_are_no_labels(folder):
    path = write(folder, "answers.csv", "path,class,probability\nimg/a1.jpg,ant,0.9\nimg/b1.jpg,bee,0.8\n")
    with pytest.raises(DatasetError, match=r"a table of known classes at .*, got predictions with probabilities"):
        load_dataset(path)
    touch(folder, "ant/1.jpg", "bee/1.jpg")
    assert load_dataset(folder).class_names == ("ant", "bee", "img")


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "path,class,category\nimg/a1.jpg,x,2\nimg/a2.jpg,y,2\n",
            "got class and category: name one of them label",
        ),
        (
            "width,height\n1,2\n",
            "a column of files in .*, such as path, file_name or image, got the columns width, height",
        ),
        (
            "img/a1.jpg,ant\nimg/b1.jpg,bee\n",
            r"names of columns in the first line of .*, got img/a1\.jpg: put path,label",
        ),
        (
            "path,notes,owner\nimg/a1.jpg,x,y\n",
            "a column of classes in .*, such as label, class or category, got the col",
        ),
        ("path,caption\n" + "".join(f"img/a1.jpg,text {n}\n" for n in range(9)), "a column of classes in"),
        (
            "path,label\nhttps://example.com/a1.jpg,ant\n",
            "got the web address https://example.com/a1.jpg: nothing is down",
        ),
        ("url,label\nhttps://example.com/a1.jpg,ant\n", "got the web address"),
        (
            "path,label\nimg/a1.jpg,\nimg/a2.jpg,\nimg/b1.jpg,bee\n",
            "a label in every row of .*, got none in rows 2, 3: fill",
        ),
        (
            "path,label\nimg/gone.jpg,x\nimg/lost.jpg,x\n",
            r"an image at .*gone\.jpg \(row 2 of .*\), found none, nor for 1 o",
        ),
        ("path,path,label\nimg/a1.jpg,img/a1.jpg,x\n", "the column path once in .*, got it twice: rename one"),
        (
            "path,label\nimg/a1.jpg,ant\nimg/a1.jpg,bee\n",
            r"one label for img/a1\.jpg in .*, got 'ant' and 'bee' in row 3",
        ),
    ],
)
def test_what_is_not_understood_is_one_clear_line(folder, text, message):
    path = write(folder, "m.csv", text)
    with pytest.raises(DatasetError, match=message) as caught:
        load_dataset(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_name_in_several_folders_is_not_guessed(tmp_path):
    touch(tmp_path, "x/1.jpg", "y/1.jpg", "x/2.jpg", "y/2.jpg")
    path = write(tmp_path, "m.csv", "file,label\n1.jpg,ant\n2.jpg,bee\n")
    with pytest.raises(DatasetError, match=r"1\.jpg of .* once in .*, got .*x/1\.jpg, .*y/1\.jpg: name the folder"):
        load_dataset(path)


@given(st.sets(st.sampled_from(["row", "label", "blank"]), min_size=1))
def test_skipping_goes_on_and_lists(kinds):
    with tempfile.TemporaryDirectory() as root:
        touch(root, *(path for path, _ in EXPECTED))
        extra = {"row": "img/gone.jpg,ant", "label": "img/a1.jpg,", "blank": ",bee"}
        lines = ["path,label", *(",".join(pair) for pair in EXPECTED[1:]), *(extra[kind] for kind in sorted(kinds))]
        path = write(Path(root), "m.csv", "\n".join(lines))
        with pytest.raises(SkippableError):
            load_dataset(path)
        dataset = load_dataset(path, skip_bad=True)
        assert rows_of(dataset, root) == EXPECTED[1:]
        assert len(dataset.findings.skipped) == len(kinds)


def test_a_row_that_is_there_twice_counts_once_and_is_said(folder):
    path = write(folder, "m.csv", "path,label\n" + "".join(f"{p},{label}\n" for p, label in [*EXPECTED, *EXPECTED[:2]]))
    dataset = load_dataset(path)
    assert rows_of(dataset, folder) == EXPECTED
    assert dataset.findings.lines == [f"{path}: 2 rows name a photo that another row names, too"]


def test_a_table_in_an_archive_names_nothing_outside_it(tmp_path):
    import zipfile

    touch(tmp_path, "secret.jpg")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("1.jpg", b"")
        archive.writestr("m.csv", f"path,label\n1.jpg,ant\n{tmp_path}/secret.jpg,bee\n../secret.jpg,cat\n")
    path = tmp_path / "a.zip" / "m.csv"
    with pytest.raises(SkippableError, match=r"an image at .*secret\.jpg \(row 3 of .*\), found none, nor for 1 other"):
        load_dataset(path)
    assert [image.name for image in load_dataset(path, min_classes=1, skip_bad=True).paths] == ["1.jpg"]


# ---------------------------------------------------------------- hostile tables


HOSTILE = [
    '{"path": "img/a1.jpg", "label": ' + "[" * 100_000,
    '{"path": "img/a1.jpg", "label": ' + "9" * 5000 + "}",
    '{"path": "img/a1.jpg", "label": 1e999}',
    '{"path": "img/a1.jpg", "label": NaN}',
    '{"path": "img/\\ud800.jpg", "label": "ant"}',
    '{"path": "img/a1.jpg", "label": "\\udfff"}',
    '{"path": "img/a\\u0000.jpg", "label": "ant"}',
    '{"path": {"bytes": "x"}, "label": "ant"}',
    '{"path": "/dev/zero", "label": "ant"}',
    '{"path": ".", "label": "ant"}',
    '{"path": "' + "a/" * 5000 + '", "label": "ant"}',
    '{"\\ud800": 1}',
    "{}",
    "null",
]


@pytest.mark.parametrize("line", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_rows_end_in_one_line(folder, line):
    path = write(folder, "m.jsonl", '{"path": "img/b1.jpg", "label": "bee"}\n' + line)
    with pytest.raises(DatasetError) as caught:
        load_dataset(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 12_000


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([".csv", ".tsv", ".jsonl", ".parquet"]),
    st.binary(max_size=200) | st.text(max_size=80).map(str.encode),
)
def test_any_bytes_end_in_one_line(suffix, content):
    with tempfile.TemporaryDirectory() as root:
        path = touch(root, "a.jpg") / f"m{suffix}"
        path.write_bytes(content)
        error = None
        try:
            load_dataset(path)
        except TipAdapterError as caught:
            error = str(caught)
        assert error is not None
        assert str(path) in error or suffix == ".parquet"
        assert os.linesep not in error


def test_a_table_for_each_split_beside_one_folder(tmp_path):
    touch(tmp_path, *(f"images/{number}.jpg" for number in range(4)))
    write(tmp_path, "train.csv", "image,label\n0.jpg,ant\n1.jpg,bee\n")
    write(tmp_path, "val.csv", "image,label\n2.jpg,ant\n3.jpg,bee\n")
    splits = load_splits(tmp_path)
    assert {name: [path.stem for path in dataset.paths] for name, dataset in splits.items()} == {
        "train": ["0", "1"],
        "validation": ["2", "3"],
    }
    write(tmp_path, "more.csv", "image,label\n2.jpg,ant\n3.jpg,bee\n")
    with pytest.raises(
        DatasetError, match=r"one table of classes in .*, got more\.csv, train\.csv, val\.csv: name the"
    ):
        load_dataset(tmp_path)


def test_a_table_without_classes_beside_class_folders(folder):
    touch(folder, "ant/1.jpg", "bee/1.jpg")
    for path in sorted((folder / "img").iterdir()):
        path.unlink()
    (folder / "img").rmdir()
    write(folder, "metadata.csv", "file_name,caption\nant/1.jpg,an ant\nbee/1.jpg,a bee\n")
    assert load_dataset(folder).class_names == ("ant", "bee")


def test_a_path_from_the_folder_above_and_from_another_computer(folder):
    name = folder.name
    for form in (f"{name}/img/{{}}.jpg", "C:\\Users\\me\\data\\img\\{}.jpg", "/kaggle/input/x/img/{}.jpg"):
        text = "path,label\n" + "".join(f"{form.format(Path(path).stem)},{label}\n" for path, label in EXPECTED)
        assert rows_of(load_dataset(write(folder, "m.csv", text)), folder) == EXPECTED
    wrong = write(folder, "m.csv", "path,label\nother/a1.jpg,ant\nimg/b1.jpg,bee\n")
    with pytest.raises(SkippableError, match=r"an image at .*other/a1\.jpg \(row 2 of"):
        load_dataset(wrong)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("image,class,category\na1.jpg,x,2\na2.jpg,y,2\n", "got class and category: name one of them label"),
        ("image,label\nz1.jpg,x\nz2.jpg,y\n", "0 of 2 photos in its column image are there"),
    ],
)
def test_a_table_in_a_folder_that_does_not_help_is_named(folder, text, why):
    write(folder, "img/labels.csv", text)
    with pytest.raises(DatasetError, match=r"the table labels\.csv does not help: ") as caught:
        load_dataset(folder / "img")
    assert why in str(caught.value)


def test_photos_to_classify_may_be_named_by_a_table(folder):
    path = write(folder, "test.csv", "id,area\na1,3\nb2,4\n")
    assert find_images([path]) == [folder / "img/a1.jpg", folder / "img/b2.jpg"]
    path = write(folder, "test.csv", "id,area\na1,3\ngone,4\n")
    with pytest.raises(SkippableError, match=r"an image at .*gone \(row 3 of .*test\.csv\), found none"):
        find_images([path])
    findings = Findings(skip_bad=True)
    assert find_images([path], findings=findings) == [folder / "img/a1.jpg"]
    assert len(findings.skipped) == 1
