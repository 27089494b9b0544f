"""How every figure looks, and how it is written: sizes, colours, untrusted text, PDF and SVG.

Figures are matplotlib's objects and never pyplot's: nothing is registered globally, so that they
can be drawn in threads, and a notebook shows them without a backend. Names of concepts are drawn as
they are: `$` starts no formula in them, and what no installed font has becomes □.

The colours are those of Okabe & Ito, which people with any colour vision distinguish
(https://jfly.uni-koeln.de/color/).
"""

from __future__ import annotations

import functools
import io
import re
import threading
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from etils import epath

from jaxle.arrays import checks_input
from jaxle.artifacts import write_file
from jaxle.options import number as number_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Text
else:  # matplotlib is imported where it is used
    Axes = Figure = Text = Any

COLUMN, PAGE = 3.25, 6.75  # inches: a column and both columns of a two-column paper
BODY, HEADING, SMALL = 7.0, 6.5, 6.0  # points
LINE, WIDTH = 1.4, 0.6  # height of a line of text, width of a character on average; of its size
INK, FAINT, EMPTY = "#1a1a1a", "#6b6b6b", "#e4e4e4"  # text; text beside it; nothing to show
BLUE, VERMILLION = "#0072B2", "#D55E00"
PALETTE = (BLUE, "#E69F00", "#009E73", "#CC79A7", "#56B4E9", VERMILLION, "#F0E442")
LONGEST = 22  # characters of a name
# DejaVu comes with matplotlib; of the others, those that are installed are asked for what it lacks
FAMILIES = (
    "DejaVu Sans",
    "Noto Sans CJK JP",
    "Noto Sans CJK SC",
    "Noto Sans Devanagari",
    "Noto Sans Thai",
    "Noto Emoji",
    "Hiragino Sans",
    "Yu Gothic",
    "WenQuanYi Zen Hei",
    "Arial Unicode MS",
)
MOST_LINES, SHARE = 3, 0.8  # of a title; of a figure's width that it may take
MISSING, NO_BREAK = "□", "\N{NO-BREAK SPACE}"
_SETTINGS = {
    "svg.hashsalt": "jaxle",  # ids in the file depend on what is drawn alone
    "svg.fonttype": "path",
    "pdf.fonttype": 42,  # TrueType: many publishers refuse Type 3
}
_LOCK = threading.Lock()  # of matplotlib's settings, which are global


def new_axes(width: float, tall: float, title: str = "", share: float = SHARE) -> Axes:
    """Returns empty axes in a figure of their own.

    Args:
      width: in inches.
      tall: height without the title, of the width.
      title, share: of `heading`, for which room is left above.

    Raises:
      ValueError: a width that no figure can have.
      ImportError: matplotlib is needed and absent; the extra is named.
    """
    width = checked(width)
    height = tall * width
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "figures need matplotlib: install the extra (pip install 'jaxle[plots]')."
        ) from error
    if title:
        height += (4 + len(_lines(title, 72 * share * width)) * LINE * HEADING) / 72
    figure = Figure((width, height), facecolor="white", layout="constrained")
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02)  # pyright: ignore
    # IPython shows a figure of its own accord only after an import of pyplot
    figure._repr_png_ = functools.partial(_png, figure)  # pyright: ignore
    return figure.add_subplot()


def checked(width: float) -> float:
    """Returns a figure's width in inches, or raises a ValueError for one that none can have."""
    return number_of("width", width, float, low=0.5, high=100)


def _png(figure: Figure) -> bytes:
    with io.BytesIO() as file:
        figure.savefig(file, format="png", dpi=200)
        return file.getvalue()


def frame(axes: Axes) -> None:
    """Draws axes in the style of all figures: two thin lines, small ticks."""
    axes.set_facecolor("white")
    axes.grid(False)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set(color=INK, linewidth=0.6)
    axes.tick_params(
        length=2.5, width=0.6, pad=2, color=INK, labelcolor=INK, labelsize=SMALL,
        labelfontfamily=list(families()),
    )  # fmt: skip


def font(size: float = BODY, colour: str = INK) -> dict[str, Any]:
    """Returns the keywords of plain text: no formula, no TeX, fonts that exist."""
    return {
        "fontsize": size,
        "family": list(families()),
        "color": colour,
        "parse_math": False,
        "usetex": False,
    }


