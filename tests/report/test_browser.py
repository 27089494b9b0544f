"""The report as a reader sees it, in a browser on file://: views, search, keys, numbers."""

from __future__ import annotations

import csv
import io
import re

import numpy as np
import pandas as pd
import pytest

from jaxle import load_run

ABOUT = "?method=label&simulator=labels"
NEURON = "#/neuron/layer3/5" + ABOUT
VIEWS = ("#/", "#/neurons", NEURON, "#/words", "#/word/large", "#/map", "#/compare")
PHONE = {"width": 360, "height": 740}


@pytest.fixture(scope="module")
def report(chromium, request):
    return request.getfixturevalue("finished").workdir / "report"  # asked for after the browser


@pytest.fixture(scope="module")
def run(report):
    return load_run(report.parent)


def shown(x, digits=2):
    """A number as pages show it."""
    return f"{x:.{digits}f}".replace("-", "−")


def number(text):
    return float(text.replace("−", "-"))


def scores_of(run, method="label", simulator="labels"):
    return run.scores_of("layer3", method, simulator)


def listed(reader):
    """Units of the table of neurons, in its order."""
    return [int(name.split("/")[1]) for name in reader.texts("table.neurons tbody th")]


def test_every_view_opens_from_a_folder_and_fits_wide_and_narrow_windows(report, reader):
    for viewport in ({"width": 1280, "height": 900}, PHONE):
        own = reader(report, viewport=viewport)
        titles = []
        for view in VIEWS:
            own.open(view)
            titles.append(own.text("h1"))
            assert own.overflow() <= 0, (view, viewport)
        assert titles[1:] == ["Neurons", "layer3 neuron 5", "Words", "large", "Map", "Compare"]
        assert own.texts("[aria-current=page]") == ["Compare"]
    assert own.open("#/neuron/layer3/999") and "No such neuron" in own.text("h1")


def test_numbers_on_pages_equal_those_in_the_files(report, run, reader):
    own = reader(report)
    scores, table = scores_of(run), run.explanations("layer3", "label")
    for unit in (0, 5, 31):
        own.open(f"#/neuron/layer3/{unit}{ABOUT}")
        row = scores.iloc[unit]
        sizes = dict(zip(own.texts(".sizes dt"), own.texts(".sizes b"), strict=True))
        assert sizes["Test ρ"] == shown(row["correlation"], 3)
        assert sizes["Ceiling"] == shown(row["ceiling"], 3)
        assert sizes["Val ρ"] == shown(table[unit].val_correlation, 3)
        words = own.texts("table.parts tbody tr")
        assert len(words) >= len(table[unit].concepts)
        for line, name, weight in zip(
            words, table[unit].concepts, table[unit].weights, strict=False
        ):
            assert line.startswith(f"{name} {shown(weight)}")
    own.open("#/")
    lines = own.texts("table.scores tbody tr:not(.group)")
    for line, result in zip(lines, run.summary["results"], strict=True):
        assert line.startswith(f"{result['method']} by {result['simulator']}")
        for name in ("mean_correlation", "mean_ceiling"):
            assert name not in result or shown(result[name], 3) in line


def test_the_sum_of_a_picture_is_its_weights_times_its_probabilities_and_the_bias(
    report, run, reader
):
    own = reader(report)
    page = own.open(NEURON)
    table = run.explanations("layer3", "label")[5]
    page.locator(".ranks .card").first.click()
    rows = [row.locator("td, th").all_inner_texts() for row in page.locator(".sums tbody tr").all()]
    terms, (bias, simulated) = rows[:-2], (number(row[-1]) for row in rows[-2:])
    assert [row[2] for row in terms] == list(table.concepts)
    weights = np.array([number(row[0]) for row in terms])
    probs = np.array([number(row[1].replace("×", "")) for row in terms])
    np.testing.assert_allclose(weights, table.weights, atol=6e-4)
    np.testing.assert_allclose([number(row[3]) for row in terms], weights * probs, atol=2e-3)
    np.testing.assert_allclose(weights @ probs + bias, simulated, atol=5e-3)
    name = own.text("dialog h2")
    top = run.activations("layer3")[run.split.test][:, 5]
    assert name == run.names[run.split.test[int(np.argmax(top))]]
    assert own.text("dialog p b") == shown(top.max(), 3)


def test_search_ranks_neurons_by_weight_times_probability_of_a_word(report, run, reader):
    own = reader(report)
    page = own.open(f"#/{ABOUT}")
    page.keyboard.press("/")
    page.keyboard.type("large")
    page.keyboard.press("Enter")
    page.wait_for_selector("#found")
    table, spread = run.explanations("layer3", "label"), run.activations("layer3")[run.split.test]
    pull = {
        row.unit: row.weights[row.concepts.index("large")] / spread[:, row.unit].std()
        for row in table
        if "large" in row.concepts
    }
    page.select_option("#choose-layer", "layer3")
    own.until("document.getElementById('choose-layer').value === 'layer3'")
    own.until("!document.querySelector('table.neurons').innerText.match(/layer[12]/)")
    assert listed(own) == sorted(pull, key=lambda unit: -abs(pull[unit]))[:50]
    assert page.locator("table.neurons tbody tr").first.locator("td").nth(2).inner_text() == shown(
        max(pull.values(), key=abs)
    )
    page.fill("#query", "layer3/7")
    page.press("#query", "Enter")
    own.until("document.querySelector('h1').textContent.includes('neuron 7')")


