"""How figures are drawn and written: one style, for paper and for a light or a dark page."""

import base64
import contextlib
import io
import math
import warnings

import matplotlib as mpl

BLUE, ORANGE, GREEN, RED, VIOLET = "#3b7ddd", "#e07b1a", "#2c9f6b", "#d9463e", "#8a63d2"
# The colour of text and axes. `as_data_uri` makes it follow the reader's light or dark mode, so
# nothing else may have exactly this colour.
INK = "#25292e"
STYLE = {
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.prop_cycle": mpl.cycler(color=[BLUE, ORANGE, GREEN, RED, VIOLET]),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.titlesize": 11,
    "figure.constrained_layout.use": True,
    "font.family": "sans-serif",
    "font.size": 10,
    "grid.alpha": 0.15,
    "grid.color": INK,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "handgrad",
    "text.color": INK,
    # A class may be called "$x" or "a_b$": no formula.
    "text.parse_math": False,
    "xtick.color": INK,
    "ytick.color": INK,
}
FOLLOW_MODE = (
    f"<style>svg{{color:{INK}}}@media(prefers-color-scheme:dark){{svg{{color:#e4e7eb}}}}</style>"
)


def styled(draw):
    """Draws under `STYLE`, without changing matplotlib's settings for anyone else."""
    return mpl.rc_context(STYLE)(draw)


@styled
def save(figure, path):
    """Writes a figure as a file of the format that the name's ending says, on white."""
    with _any_glyph():
        figure.savefig(path, dpi=150, facecolor="white")


@styled
def as_data_uri(figure):
    """A figure as the source of an `<img>`: SVG without background, in light and dark mode."""
    buffer = io.StringIO()
    with _any_glyph():
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    head, tag, rest = buffer.getvalue().partition("<metadata>")
    svg = head + FOLLOW_MODE + tag + rest.replace(INK, "currentColor")
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


def finite(value, otherwise):
    """The value, or something else where it is none or not finite."""
    return value if value is not None and math.isfinite(value) else otherwise


def lines(axes, x, y, **style):
    """A line through the finite values, with dots where there are few."""
    axes.plot(x, [finite(value, math.nan) for value in y],
              marker="o" if len(y) < 25 else "", markersize=3.5, **style)


def plain_numbers(axis):
    """Writes the numbers of a log scale as numbers: Matplotlib's own labels are formulas."""
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter("")


def short(name, longest=18):
    """A name of at most so many letters."""
    return name if len(name) <= longest else name[:longest - 1] + "…"


def thinned(places, names, most=25):
    """(places, names) of ticks, few enough to be read."""
    step = math.ceil(len(names) / most)
    return list(places)[::step], [str(name) for name in names][::step]


@contextlib.contextmanager
def _any_glyph():
    """Names in a script that matplotlib's font lacks are no reason to warn: a browser has it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield
