import pytest

from jaxle.references import is_reference, load_reference


@pytest.mark.parametrize(
    "text, expected",
    [
        ("jaxle.stats:pearson", True),
        ("stats:pearson", True),
        ("pearson", False),
        ("jaxle.stats", False),
        (":pearson", False),
        ("jaxle.stats:", False),
        ("jaxle..stats:pearson", False),
        ("jaxle.stats:pearson.x", False),
        ("tfds:cifar10/3.0.2", False),
        ("folder:/data/images", False),
        ("os:system('true')", False),
    ],
)
def test_a_reference_is_a_dotted_module_a_colon_and_a_name(text, expected):
    assert is_reference(text) is expected


def test_the_object_itself_is_returned():
    from jaxle import stats

    assert load_reference("jaxle.stats:pearson", "metric") is stats.pearson


@pytest.mark.parametrize(
    "text, words",
    [
        ("pearson", "metric 'pearson' is not a reference; expected package.module:name"),
        ("jaxle.no_such:f", "cannot import 'jaxle.no_such' of metric 'jaxle.no_such:f'"),
        ("jaxle.stats:f", "module 'jaxle.stats' has no 'f', which metric 'jaxle.stats:f' names"),
    ],
)
def test_what_cannot_be_loaded_is_named(text, words):
    with pytest.raises(ValueError) as error:
        load_reference(text, "metric")
    assert words in str(error.value)


def test_an_error_inside_the_module_is_not_hidden(tmp_path, monkeypatch):
    (tmp_path / "own_metric_module.py").write_text("raise RuntimeError('a fault in the module')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(RuntimeError, match="a fault in the module"):
        load_reference("own_metric_module:f", "metric")
