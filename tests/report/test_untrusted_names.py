"""Names that are code, right to left, or too long are text on every view; pictures may be absent;
axe-core finds no serious fault."""

from __future__ import annotations

import shutil
from urllib.parse import quote

import pytest

from tests.report.made import NEURONS, TAPS, UNTRUSTED, image_name, write_made_report

STRANGE = f"#/neuron/{quote(TAPS[1], safe='')}/{NEURONS - 1}"
WORDS = tuple(f"#/word/{quote(name, safe='')}" for name in (UNTRUSTED[0], UNTRUSTED[6]))
VIEWS = ("#/", "#/neurons", STRANGE, "#/neuron/layer1/3", "#/words", "#/map", "#/compare", *WORDS)
AXE = """async () => {
  const found = await axe.run(document, { resultTypes: ["violations"], preload: false });
  return found.violations.filter((v) => ["serious", "critical"].includes(v.impact))
    .map((v) => [v.id, v.nodes.length, v.nodes[0].html, v.nodes[0].failureSummary]);
}"""


@pytest.fixture(scope="module")
def report(chromium, tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "a # folder?"
    write_made_report(folder, "all", against=True)
    return folder


@pytest.mark.parametrize("width", [1280, 360])
def test_names_are_text_and_fit(report, reader, width):
    own = reader(report, viewport={"width": width, "height": 800})
    page = own.open()
    for view in VIEWS:
        own.go(view)
        assert own.overflow() <= 0, view
        assert page.locator("main script, main img, main b b, main i i").count() == 0, view
    for name in UNTRUSTED:
        own.go(f"#/word/{quote(name, safe='')}")
        assert page.locator("h1").text_content() == name
        assert page.locator("table.neurons").count() > 0
    own.go(STRANGE)
    assert page.locator("h1").text_content() == f"{TAPS[1]} neuron {NEURONS - 1}"
    found = page.locator("table.parts tbody th").all_text_contents()
    assert sorted(found[: len(UNTRUSTED)]) == sorted(UNTRUSTED)
    page.locator(".ranks .card").first.click()
    assert page.locator("dialog h2").text_content() in map(image_name, range(48))
    assert page.locator("dialog img").evaluate("i => i.decode().then(() => i.naturalWidth)") == 24
    assert own.overflow() <= 0


def test_a_strange_name_is_searched_for_and_compared(report, reader):
    own = reader(report)
    page = own.open()
    page.fill("#query", "<script>")
    page.press("#query", "Enter")
    page.wait_for_selector("#found")
    assert UNTRUSTED[0] in own.text("#found")
    own.go("#/compare")
    page.wait_for_selector("#choose-b")
    chosen = page.locator("#choose-b option:checked").text_content()
    assert chosen.startswith("second of <img") and page.locator(".charts figure").count() == 2


def test_pictures_can_be_absent(report, reader, tmp_path):
    for kind in ("none", "thumbnails"):
        write_made_report(tmp_path / kind, kind)
        own = reader(tmp_path / kind)
        page = own.open("#/neuron/layer1/0")
        first = page.locator(".ranks .thumb").first
        stored = "t => getComputedStyle(t).backgroundImage.includes('.webp')"
        if kind == "none":
            assert first.text_content() in map(image_name, range(48))
            assert not (tmp_path / kind / "sprites").exists()
        else:
            own.until(f"({stored})(document.querySelector('.ranks .thumb'))")
        assert first.evaluate(stored) == (kind == "thumbnails")
        page.locator(".ranks .card").first.click()
        assert page.locator("dialog img").count() == 0 and own.overflow() <= 0


def test_a_missing_file_is_named(report, reader, tmp_path):
    shutil.copytree(report, tmp_path / "part")
    (tmp_path / "part/data/neurons/0/0.js").unlink()
    own = reader(tmp_path / "part")
    own.open("#/neuron/layer1/0")
    assert "data/neurons/0/0.js" in own.text("main p")
    assert len(own.faults) == 1 and "ERR_FILE_NOT_FOUND" in own.faults.pop()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_fault(report, reader, axe, scheme):
    own = reader(report, color_scheme=scheme)
    for view in VIEWS[:-1]:
        page = own.open(view)
        page.evaluate(axe)
        assert page.evaluate(AXE) == [], view
    page.locator("table.neurons th a").first.click()
    page.wait_for_selector(".ranks")
    page.locator(".ranks .card").first.click()
    assert page.evaluate(AXE) == []
