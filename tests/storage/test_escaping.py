"""Names are data in every medium: no control sequence, formula, markup or line break of theirs takes effect."""

import csv
import io
import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tip_adapter.storage.escaping import for_csv, for_html, for_json, for_markdown, for_terminal

ANY = st.text(st.characters(codec=None), max_size=20)


@given(ANY)
def test_a_terminal_sees_nothing_that_steers_it(name):
    shown = for_terminal(name)
    assert not any(unicodedata.category(letter) in {"Cc", "Cs", "Zl", "Zp"} for letter in shown)
    assert not set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\ufeff") & set(shown)
    assert len(shown.splitlines()) <= 1


@pytest.mark.parametrize("name", ["röd", "日本", "क्षि", "می‌خواهم", "👩‍🌾", "a b", "a\u00a0b\u202fPM", "c:\\new\\table"])
def test_what_people_write_stays(name):
    assert for_terminal(name) == name


@given(ANY)
def test_json_stays_the_same_json(name):
    shown = for_json(json.dumps([name], ensure_ascii=False, indent=2))
    assert json.loads(shown) == [name]
    assert shown.replace("\n", "") == for_terminal(shown.replace("\n", ""))


@given(ANY)
def test_no_cell_begins_a_formula(name):
    cell = for_csv(name)
    assert cell in (for_terminal(name), f"'{for_terminal(name)}")
    assert len(cell.splitlines()) <= 1
    if cell.strip() and cell.lstrip()[0] in "=+-@＝＋－＠":
        float(cell)


@pytest.mark.parametrize("value", [-1.5, 3, None, "-1.5", "+2e3", "a=b", "1-2"])
def test_numbers_and_other_words_stay(value):
    assert for_csv(value) is value


@given(ANY.map(lambda name: f"={name}"))
def test_formulas_are_words(name):
    assert for_csv(name).startswith("'=")


@given(ANY.filter(lambda name: "\x00" not in name))
def test_a_cell_is_read_as_it_was_written(name):
    buffer = io.StringIO()
    csv.writer(buffer).writerow([for_csv(name), "end"])
    assert next(csv.reader(io.StringIO(buffer.getvalue(), newline=""))) == [for_csv(name), "end"]


@given(ANY)
def test_markdown_shows_a_name_as_it_is(name):
    from markdown_it import MarkdownIt

    table = f"| class |\n|---|\n| x{for_markdown(name)}x |\n"
    tokens = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(table)
    (cell,) = [token for token in tokens if token.type == "inline"][1:]
    assert {child.type for child in cell.children} <= {"text", "text_special"}
    assert "".join(child.content for child in cell.children) == f"x{for_terminal(name)}x"


@given(ANY)
def test_html_shows_a_name_as_it_is(name):
    import html

    shown = for_html(name)
    assert not set("<>\"'") & set(shown)
    assert html.unescape(shown) == for_terminal(name) or "&" in name
