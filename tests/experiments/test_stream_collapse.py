"""Streams: verdicts follow the rows, and the rows are of the decoder they are said to be of."""

import math

import numpy as np
import pytest
from small_settings import changed, check_boundaries, small, small_run

from mgt_np.arrays.libraries import There, place
from mgt_np.experiments import EXPERIMENTS, judge, result_of, stream_collapse
from mgt_np.experiments.experiment import generator
from mgt_np.experiments.states import decoder_of_text
from mgt_np.models import hidden_states

HC, MHC, COPIES, UNEQUAL = (
    getattr(stream_collapse, name) for name in ("HC", "MHC", "COPIES", "UNEQUAL")
)
THERE = There(place("numpy"), "float64")
SIZES = {"data": "python-docs", "n_windows": 1, "depth": 2, "n_tokens": 4}
SIZES |= {"d_model": 8, "n_heads": 2}


def test_boundaries():
    check_boundaries(
        "stream-collapse",
        ([(1.0, 1.001)], [(1.0, 1.0), (2.0, 1.0), (math.nan, 1.0), (1.0, math.nan)]),
        ([0.9901, 1.0], [0.99, 0.0, math.nan]),
        ([0.8999, -1.0], [0.9, 1.0, math.nan]),
    )


def test_verdicts_follow_the_rows():
    result = small_run("stream-collapse")
    claims = stream_collapse.claims(result.settings)

    def verdict(index, column, number):
        return judge(claims[index], changed(result, **{column: number})).verdict

    def is_hc(row):
        return float(row["model"] in HC)

    assert verdict(0, "rank", lambda r: 1.0 + is_hc(r)) == "holds"
    assert verdict(0, "rank", lambda r: 2.0 - is_hc(r)) == "does not hold"
    assert verdict(0, "rank", lambda r: 2.0 if r["model"] == HC[1] else 3.0 - is_hc(r)) == (
        "does not hold"
    )
    assert verdict(0, "rank", lambda r: 2.0 - (r["model"] == MHC[1])) == (
        f"holds only if one compares {MHC[1]} with {HC[0]} or {MHC[1]} with {HC[1]}"
    )
    # in every seed, and of the streams that start unequal, at the end
    assert verdict(0, "rank", lambda r: 1.0 + is_hc(r) * r["seed"]) == "does not hold"
    assert verdict(0, "rank", lambda r: 1.0 + (1 - is_hc(r)) * r["seed"]) == "does not hold"
    assert verdict(0, "rank", lambda r: 1.0 + is_hc(r) * (r["start"] == UNEQUAL)) == "holds"
    assert verdict(0, "rank", lambda r: 1.0 + is_hc(r) * (r["layer"] == 6)) == "holds"
    for index, start, inside, outside in ((1, COPIES, 1.0, 0.5), (2, UNEQUAL, 0.5, 1.0)):
        assert verdict(index, "cosine", inside) == "holds"
        assert verdict(index, "cosine", outside) == "does not hold"
        assert verdict(index, "cosine", lambda r: (inside, outside)[r["seed"]]) == "does not hold"  # noqa: B023
        of_start = lambda r: inside if r["start"] == start else outside  # noqa: B023, E731
        assert verdict(index, "cosine", of_start) == "holds"
        of_model = lambda r: inside if r["model"] == MHC[0] else outside  # noqa: B023, E731
        assert verdict(index, "cosine", of_model) == f"holds only if the model is {MHC[0]}"


def rows_of(model, start):
    return list(stream_collapse.work(THERE, model=model, start=start, seed=[4, 0], **SIZES))


@pytest.mark.parametrize(("model", "start"), [(MHC[0], "identity"), (MHC[1], "transformers")])
def test_the_streams_are_those_of_the_decoder(model, start, monkeypatch):
    """Their mean after each block is the hidden state of the model, for equal copies."""
    seen = []
    measured = stream_collapse.measured
    monkeypatch.setattr(
        stream_collapse, "measured", lambda xp, X, P: seen.append(X) or measured(xp, X, P)
    )
    rows_of(model, COPIES)
    options = {"residual": "mhc", "mhc_start": start}
    config, params, text = decoder_of_text(seed=[4, 0], **SIZES, **options)
    states = hidden_states(params, text, config)
    np.testing.assert_allclose(np.mean(np.stack(seen[::2]), axis=-2), states, rtol=1e-12)


@pytest.mark.parametrize("model", [HC[1], MHC[0]])
def test_the_composed_map_is_what_moves_the_streams(model, monkeypatch):
    """Without sub-layers the streams at the end are the product times those at the start."""
    seen = []
    measured = stream_collapse.measured
    monkeypatch.setattr(
        stream_collapse, "measured", lambda xp, X, P: seen.append((X, P)) or measured(xp, X, P)
    )
    silent = lambda block, config: [  # noqa: E731
        (name, np.zeros_like, block[f"{name}_residual"]) for name in ("attention", "feed_forward")
    ]
    monkeypatch.setattr(stream_collapse, "connections", silent)
    rows = rows_of(model, UNEQUAL)
    (start, _), *_, (end, product) = seen
    np.testing.assert_allclose(product @ start, end, rtol=1e-9)
    assert rows[-1]["layer"] == len(rows) - 1 == 4


