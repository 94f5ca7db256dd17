"""States of real text: which decoder and which bytes, how they grow, what is measured of them."""

import numpy as np
import pytest

from mgt_np.arrays.libraries import There, place
from mgt_np.data import load_corpus, windows
from mgt_np.experiments import Result, Rows
from mgt_np.experiments.experiment import generator
from mgt_np.experiments.rank_evolution import Settings
from mgt_np.experiments.states import (
    decoder_of_text,
    mean_cosine,
    measured,
    ranks,
    states_of_text,
)
from mgt_np.models import hidden_states

HERE = There(place("numpy"), "float64")
SIZES = {"data": "python-docs", "n_windows": 2, "n_tokens": 8, "d_model": 8, "n_heads": 2}


def test_negative_beta_explodes():
    states = states_of_text(
        HERE, residual="mgt", mgt_b_beta=-0.5, mgt_alpha=1.0, depth=20, seed=[0], **SIZES
    )
    growth = measured(states[-1])[1] / measured(states[0])[1]
    assert growth == pytest.approx((1 + np.tanh(0.5)) ** 40, rel=0.2)


def test_states_are_those_of_the_decoder_and_its_text():
    options = {"residual": "pre_ln", "depth": 2, "seed": [3, 1]}
    config, params, text = decoder_of_text(**options, **SIZES)
    states = states_of_text(HERE, **options, **SIZES)
    assert states.shape == (3, 2, 8, 8)
    assert np.array_equal(states, hidden_states(params, text, config))
    assert np.array_equal(states[0], params["tokens"][text] + params["positions"])


def test_its_windows_are_pieces_of_the_corpus_and_seeds_draw_other_ones():
    corpus = bytes(load_corpus("python-docs").tokens.tolist())
    texts = [decoder_of_text(residual="none", depth=1, seed=[0, i], **SIZES)[2] for i in (0, 1)]
    rng, _ = generator([0, 1]).spawn(2)
    expected = windows(load_corpus("python-docs").tokens, 8, batch=2, rng=rng)
    assert np.array_equal(texts[1], expected[:, :-1])
    pieces = [bytes(window.tolist()) for text in texts for window in text]
    assert all(len(piece) == 8 and piece in corpus for piece in pieces)
    assert len(set(pieces)) == 4


def test_the_seed_fixes_the_draws_whatever_the_rule():
    first, other, later = (
        decoder_of_text(residual=rule, depth=1, seed=seed, **SIZES)
        for rule, seed in (("post_ln", [0, 1]), ("pre_ln", [0, 1]), ("pre_ln", [1, 0]))
    )
    assert np.array_equal(first[2], other[2])
    for name in ("attention", "feed_forward"):
        for weight, same in first[1]["blocks"][0][name].items():
            assert np.array_equal(same, other[1]["blocks"][0][name][weight])
    assert not np.array_equal(first[1]["tokens"], later[1]["tokens"])
    assert not np.array_equal(first[2], later[2])


def test_float32_is_computed_in_float32():
    there = There(place("numpy", dtype="float32"), "float32")
    options = {"residual": "mgt", "depth": 2, "seed": [0], **SIZES}
    states = states_of_text(there, **options)
    assert states.dtype == np.float32
    assert states == pytest.approx(states_of_text(HERE, **options), abs=1e-4)


def test_admin_is_profiled_on_the_text_it_reads():
    _, params, _ = decoder_of_text(residual="admin", depth=3, seed=[0], **SIZES)
    omegas = [block["attention_residual"]["omega"][0] for block in params["blocks"]]
    assert omegas[0] == 1.0
    assert 1.0 < omegas[1] < omegas[2]


def test_rank_and_norm_are_means_over_windows():
    line, plane = np.diag([1.0, 0.0, 0.0]), np.diag([2.0, 2.0, 0.0])
    rank, norm = measured(np.stack([line, plane]))
    assert rank == pytest.approx((1 / 3 + 2 / 3) / 2)
    assert norm == pytest.approx((np.sqrt(1 / 3) + np.sqrt(8 / 3)) / 2)


def test_an_overflowing_state_has_no_rank_and_an_infinite_norm():
    rank, norm = measured(np.full((1, 2, 3), np.inf))
    assert np.isnan(rank)
    assert norm == np.inf


def test_the_mean_cosine_counts_a_turned_token_against_one_that_stayed():
    X = np.asarray([[[1.0, 0.0], [0.0, 2.0], [3.0, 0.0], [1.0, 1.0]]])
    Y = np.asarray([[[5.0, 0.0], [0.0, -1.0], [0.0, 4.0], [1.0, 0.0]]])
    assert mean_cosine(X, Y) == pytest.approx((1.0 - 1.0 + 0.0 + np.sqrt(0.5)) / 4)
    assert mean_cosine(X, 1e300 * Y) == pytest.approx(np.sqrt(0.5) / 4)
    assert np.isnan(mean_cosine(X, np.full(X.shape, np.inf)))


def test_ranks_are_the_extent_over_the_rows_of_a_condition():
    rows = Rows(
        {"rule": rule, "layer": layer, "effective_rank": rank}
        for rule, layer, rank in [
            ("a", 2, 0.3),
            ("a", 2, 0.2),
            ("a", 1, 0.9),
            ("a", 2, 0.4),
            ("b", 2, 0.5),
            ("c", 2, np.nan),
            ("c", 2, 0.1),
        ]
    )
    result = Result("toy", Settings(depth=2), rows)
    found = ranks(result, {"of a": {"rule": "a"}, "all": {}, "of c": {"rule": "c"}})
    assert found["of a"] == (0.2, 0.4)
    assert np.isnan([*found["all"], *found["of c"]]).all()


def test_a_decoder_has_the_sizes_of_the_original_transformers():
    """The feed-forward layer is four times as wide as the state (Vaswani et al., section 3.3)."""
    sizes = {"data": "python-docs", "seed": [0, 1], "n_windows": 2, "n_tokens": 5, "n_heads": 2}
    config, params, text = decoder_of_text(d_model=6, depth=3, residual="post_ln", **sizes)
    assert (config.n_layers, config.n_heads, config.max_tokens, config.vocab_size) == (3, 2, 5, 256)
    assert text.shape == (2, 5)
    for block in params["blocks"]:
        assert block["feed_forward"]["W_1"].shape == (6, 24)
        assert block["attention"]["W_q"].shape == (6, 6)
