"""Figures of arrays alone: what is drawn, untrusted names, any column, bytes that repeat."""

import ast
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import jaxle
from jaxle.plots import style
from jaxle.plots.area import _spread
from jaxle.plots.grid import SIDE, picture
from jaxle.plots.scatter import fit_line

A = np.array([0.0, 0.5, 1.0, 1.5, 2.0, 8.0], np.float32)
HOLDS = np.array([[1, 0], [1, 0], [0, 1], [1, 1], [0, 0], [0, 1]], bool)
IMAGES = np.random.default_rng(0).integers(0, 256, (6, 12, 8, 3), np.uint8)
UNTRUSTED = [
    "<script>alert(1)</script>",
    r"$\frac{1}{0}$ & \input{x} % _^~#{}",
    "'quotes' \"and\" `ticks`",
    "🦊 fox",
    "كلب \u202eחתול",  # right to left, and a control of direction
    "猫 แมว बिल्ली",
    "two\nlines\tand a bell \a",
    "x" * 300,
]


def texts(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def drawn(figure, tmp_path, kind=".svg"):
    style.save_figure(figure, tmp_path / f"figure{kind}")
    return (tmp_path / f"figure{kind}").read_bytes()


def test_the_areas_are_the_shares_of_the_bins():
    figure = jaxle.plots.area_chart(A, HOLDS, ["dog", "cat"])
    (axes,) = figure.axes
    assert {"dog", "cat", "none of these", "n = "} <= set(texts(figure))
    assert [t for t in texts(figure) if t.isdigit()] == list("22100001")  # images of a bin
    # two stretches of bins with images, each with three areas
    areas = [area.get_paths()[0].vertices for area in axes.collections]
    assert len(areas) == 6
    assert {0.0, 3.0} < set(areas[0][:, 0]) and {7.0, 8.0} < set(areas[3][:, 0])
    # in the second bin, dog has half of one image of two, cat one and a half
    assert set(areas[0][areas[0][:, 0] == 1.5][:, 1]) == {0.0, 0.25}
    assert set(areas[1][areas[1][:, 0] == 1.5][:, 1]) == {0.25, 1.0}


def test_more_concepts_than_colours_are_drawn_as_one():
    values = np.eye(10)[np.arange(60) % 10] * np.linspace(1, 0.1, 10)
    names = [f"c{i}" for i in range(10)]
    figure = jaxle.plots.area_chart(np.ones(60), values, names, n_bins=1)
    found = [t for t in texts(figure) if not t.isdigit()]
    assert found == ["n = ", *names[:6], "4 other concepts", "none of these"]


@pytest.mark.parametrize("activations", [[0.0] * 6, [3.0] * 6, [-2.0] * 6, [-1e-30] * 5 + [1e-30]])
def test_any_column_can_be_drawn(activations, tmp_path):
    for figure in (
        jaxle.plots.area_chart(activations, HOLDS, ["dog", "cat"]),
        jaxle.plots.image_grid_by_bin(IMAGES, activations, A, n_images=1),
        jaxle.plots.correlation_ablation(activations, activations),
    ):
        assert b"<svg" in drawn(figure, tmp_path)
        assert not any("nan" in text for text in texts(figure))


def test_names_are_text_and_never_markup(tmp_path):
    """A name that TeX would refuse, or that no font has, is drawn and warns of nothing."""
    n = len(UNTRUSTED)
    figure = jaxle.plots.area_chart(np.arange(n), np.eye(n), UNTRUSTED, title=" ".join(UNTRUSTED))
    assert b"<script" not in drawn(figure, tmp_path)
    jaxle.plots.image_grid_by_bin(np.zeros((n, 2, 2), np.uint8), np.arange(n), title=UNTRUSTED[1])
    assert all(not text.get_parse_math() for axes in figure.axes for text in axes.texts)
    assert style.drawable("a\n b\u202e\0\a") == "a b" and style.drawable("\U0010fffd") == "□"
    assert style.drawable("x" * 300) == "x" * 21 + "…"


def test_the_grid_reads_only_what_it_draws_and_says_both_activations():
    read = []

    class Lazy:
        def __getitem__(self, place):
            read.append(place)
            return Image.fromarray(IMAGES[place])

    figure = jaxle.plots.image_grid_by_bin(Lazy(), A, A / 4, n_bins=2, n_images=2)
    assert read == [3, 1, 5] and len(figure.axes[0].images) == 3
    assert texts(figure)[:8] == [
        "0.00–4.00", "5 images", "4.00–8.00", "1 image", "1.50", "0.38", "0.50", "0.12",
    ]  # fmt: skip
    assert texts(figure)[-2:] == ["real activation", "simulated activation"]
    left, right, low, high = figure.axes[0].images[0].get_extent()
    assert (right - left) / (low - high) == pytest.approx(8 / 12)  # its own proportion


def test_ranks_beyond_the_images_are_left_out():
    figure = jaxle.plots.image_grid_by_rank(list(IMAGES), A, ranks=(2, 5, 50), n_images=2)
    assert texts(figure) == ["rank 2", "rank 5", "8.00", "2.00", "1.00", "0.50"]
    with pytest.raises(ValueError, match=r"ranks must lie among the 6 images, got \[50\]"):
        jaxle.plots.image_grid_by_rank(IMAGES, A, ranks=[50])


def test_pictures_are_small_and_of_one_kind():
    assert picture(np.zeros((1000, 500, 3), np.uint8)).shape == (SIDE, SIDE // 2, 3)
    assert picture(Image.new("CMYK", (3, 2))).shape == (2, 3, 3)
    for wrong in (np.zeros((2, 2, 3)), np.zeros((2, 2, 4), np.uint8), np.zeros((0, 2), np.uint8)):
        with pytest.raises(ValueError, match="an image must be uint8 of shape"):
            picture(wrong)
    with pytest.raises(ValueError, match="must describe the same images, got 5 and 6"):
        jaxle.plots.image_grid_by_bin(IMAGES[:5], A)


def test_the_line_is_the_least_squares_fit():
    rng = np.random.default_rng(0)
    x = rng.random(50)
    y = 0.3 * x - 0.1 + 0.05 * rng.normal(size=50)
    line = fit_line(x, y)
    np.testing.assert_allclose(line[:2], np.polyfit(x, y, 1))
    np.testing.assert_allclose(line.pearson, np.corrcoef(x, y)[0, 1])
    figure = jaxle.plots.correlation_ablation(x, y, ablation_name="excess")
    assert texts(figure) == [f"r = {line.pearson:.2f}", "50 neurons"]
    np.testing.assert_allclose(figure.axes[0].collections[0].get_offsets(), np.c_[x, y])
    assert fit_line(np.ones(3), np.arange(3.0)) == (0.0, 1.0, 0.0)
    assert fit_line(np.arange(3.0), np.ones(3)) == (0.0, 1.0, 0.0)
    with pytest.raises(ValueError, match="same neurons, got 50 and 49 rows"):
        jaxle.plots.correlation_ablation(x, y[1:])


def test_labels_are_apart_and_move_as_little_as_they_can():
    np.testing.assert_allclose(_spread(np.array([0.1, 0.5, 0.9]), 0.2), [0.1, 0.5, 0.9])
    np.testing.assert_allclose(_spread(np.array([0.5, 0.5, 0.5]), 0.1), [0.4, 0.5, 0.6])
    found = _spread(np.sort(np.random.default_rng(0).random(8)), 0.1)
    assert np.diff(found).min() >= 0.1 - 1e-12


@pytest.mark.parametrize("kind", [".svg", ".pdf", ".png"])
def test_the_same_figure_has_the_same_bytes_whatever_the_users_settings(kind, tmp_path):
    import matplotlib

    found = []
    for settings in ({}, {"font.size": 30, "svg.hashsalt": "other", "axes.grid": True}):
        with matplotlib.rc_context(settings):
            figure = jaxle.plots.area_chart(A, HOLDS, ["$x", "cat"], title="a title")
            found.append(drawn(figure, tmp_path, kind))
    assert found[0] == found[1]
    with pytest.raises(ValueError, match=r"written as .pdf, .svg or .png, got 'a.tiff'"):
        jaxle.plots.save_figure(figure, "a.tiff")


@pytest.mark.parametrize("width", [0, -1.0, np.nan, 1e9])
def test_a_width_that_no_figure_can_have_is_refused(width):
    for call in (
        lambda: jaxle.plots.area_chart(A, HOLDS, ["a", "b"], width=width),
        lambda: jaxle.plots.image_grid_by_bin(IMAGES, A, width=width),
    ):
        with pytest.raises(ValueError, match="width must be a number in"):
            call()


def test_draws_into_axes_of_the_users_own():
    from matplotlib.figure import Figure

    figure = Figure()
    left, right = figure.subplots(1, 2)
    assert jaxle.plots.area_chart(A, HOLDS, ["dog", "cat"], axes=left) is figure
    assert jaxle.plots.image_grid_by_rank(IMAGES, A, ranks=[3], axes=right) is figure
    assert left.collections and right.images and len(figure.axes) == 2


def test_a_notebook_shows_a_figure_without_pyplot():
    figure = jaxle.plots.correlation_ablation([0.1, 0.5], [0.0, 0.2])
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_matplotlib_is_imported_inside_functions_and_pyplot_never():
    for path in Path(style.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                line = ast.unparse(node)
                assert "pyplot" not in line and "pylab" not in line
                assert "matplotlib" not in line or node.col_offset, f"{path}: {line}"


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"install the extra \(pip install 'jaxle\[plots\]'\)"):
        jaxle.plots.area_chart(A, HOLDS, ["dog", "cat"])


@pytest.mark.parametrize(
    "call, says",
    [
        (lambda: jaxle.plots.area_chart(A, HOLDS, ["dog"]), "must name the 2 columns"),
        (lambda: jaxle.plots.area_chart(A, HOLDS), "concepts must name the columns of"),
        (lambda: jaxle.plots.image_grid_by_bin(IMAGES, A, A[1:]), "got 6 and 5 rows"),
        (lambda: jaxle.plots.image_grid_by_bin(IMAGES, A, n_images=0), "n_images must be an int"),
        (lambda: jaxle.plots.correlation_ablation([], []), "shape (neurons,), got shape (0,)"),
    ],
)
def test_refusals(call, says):
    with pytest.raises(ValueError) as error:
        call()
    assert says in str(error.value)


def test_a_long_title_stands_on_up_to_three_lines_and_the_figure_grows():
    short, long = (
        jaxle.plots.area_chart(A, HOLDS, ["dog", "cat"], title=t) for t in ("a", "word " * 60)
    )
    lines = long.axes[0].get_title(loc="left").splitlines()
    assert len(lines) == 3 and lines[-1].endswith(" …")
    assert long.get_figheight() > short.get_figheight() + 0.2
    one = jaxle.plots.area_chart(A, HOLDS, ["dog", "cat"], title="m" * 300).axes[0]
    assert 20 < len(one.get_title(loc="left")) < 40


def test_threads_draw_the_same_figure(tmp_path):
    def one(i):
        figure = jaxle.plots.area_chart(A, HOLDS, ["dog", "cat"], title=f"figure {i % 2}")
        style.save_figure(figure, tmp_path / f"{i}.svg")
        return (tmp_path / f"{i}.svg").read_bytes()

    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(one, range(4)))
    assert found[0] == found[2] != found[1] == found[3]
