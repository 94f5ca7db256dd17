"""slider(draw, beta=(-1, 3, 0.1)): a picture that the reader moves, where there is one."""

import os

from mgt_np import plotting

STORING = "MGT_NP_STORING"  # set while a notebook is run to be stored: nobody moves anything there


def slider(draw, alt, **ranges):
    """Show the figure `draw(**values)` under one slider for each of `ranges`, (low, high, step).

    `alt` is what the picture shows. Without ipywidgets, and in a notebook that is run to be stored
    or graded, one line stands in its place: the static picture beside it tells the same.
    """
    if os.environ.get(STORING) or os.environ.get("NBGRADER_EXECUTION"):
        print(f"Run this cell for sliders: {', '.join(ranges)}.")
        return
    try:
        import ipywidgets
    except ImportError:
        print("pip install ipywidgets gives you sliders here.")
        return

    def moved(**values):
        plotting.show(draw(**values), alt)

    sliders = {
        name: ipywidgets.FloatSlider(min=low, max=high, step=step, value=(low + high) / 2.0)
        for name, (low, high, step) in ranges.items()
    }
    ipywidgets.interact(moved, **sliders)
