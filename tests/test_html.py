"""Pages: safe with any name, complete in themselves, well formed."""

import re

import pytest

from nnunet_xlstm.html import Code, Gallery, Heading, Meter, Page, Picture, Table, Text

EVIL = "<script>alert('x')</script>&\"quoted\""


def page_of_everything(text, picture):
    return Page(
        text,
        text,
        [
            Heading(text),
            Text(text),
            Text(text),
            Table([text, "n"], [[text, 1.5], [text, None]], caption=text, total_rows=1),
            Picture(picture, text),
            Gallery([Picture(picture, text), Picture(picture, text)]),
            Code(text),
        ],
        footer=text,
    ).html()


def test_every_text_is_escaped(picture, parse):
    html = page_of_everything(EVIL, picture)
    page = parse(html)
    assert "script" not in page.tags
    assert not any(name.startswith("on") for name in re.findall(r"<[^>]*?\s(\w+)=", html))
    assert page.text.count(EVIL) == 15
    assert page.values.count(EVIL) == 3  # the pictures' alternative texts


def test_nothing_is_fetched(picture, parse):
    html = page_of_everything("name", picture)
    page = parse(html)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert not re.search(r"https?:|//\w|@import|url\(", html)
    assert page.tags.count("img") == 3
    assert {value[:22] for value in page.values if value.startswith("data:")} == {"data:image/png;base64,"}


def test_light_dark_print_and_phone(picture):
    html = page_of_everything("name", picture)
    for rule in ("prefers-color-scheme: dark", "@media print", 'name="viewport"', "overflow-x: auto"):
        assert rule in html


def test_cells():
    rows = [["a", 0.12345, 3, Meter(0.5)], ["b", float("nan"), None, Meter(None)]]
    html = Table(["name", "x", "n", "share"], rows, digits=2).html()
    cells = re.findall(r"<td[^>]*>(.*?)</td>", html)
    assert cells == ["a", "0.12", "3", '<meter min="0" max="1" value="0.500"></meter> 0.50', "b", "–", "–", "–"]
    assert html.count('class="number"') == 3 + 6  # the text column is not


def test_unknown_kind_of_picture(tmp_path):
    with pytest.raises(ValueError, match=r"case.tif: a report shows .png, .svg, .jpg"):
        Picture(tmp_path / "case.tif", "").html()


def test_write_makes_the_folder(tmp_path):
    path = Page("t", "", []).write(tmp_path / "new" / "index.html")
    assert path.read_text().startswith("<!doctype html>")


def test_captions_do_not_scroll_and_long_tables_may_break():
    short, long = (Table(["n"], [[i] for i in range(n)], "what it is").html() for n in (3, 30))
    assert short.index("<figcaption>what it is") < short.index('class="scroll"')
    assert 'class="table"' in short and 'class="table long"' in long