def test_the_table_sorts_filters_and_turns_pages(report, run, reader):
    own = reader(report)
    page = own.open(f"#/neurons{ABOUT}&layer=layer3")
    scores = scores_of(run)
    order = np.argsort(-scores["correlation"].to_numpy(), kind="stable")
    assert listed(own) == order[:50].tolist()
    page.click(".pager button:last-child")
    own.until("document.querySelector('.pager').innerText.includes('Page 2')")
    assert listed(own) == order[50:].tolist()
    page.focus("#choose-sort-by")
    page.select_option("#choose-sort-by", "short")
    own.until("document.querySelector('.pager').innerText.includes('Page 1')")
    lengths = scores["length"].to_numpy()[listed(own)]
    assert (np.diff(lengths) >= 0).all()
    own.until("document.activeElement.id === 'choose-sort-by'")
    own.go("#/neurons?least=0.5&longest=3&method=label&layer=layer3")
    passed = scores[(scores["correlation"] >= 0.5) & (scores["length"] <= 3)]
    own.until("document.getElementById('table-longest').value === '3'")
    assert sorted(listed(own)) == passed["unit"].tolist()
    own.go("#/neurons?flag=none&layer=layer3")
    own.until("document.getElementById('choose-flag').value === 'none'")
    unflagged = int((scores["flag"].fillna("") == "").sum())
    assert own.text("#found") == f"{unflagged} neurons"


def test_a_deep_link_its_neighbours_and_the_way_back(report, reader):
    own = reader(report)
    page = own.open("#/neuron/layer3/5?method=siglip&simulator=siglip")
    assert page.locator("#choose-explained-by").input_value() == "siglip"
    page.keyboard.press("ArrowRight")
    own.until("document.querySelector('h1').textContent.endsWith('6')")
    page.click("a[rel=prev]")
    own.until("document.querySelector('h1').textContent.endsWith('5')")
    assert page.locator("#choose-explained-by").input_value() == "siglip"  # the choice is kept
    page.go_back()
    own.until("document.querySelector('h1').textContent.endsWith('6')")
    assert "layer3/6" in page.title()


def test_everything_can_be_reached_by_keys_and_focus_is_seen(report, reader):
    own = reader(report)
    page = own.open(NEURON)
    page.keyboard.press("Tab")
    assert own.text(":focus") == "Skip to the content"
    page.keyboard.press("Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "view"
    assert own.text("h1") == "layer3 neuron 5"
    card = page.locator(".ranks .card").nth(1)
    for _ in range(60):
        page.keyboard.press("Tab")
        if card.evaluate("card => card === document.activeElement"):
            break
    assert card.evaluate("card => getComputedStyle(card).outlineWidth") == "3px"
    page.keyboard.press("Enter")
    assert page.locator("dialog[open]").count() == 1
    page.keyboard.press("Escape")
    own.until("!document.querySelector('dialog')")
    assert card.evaluate("card => card === document.activeElement")
    page.keyboard.press("m")
    page.wait_for_selector(".map svg")
    page.locator(".map svg").focus()
    page.keyboard.press("ArrowRight")
    name = own.text(".picked .name a")
    page.keyboard.press("Enter")
    own.until("document.querySelector('h1').textContent === x", name.replace("/", " neuron "))


def test_dark_and_light_follow_the_system_or_the_button_and_are_remembered(report, reader):
    paper = "getComputedStyle(document.body).backgroundColor"
    own = reader(report, color_scheme="dark")
    page = own.open()
    dark = page.evaluate(paper)
    page.click("#theme")
    light = page.evaluate(paper)
    assert [sum(map(int, re.findall(r"\d+", c))) > 380 for c in (dark, light)] == [False, True]
    own.open("#/words")
    assert page.evaluate(paper) == light
    page.click("#theme")
    assert page.evaluate(paper) == dark


def test_print_shows_the_content_alone(report, reader):
    page = reader(report).open(NEURON)
    page.emulate_media(media="print", color_scheme="dark")
    assert not page.locator("header").is_visible() and page.locator(".big").is_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(250, 250, 248)"


def test_a_map_of_where_it_responds_appears_under_pointer_and_focus(report, reader):
    page = reader(report, reduced_motion="reduce").open(NEURON)
    cards = page.locator(".ranks .card")
    opacity = "card => getComputedStyle(card.querySelector('canvas')).opacity"
    assert cards.nth(0).evaluate(opacity) == "0"
    cards.nth(0).hover()
    assert cards.nth(0).evaluate(opacity) == "1"
    page.keyboard.press("Tab")
    cards.nth(2).focus()
    assert cards.nth(2).evaluate(opacity) == "1"
    assert cards.nth(1).evaluate(opacity) == "0"
    page.check("#shading")
    assert cards.nth(1).evaluate(opacity) == "1"


def test_an_explanation_is_copied_as_text_csv_latex_and_what_to_cite(report, run, reader):
    own = reader(report, permissions=["clipboard-read", "clipboard-write"])
    page = own.open(NEURON)
    row = run.explanations("layer3", "label")[5]
    found = {}
    for name in ("text", "CSV", "LaTeX", "BibTeX"):
        page.click(f"button[aria-label='Copy {name}']")
        own.until("document.getElementById('said').textContent.includes(x)", name)
        found[name] = page.evaluate("navigator.clipboard.readText()")
    assert found["text"].startswith("layer3/5: ") and all(c in found["text"] for c in row.concepts)
    table = pd.read_csv(io.StringIO(found["CSV"]))
    assert table["concept"].tolist() == [*row.concepts, "bias"]
    np.testing.assert_allclose(table["weight"], [*row.weights, row.bias], rtol=1e-5)
    assert len(list(csv.reader(io.StringIO(found["CSV"])))[0]) == 5
    assert found["LaTeX"].count(r"\text{") == len(row.concepts) and found["LaTeX"].endswith("$")
    assert found["BibTeX"].startswith("@inproceedings{") and "2405.06855" in found["BibTeX"]
