"""How the figures look: colours that colour-blind readers can tell apart, type that reads small."""

import base64
import functools
import io
import textwrap

import matplotlib
import matplotlib.style
import numpy as np
from matplotlib.figure import Figure

# Okabe & Ito, Color Universal Design (2008)
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, VERMILLION, PURPLE = "#F0E442", "#0072B2", "#D55E00", "#CC79A7"

STYLE = {
    "font.size": 13,
    "axes.titlesize": 13,
    "axes.titlelocation": "left",
    "axes.labelsize": 13,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "lines.linewidth": 2.2,
    "legend.frameon": False,
    "savefig.dpi": 110,
    "text.usetex": False,
}


def styled(draw):
    """Let the function `draw` work in the style of this project, whatever the user's own is."""

    @functools.wraps(draw)
    def in_style(*args, **kwargs):
        with matplotlib.style.context(["default", STYLE]):
            return draw(*args, **kwargs)

    return in_style


def new_figure(n_rows=1, n_columns=1, *, size, **kwargs):
    """Return a figure of `size` inches, and its axes. It needs no window and no display."""
    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.subplots(n_rows, n_columns, **kwargs)


def wrapped(text, width):
    """Wrap each line of a title to at most `width` characters."""
    return "\n".join(
        part for line in text.split("\n") for part in textwrap.wrap(line, width) or [""]
    )


def band(ax, x, values, *, log=False, **style):
    """Draw the mean of `values` (seeds, places) over the places `x`, and shade their extent.

    With `log` the mean is the geometric one. Returns the line.
    """
    values = np.asarray(values)
    mean = np.exp(np.mean(np.log(values), axis=0)) if log else np.mean(values, axis=0)
    (line,) = ax.plot(x, mean, **style)
    ax.fill_between(x, values.min(0), values.max(0), color=line.get_color(), alpha=0.2, lw=0)
    return line


@styled
def as_png(figure):
    """Return the figure as the bytes of a PNG file."""
    png = io.BytesIO()
    figure.savefig(png, format="png")
    return png.getvalue()


def use():
    """Let every figure from here on be drawn in this style: a notebook's second line."""
    matplotlib.rcParams.update(STYLE)


def show(figure, alt):
    """Show a figure in a notebook, with `alt` for those who cannot see it.

    The picture is a PNG of 128 colours: small, and the same bytes in each run.
    """
    from IPython.display import display
    from PIL import Image

    few = io.BytesIO()
    picture = Image.open(io.BytesIO(as_png(figure))).convert("RGB")
    picture.quantize(128, dither=Image.Dither.NONE).save(few, format="png", optimize=True)
    # As text: not every kernel encodes bytes, and Pyodide's does not.
    data = {"image/png": base64.b64encode(few.getvalue()).decode(), "text/plain": alt}
    display(data, metadata={"image/png": {"alt": alt}}, raw=True)
