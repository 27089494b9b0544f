"""`jaxle.find`: units that answer to a text or a picture, against plain NumPy, and its null."""

import numpy as np
import pytest

import jaxle
from jaxle.pipeline import defaults
from jaxle.pipeline.find import COLUMNS
from jaxle.pipeline.load import load_run
from tests import runs


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("find") / "run"
    fields = {
        "data.limit": 200,
        "methods.siglip": defaults.siglip("scenes_siglip_s"),
        "simulators": {"m": defaults.tower("scenes_siglip_s").to_dict()},
        "concepts.sets": ("colours", "annotations"),
    }
    runs.quick(folder, fields)
    return load_run(folder)


def test_a_word_is_found_as_by_plain_arithmetic(run):
    table = run.explanations("layer1", "siglip")
    word = next(row.concepts[0] for row in table if row.concepts)
    found = jaxle.find(run, text=word, most=16)
    assert list(found) == list(COLUMNS) and len(found) == 16
    assert found["score"].is_monotonic_decreasing and (found["q"] >= found["p"]).all()
    matrix, test = run.concept_matrix("siglip"), np.asarray(run.split.test)
    probs = np.asarray(matrix.rows(test), np.float64)
    names = list(matrix.concepts)
    weights = np.zeros((len(names), len(table)))
    for k, row in enumerate(table):
        weights[[names.index(name) for name in row.concepts], k] = row.weights
    simulated = probs @ weights
    share = probs[:, names.index(word)] / probs[:, names.index(word)].sum()
    away = share @ simulated - simulated.mean(axis=0)
    size = np.asarray(run.activations("layer1")[test], np.float64).std(axis=0)
    by_unit = found.set_index("unit")["score"]
    np.testing.assert_allclose(by_unit.sort_index(), away / size, atol=1e-4)
    # the null: the same images weighted in other orders
    rng, k = np.random.default_rng(0), int(found["unit"][0])
    drawn = np.array([rng.permutation(share) @ simulated[:, k] for _ in range(4000)])
    p = found["p"][0]
    assert abs((drawn >= share @ simulated[:, k]).mean() - p) < 0.02 + 0.2 * p


def test_any_text_and_any_picture(run):
    by_text = jaxle.find(run.workdir, text="a large red circle", tap="layer1", most=3)
    assert len(by_text) == 3 and np.isfinite(by_text["score"]).all()
    picture = run.image(int(run.split.test[0]))
    found = jaxle.find(run, image=picture, most=16)
    table, matrix = run.explanations("layer1", "siglip"), run.concept_matrix("siglip")
    simulated = jaxle.simulate(table, np.asarray(matrix.rows(run.split.test)), matrix.concepts)
    size = np.asarray(run.activations("layer1")[run.split.test], np.float64).std(axis=0)
    expected = (simulated[0] - simulated.mean(axis=0)) / size
    np.testing.assert_allclose(found.set_index("unit")["score"].sort_index(), expected, atol=2e-3)
    assert ((found["p"] > 0) & (found["p"] <= 1)).all()


def test_by_labels_a_concept_is_found(run):
    concept = run.explanations("layer1", "label").concepts[0]
    found = jaxle.find(run, text=concept, method="label", most=2)
    assert found["score"][0] > 0


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({}, "find looks for a text or for an image: expected one of the two."),
        ({"text": "red", "image": np.zeros((4, 4, 3), np.uint8)}, "expected one of the two"),
        ({"text": "red", "method": "labels"}, "the run has no method 'labels': did you mean"),
        ({"text": "red", "tap": "layer9"}, "the run has no tap 'layer9'"),
        ({"text": "zebra crossing", "method": "label"}, "knows no concept 'zebra crossing'"),
        ({"image": np.zeros((4, 4, 3), np.uint8), "method": "label"}, "which a picture needs"),
        ({"text": "犬"}, "knows nothing of the text '犬'"),
        ({"text": 5}, "text must be one text, got a int"),
        ({"text": ["red"]}, "text must be one text, got a list"),
        ({"image": "x.png"}, "image must be a picture, not a file's name"),
        ({"text": "red", "tap": 5}, "the run has no tap 5: valid: layer1"),
        ({"text": "red", "most": 0}, "most must be a whole number of at least 1, got 0"),
    ],
)
def test_bad_queries_are_one_sentence(run, options, sentence):
    with pytest.raises(ValueError) as error:
        jaxle.find(run, **options)
    assert sentence in str(error.value) and "\n" not in str(error.value)
