"""How the figures look: colours that colour-blind readers can tell apart, type that reads small."""

import functools
import io

import matplotlib
from matplotlib.figure import Figure

# Okabe & Ito, Color Universal Design (2008)
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, VERMILLION, PURPLE = "#F0E442", "#0072B2", "#D55E00", "#CC79A7"

RULE_STYLES = {
    "none": {"color": BLACK, "linestyle": ":"},
    "post_ln": {"color": VERMILLION, "linestyle": "-"},
    "pre_ln": {"color": ORANGE, "linestyle": "--"},
    "mgt": {"color": BLUE, "linestyle": "-"},
    "mgt_mhc_only": {"color": SKY, "linestyle": "--"},
    "mgt_ddl_only": {"color": GREEN, "linestyle": "-."},
    "deepnorm": {"color": BLUE, "linestyle": "--"},
    "branchnorm": {"color": GREEN, "linestyle": "--"},
    "admin": {"color": PURPLE, "linestyle": "-."},
    "sub_ln": {"color": PURPLE, "linestyle": "-"},
    "scaled_residual": {"color": GREEN, "linestyle": "-"},
    "layerscale": {"color": BLACK, "linestyle": "--"},
    "rezero": {"color": SKY, "linestyle": "-"},
    "hc": {"color": ORANGE, "linestyle": "-"},
    "mhc": {"color": BLUE, "linestyle": "-."},
    "ddl": {"color": PURPLE, "linestyle": "--"},
    "ddl_expanded": {"color": BLACK, "linestyle": "-."},
}

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
}


def styled(draw):
    """Let the function `draw` work in the style of this project."""

    @functools.wraps(draw)
    def in_style(*args, **kwargs):
        with matplotlib.rc_context(STYLE):
            return draw(*args, **kwargs)

    return in_style


def new_figure(n_rows=1, n_columns=1, *, size, **kwargs):
    """Return a figure of `size` inches, and its axes. It needs no window and no display."""
    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.subplots(n_rows, n_columns, **kwargs)


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
    data = {"image/png": few.getvalue(), "text/plain": alt}
    display(data, metadata={"image/png": {"alt": alt}}, raw=True)