def label(axes: Axes, x: str, y: str) -> None:
    """Names both axes."""
    axes.set_xlabel(x, labelpad=2, **font())
    axes.set_ylabel(y, labelpad=2, **font())


def heading(axes: Axes, title: str, above: float = 0, share: float = SHARE) -> None:
    """Writes a title, untrusted names included, above the axes, on three lines at most.

    Args:
      axes: where.
      title: any text; "" writes nothing.
      above: points between axes and title that are taken.
      share: of the figure's width, in which a line has room where the axes are alone in it.
    """
    if title:
        # before its layout, the only axes of a figure have 0.775 of its width
        room = share / 0.775 * axes.bbox.width / axes.figure.dpi * 72
        text = "\n".join(_lines(title, room))
        axes.set_title(text, loc="left", pad=4 + above, linespacing=LINE, **font(HEADING))


def _lines(title: str, room: float) -> list[str]:
    """A title in lines of at most `room` points, three at most, broken at spaces."""
    lines, words = [""], drawable(title, 300).split(" ")
    for word in words:
        if (width := _width(word)) > room:
            word = word[: max(1, int(len(word) * room / width) - 1)] + "…"
        longer = f"{lines[-1]} {word}".lstrip()
        if not lines[-1] or _width(longer) <= room:
            lines[-1] = longer
        elif len(lines) < MOST_LINES:
            lines.append(word)
        else:
            lines[-1] += " …"
            break
    return lines


def _width(text: str) -> float:
    """Points that text takes in the first font, at the size of `HEADING`."""
    from matplotlib import font_manager

    face = font_manager.get_font(font_manager.findfont(families()[0]))
    face.set_size(HEADING, 72)
    return sum(face.load_char(ord(c)).linearHoriAdvance for c in text) / 2**16


def number(value: float, digits: int) -> str:
    """Returns a number as text, with a minus and not a hyphen."""
    return f"{value:.{digits}f}".replace("-", "−")


def drawable(name: str, longest: int = LONGEST) -> str:
    """Returns a name as it can be drawn: on one line, short, of characters that some font has.

    Args:
      name: any text.
      longest: characters; what is longer ends in "…".
    """
    text = unicodedata.normalize("NFC", str(name))
    text = "".join(" " if c.isspace() and c != NO_BREAK else c for c in text)
    # controls of the line's direction, joiners, halves of a surrogate pair
    text = "".join(c for c in text if unicodedata.category(c) not in ("Cc", "Cf", "Cs"))
    text = re.sub(" +", " ", text).strip()
    if len(text) > longest:
        text = text[: longest - 1].rstrip() + "…"
    known = _characters()
    return "".join(c if ord(c) in known else MISSING for c in text)


@functools.cache
def families() -> tuple[str, ...]:
    """Returns the fonts of `FAMILIES` that are installed, in that order."""
    from matplotlib import font_manager

    installed = set(font_manager.fontManager.get_font_names())
    return tuple(name for name in FAMILIES if name in installed)


@functools.cache
def _characters() -> frozenset[int]:
    """Code points that one of these fonts has."""
    from matplotlib import font_manager

    fonts = (font_manager.get_font(font_manager.findfont(name)) for name in families())
    return frozenset(code for own in fonts for code in own.get_charmap())


@contextmanager
def settings() -> Iterator[None]:
    """Holds matplotlib's settings at its defaults, whatever the user's are, so that files repeat.

    They are global: a figure that another thread draws meanwhile has them, too.
    """
    import matplotlib

    with _LOCK, matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)  # pyright: ignore
        yield


@checks_input
def save_figure(figure: Figure, path: epath.PathLike) -> None:
    """Writes a figure as the name says: `.pdf` and `.svg` are vector files, `.png` has 300 dpi.

    The same figure gives the same bytes: no date, no random id.

    Args:
      figure: of any function of `jaxle.plots`, or of matplotlib.
      path: a file name, in a folder that exists; `gs://` works, too.

    Raises:
      ValueError: another suffix.
    """
    kind = epath.Path(path).suffix.removeprefix(".")
    dates = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": {}}
    if kind not in dates:
        raise ValueError(f"a figure is written as .pdf, .svg or .png, got {str(path)!r}.")
    with settings(), io.BytesIO() as file:
        figure.savefig(file, format=kind, dpi=300, facecolor="white", metadata=dates[kind])
        written = file.getvalue()
    write_file(path, lambda out: out.write(written))
