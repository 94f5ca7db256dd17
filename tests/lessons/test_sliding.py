"""Sliders: for who can move them, and one line elsewhere."""

import base64
import sys

import pytest

from mgt_np import plotting
from mgt_np.lessons import slider
from mgt_np.lessons.sliding import STORING


@pytest.fixture
def drawn(monkeypatch):
    """The values of which pictures were drawn, and what was shown."""
    seen = []
    monkeypatch.setattr(plotting, "show", lambda figure, alt: seen.append((figure, alt)))
    monkeypatch.delenv(STORING, raising=False)
    return seen


def draw(beta):
    return f"A({beta})"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # ipykernel's, outside a kernel
def test_a_slider_begins_in_the_middle_and_draws(drawn, capsys):
    pytest.importorskip("ipywidgets")
    slider(draw, "an operator", beta=(-1.0, 3.0, 0.1))
    assert drawn == [("A(1.0)", "an operator")]


@pytest.mark.parametrize("variable", [STORING, "NBGRADER_EXECUTION"])
def test_nothing_moves_where_nobody_is(drawn, capsys, monkeypatch, variable):
    monkeypatch.setenv(variable, "1")
    slider(draw, "an operator", beta=(-1.0, 3.0, 0.1))
    assert capsys.readouterr().out == "Run this cell for sliders: beta.\n"
    assert drawn == []


def test_without_ipywidgets_one_line_says_so(drawn, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    slider(draw, "an operator", beta=(-1.0, 3.0, 0.1))
    assert capsys.readouterr().out == "pip install ipywidgets gives you sliders here.\n"


def test_a_picture_is_sent_as_text(monkeypatch):
    """Pyodide's kernel does not encode bytes, as ipykernel does."""
    display = pytest.importorskip("IPython.display")
    sent = []
    monkeypatch.setattr(display, "display", lambda data, **options: sent.append((data, options)))
    figure, ax = plotting.new_figure(size=(2, 1))
    ax.plot([0, 1])
    plotting.show(figure, "A line that rises.")
    ((data, options),) = sent
    assert base64.b64decode(data["image/png"], validate=True).startswith(b"\x89PNG")
    assert data["text/plain"] == "A line that rises."
    assert options == {"metadata": {"image/png": {"alt": "A line that rises."}}, "raw": True}