def test_measures_by_another_route():
    rng = np.random.default_rng(0)
    X, P = rng.standard_normal((2, 3, 5)), rng.standard_normal((2, 3, 3))
    found = stream_collapse.measured(np, X, P)
    sigma = np.linalg.svd(P, compute_uv=False)
    p = sigma / sigma.sum(-1, keepdims=True)
    assert found["rank"] == pytest.approx(np.mean(np.exp(-np.sum(p * np.log(p), -1))), rel=1e-10)
    U = X / np.linalg.norm(X, axis=-1, keepdims=True)
    pairs = [np.sum(U[:, i] * U[:, j], -1) for i, j in ((0, 1), (0, 2), (1, 2))]
    assert found["cosine"] == pytest.approx(np.mean(pairs), rel=1e-10)
    shares = (X**2).sum(-1) / (X**2).sum((-1, -2))[:, None]
    assert found["largest_share"] == pytest.approx(np.mean(shares.max(-1)), rel=1e-10)


def test_what_starts_are():
    """Copies have cosine one; unequal streams have each an offset of the embedding's size."""
    first = {
        (model, start): rows_of(model, start)[0]
        for model in HC + MHC
        for start in (COPIES, UNEQUAL)
    }
    assert [row["rank"] for row in first.values()] == pytest.approx([4.0] * 8)
    assert {row["layer"] for row in first.values()} == {0}
    for model in HC + MHC:
        assert first[model, COPIES]["cosine"] == pytest.approx(1.0)
        # the same offsets for all
        assert first[model, UNEQUAL]["cosine"] == pytest.approx(first[HC[0], UNEQUAL]["cosine"])
    config, params, text = decoder_of_text(seed=[4, 0], **SIZES, residual="hc")
    offsets = config.embedding_scale * generator([4, 0], 3).standard_normal((4, 8))
    x = params["tokens"][text] + params["positions"][: text.shape[-1]]
    X = x[..., None, :] + offsets
    norms = np.sum(X * X, -1)
    share = np.mean(norms.max(-1) / norms.sum(-1))
    assert first[MHC[0], UNEQUAL]["largest_share"] == pytest.approx(share, rel=1e-10)


def test_hc_is_drawn_with_its_step():
    """W ~ N(0, 1/d), both steps as named; nothing else of the parameters changes."""
    _, params, _ = decoder_of_text(seed=[4, 0], **SIZES, residual="hc")
    before = params["blocks"][0]["attention"]["W_q"].copy()
    stream_collapse._draw(generator([4, 0], 2), params, 0.3)
    first, second = (
        params["blocks"][1][f"{name}_residual"]["connection"]
        for name in ("attention", "feed_forward")
    )
    rng = generator([4, 0], 2)
    expected = [
        rng.standard_normal((8, width)) / math.sqrt(8) for _ in range(3) for width in (1, 1, 4)
    ]
    for name, W in zip(("W_m", "W_beta", "W_r"), expected[6:], strict=True):
        np.testing.assert_array_equal(first[name], W)
    assert {float(c[name]) for c in (first, second) for name in ("s_alpha", "s_beta")} == {0.3}
    np.testing.assert_array_equal(params["blocks"][0]["attention"]["W_q"], before)


def test_the_small_run_finds_mixing_at_once_near_one_over_n():
    rows = small_run("stream-collapse").rows.where(start=UNEQUAL, layer=6)
    last = {model: rows.where(model=model).column("rank") for model in HC + MHC}
    assert max(last[MHC[1]]) < 1.1 < 3.9 < min(last[MHC[0]])
    assert max(last[HC[1]]) < min(last[HC[0]])


def test_another_library_gives_the_same_rows():
    pytest.importorskip("torch")
    experiment, sizes = EXPERIMENTS["stream-collapse"], {"n_seeds": 1, "depth": 1}
    rows = small_run("stream-collapse", **sizes).rows
    others = result_of(experiment, small("stream-collapse", array_library="torch", **sizes)).rows
    assert others.column("model") == rows.column("model")
    for name in set(rows[0]) - {"model", "start"}:
        assert others.column(name) == pytest.approx(rows.column(name), rel=1e-9, abs=1e-9)


def test_in_single_precision():
    sizes = {"dtype": "float32", "n_seeds": 1, "depth": 1}
    result = result_of(EXPERIMENTS["stream-collapse"], small("stream-collapse", **sizes))
    assert all(math.isfinite(row["cosine"]) for row in result.rows)
