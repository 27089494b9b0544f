"""The label sheet: untrusted text stays text, nothing is fetched, answers come back as given."""

import base64
import csv
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from jaxle.report.label_sheet import Sheet, open_line, read_answers, sheet_of, write_sheet

NASTY = ('<script>alert("1")</script>', "a, \"b\" & 'c'", "{{ 7*7 }}", "naïve 狗", "</script>")
SHEET = Sheet("abc123", ("n01/a.png", "n01/b.png", "x, y"), ("dog", "image", *NASTY))


def pictures(n=3, size=(40, 30)):
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*size[::-1], 3), dtype=np.uint8) for _ in range(n)]


class Page(HTMLParser):
    """Elements with their attributes, and the text outside script and style."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.elements, self.texts, self.facts, self._in = [], [], "", []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "input"):
            self._in.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        while self._in and self._in.pop()[0] != tag:
            pass

    def handle_data(self, data):
        tag, attributes = self._in[-1] if self._in else ("", {})
        if attributes.get("id") == "facts":
            self.facts += data
        elif tag not in ("script", "style") and data.strip():
            self.texts.append(data.strip())

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def html():
    return write_sheet(SHEET, pictures())


def filled(rows, words=SHEET.words, sheet="abc123"):
    """A CSV as the page writes it: CRLF, quotes where needed."""
    file = io.StringIO(newline="")
    csv.writer(file).writerows(
        [["sheet", "image", *words], *([sheet, image, *cells] for image, cells in rows)]
    )
    return file.getvalue()


# --- the page ------------------------------------------------------------------------------------


def test_one_box_a_word_in_every_picture_and_words_stay_text(html):
    page = Page(html)
    boxes = [a for a in page.all("input") if a.get("type") == "checkbox"]
    assert len(boxes) == 3 * len(SHEET.words)
    for word in SHEET.words:
        assert page.texts.count(word) == 3, word
    assert len(page.all("script")) == 2  # the facts and the page's own
    facts = json.loads(page.facts)
    assert facts == {
        "sheet": SHEET.name,
        "images": list(SHEET.images),
        "words": list(SHEET.words),
    }
    assert "49" not in page.texts


def test_nothing_is_fetched(html):
    page = Page(html)
    sources = [a["src"] for _, a in page.elements if "src" in a]
    assert len(sources) == 3
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert not page.all("link")
    assert not re.search(r"https?://|//cdn|@import|url\(", html)
    [policy] = [a for a in page.all("meta") if "http-equiv" in a]
    assert policy["content"].startswith("default-src 'none'")


def test_names_of_images_do_not_show(html):
    page = Page(html)
    assert not any("n01" in text for text in page.texts)
    assert [a["alt"] for a in page.all("img")] == ["Picture 1", "Picture 2", "Picture 3"]


def test_everything_has_a_name_for_those_who_do_not_see_it(html):
    page = Page(html)
    assert page.all("html")[0]["lang"] == "en"
    assert len(page.all("legend")) == len(page.all("fieldset")) == 3
    named = {a["id"] for a in page.all("h2")}
    assert {a["aria-labelledby"] for a in page.all("li")} == named
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))


def test_small_pictures_are_exact_and_large_ones_are_made_smaller():
    small, large = pictures(1)[0], np.full((900, 1200, 3), 90, np.uint8)
    page = Page(write_sheet(Sheet("s", ("a", "b"), ("w",)), [small, large]))
    got = []
    for attributes in page.all("img"):
        data = base64.b64decode(attributes["src"].partition(",")[2])
        got.append(np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))
    np.testing.assert_array_equal(got[0], small)
    assert got[1].shape == (384, 512, 3)
    assert np.abs(got[1].astype(int) - 90).max() <= 2


# --- the answers ---------------------------------------------------------------------------------


def test_answers_come_back_whatever_the_order_of_rows_and_columns():
    n = len(SHEET.words)
    first, second = [str(i % 2) for i in range(n)], ["1"] * n
    text = filled([("x, y", first), ("n01/a.png", second), ("n01/b.png", [""] * n)])
    assert sheet_of(text) == "abc123"
    got = read_answers(text, SHEET)
    np.testing.assert_array_equal(got.values[2], np.arange(n) % 2)
    np.testing.assert_array_equal(got.values[0], np.ones(n))
    assert np.isnan(got.values[1]).all()
    assert got.open == ("n01/b.png",)
    turned = filled([("x, y", first[::-1])], SHEET.words[::-1])
    np.testing.assert_array_equal(read_answers(turned, SHEET).values[2], np.arange(n) % 2)


def test_a_spreadsheet_may_have_rewritten_the_file():
    rows = [(image, ["1"] * len(SHEET.words)) for image in SHEET.images]
    text = "\ufeff" + filled(rows).replace("\r\n", "\n") + "\n\n"
    assert (read_answers(text, SHEET).values == 1).all()


def test_what_is_not_answered_is_named():
    n = len(SHEET.words)
    text = filled([("n01/a.png", ["1"] * n), ("x, y", ["0"] * (n - 1) + [""])])
    got = read_answers(text, SHEET)
    assert got.open == ("n01/b.png", "x, y")
    line = open_line(got)
    assert line.startswith("2 of 3 pictures are not fully answered (n01/b.png, x, y)")
    assert open_line(read_answers(filled([(i, ["1"] * n) for i in SHEET.images]), SHEET)) == ""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the answers begin with ''"),
        ("unit,concept\n3,dog\n", "the answers begin with 'unit,concept'"),
        ('sheet,image,"dog\n', "line 1 of the answers is no CSV"),
        ("sheet,image,dog\n", r"name 0 sheets \(none\)"),
        ("sheet,image,dog\na,x,1\nb,x,1\n", r"name 2 sheets \(a, b\)"),
        ("sheet,image,dog\nabc123,n01/a.png,1,0\n", "line 2 of the answers has 4 cells"),
    ],
)
def test_what_is_no_file_of_answers_is_refused(text, words):
    with pytest.raises(ValueError, match=words):
        sheet_of(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            filled([("n01/c.png", "1" * 7)]),
            r"line 2 of the answers names the image 'n01/c.png'.*did you mean 'n01/",
        ),
        (filled([("x, y", "1" * 7)] * 2), "line 3 of the answers names the image 'x, y' again"),
        (
            filled([("x, y", "1" * 7)], ("dogs", *SHEET.words[1:])),
            "have a column 'dogs'.*did you mean 'dog'",
        ),
        (filled([("x, y", "1" * 7)], ("dog", *SHEET.words[:-1])), "the column 'dog' twice"),
        (filled([("x, y", "1" * 6)], SHEET.words[1:]), "lack the column 'dog'"),
        (
            filled([("x, y", ["1", "yes", *"00000"])]),
            "line 2 of the answers holds 'yes' for 'image': expected 1",
        ),
        (filled([("x, y", ["0.5", *"000000"])]), "holds '0.5' for 'dog'"),
        (filled([("x, y", "1" * 7)], sheet="other"), "is of the sheet 'other': expected 'abc123'"),
    ],
)
def test_a_wrong_answer_gets_a_sentence(text, words):
    with pytest.raises(ValueError, match=words):
        read_answers(text, SHEET)
