"""Pictures of lessons: text that any kernel can send."""

import base64

import pytest

from mgt_np import plotting


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
