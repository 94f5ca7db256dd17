import numpy as np
import pytest

from mgt_np.data import KnownEntropyLanguage, copy_task


def entropy(p):
    p = np.asarray(p)[np.asarray(p) > 0]
    return float(-np.sum(p * np.log(p)))


@pytest.mark.parametrize("n", [1, 2, 7, 64])
def test_uniform_language_has_entropy_log_n(n):
    language = KnownEntropyLanguage(np.full((n, n), 1 / n))
    assert language.entropy_rate == pytest.approx(np.log(n), abs=1e-14)
    assert language.unigram_entropy == pytest.approx(np.log(n), abs=1e-14)


def test_two_symbols_have_the_textbook_entropy():
    a, b = 0.1, 0.3
    language = KnownEntropyLanguage([[1 - a, a], [b, 1 - b]])
    pi = np.array([b, a]) / (a + b)
    np.testing.assert_allclose(language.stationary, pi, rtol=1e-14)
    expected = pi[0] * entropy([a, 1 - a]) + pi[1] * entropy([b, 1 - b])
    assert language.entropy_rate == pytest.approx(expected, rel=1e-14)
    assert language.unigram_entropy == pytest.approx(entropy(pi), rel=1e-14)


def test_a_cycle_has_no_entropy_and_a_flat_unigram():
    language = KnownEntropyLanguage(np.roll(np.eye(5), 1, axis=1))
    assert language.entropy_rate == 0.0
    assert language.unigram_entropy == pytest.approx(np.log(5), rel=1e-14)
    tokens = language.sample(np.random.default_rng(0), 20)
    np.testing.assert_array_equal(np.diff(tokens) % 5, 1)


def test_transient_symbols_do_not_count():
    language = KnownEntropyLanguage([[0.5, 0.5, 0.0], [0.0, 0.25, 0.75], [0.0, 0.75, 0.25]])
    np.testing.assert_allclose(language.stationary, [0.0, 0.5, 0.5], atol=1e-15)
    assert language.entropy_rate == pytest.approx(entropy([0.25, 0.75]), rel=1e-14)
    assert 0 not in language.sample(np.random.default_rng(0), 1000)


@pytest.mark.parametrize("concentration", [0.05, 0.5, 5.0])
def test_random_languages_are_stationary_and_ordered(concentration):
    language = KnownEntropyLanguage.random(
        np.random.default_rng(1), 24, concentration=concentration
    )
    pi, P = language.stationary, language.transition
    np.testing.assert_allclose(pi @ P, pi, atol=1e-14)
    assert pi.sum() == pytest.approx(1.0, abs=1e-14)
    assert 0 < language.entropy_rate < language.unigram_entropy < np.log(24)


def test_concentration_raises_the_entropy():
    rates = [
        KnownEntropyLanguage.random(np.random.default_rng(2), 32, concentration=c).entropy_rate
        for c in (0.03, 0.1, 0.3, 1.0, 10.0)
    ]
    assert rates == sorted(rates)
    assert rates[-1] > 0.98 * np.log(32)


@pytest.mark.parametrize("concentration", [0.05, 0.5])
def test_cross_entropy_comes_to_the_entropy_rate(concentration):
    """The mean of 64 independent samples is within 4 of its own standard errors of H."""
    rng = np.random.default_rng(3)
    language = KnownEntropyLanguage.random(rng, 16, concentration=concentration)
    losses = [language.cross_entropy(language.sample(rng, 2_000)) for _ in range(64)]
    standard_error = np.std(losses, ddof=1) / 8
    assert standard_error < 0.01
    assert abs(np.mean(losses) - language.entropy_rate) < 4 * standard_error


def test_the_error_falls_as_one_over_root_n():
    rng = np.random.default_rng(4)
    language = KnownEntropyLanguage.random(rng, 16)

    def spread(n):
        losses = [language.cross_entropy(language.sample(rng, n + 1)) for _ in range(200)]
        return np.sqrt(np.mean((np.array(losses) - language.entropy_rate) ** 2))

    slope = np.log(spread(1600) / spread(100)) / np.log(16)
    # A spread from 200 samples is known to about 5 %, so the slope to about 0.025.
    assert slope == pytest.approx(-0.5, abs=0.1)


def test_no_other_model_beats_the_floor():
    rng = np.random.default_rng(5)
    language = KnownEntropyLanguage.random(rng, 8, concentration=1.0)
    tokens = language.sample(rng, 50_000)
    for _ in range(10):
        other = KnownEntropyLanguage.random(rng, 8, concentration=1.0)
        assert other.cross_entropy(tokens) > language.entropy_rate


def test_every_position_of_a_sample_is_stationary():
    rng = np.random.default_rng(6)
    language = KnownEntropyLanguage.random(rng, 4, concentration=0.5)
    samples = np.stack([language.sample(rng, 4) for _ in range(5_000)])
    pi = language.stationary
    for position in range(4):
        share = np.bincount(samples[:, position], minlength=4) / 5_000
        assert np.all(np.abs(share - pi) < 4 * np.sqrt(pi * (1 - pi) / 5_000))


def test_samples_follow_the_transitions():
    rng = np.random.default_rng(7)
    language = KnownEntropyLanguage.random(rng, 5, concentration=0.5)
    tokens = language.sample(rng, 100_000)
    counts = np.zeros((5, 5))
    np.add.at(counts, (tokens[:-1], tokens[1:]), 1)
    visits = counts.sum(axis=1, keepdims=True)
    P = language.transition
    assert np.all(np.abs(counts / visits - P) <= 4 * np.sqrt(P * (1 - P) / visits) + 1e-12)


def test_sampling_is_repeatable_and_int64():
    language = KnownEntropyLanguage.random(np.random.default_rng(8), 6)
    first, second = (language.sample(np.random.default_rng(9), 300) for _ in range(2))
    assert first.dtype == np.int64
    assert first.shape == (300,)
    np.testing.assert_array_equal(first, second)
    assert language.sample(np.random.default_rng(9), 0).shape == (0,)


def test_impossible_transitions_cost_infinity():
    language = KnownEntropyLanguage([[0.0, 1.0], [1.0, 0.0]])
    assert language.cross_entropy([0, 1, 0]) == 0.0
    assert language.cross_entropy([0, 0]) == np.inf


@pytest.mark.parametrize(
    ("transition", "message"),
    [
        (np.ones((2, 3)) / 3, "square"),
        (np.ones(4) / 4, "square"),
        (np.zeros((0, 0)), "square"),
        ([[0.5, 0.6], [0.5, 0.5]], "sum to one"),
        ([[1.5, -0.5], [0.5, 0.5]], "sum to one"),
        ([[np.nan, 1.0], [0.5, 0.5]], "sum to one"),
        (np.eye(3), "more than one stationary"),
        (np.kron(np.eye(2), [[0.3, 0.7], [0.6, 0.4]]), "more than one stationary"),
        ([[1 - 1e-12, 1e-12], [1e-12, 1 - 1e-12]], "more than one stationary"),
    ],
)
def test_unusable_transitions_are_refused(transition, message):
    with pytest.raises(ValueError, match=message):
        KnownEntropyLanguage(transition)


def test_unusable_arguments_of_a_language_are_refused():
    rng = np.random.default_rng(0)
    for n_symbols, concentration in ((0, 1.0), (4, 0.0), (4, np.nan)):
        with pytest.raises(ValueError, match="concentration positive"):
            KnownEntropyLanguage.random(rng, n_symbols, concentration=concentration)
    language = KnownEntropyLanguage.random(rng, 4)
    with pytest.raises(ValueError, match="must not be negative, got -1"):
        language.sample(rng, -1)
    with pytest.raises(ValueError, match="at least 2 tokens"):
        language.cross_entropy([0])
    for tokens in ([0, 4], [0, -1]):
        with pytest.raises(ValueError, match="must be in 0 … 3"):
            language.cross_entropy(tokens)


@pytest.mark.parametrize(("length", "n_symbols", "delay"), [(1, 1, 0), (3, 5, 2), (6, 4, 9)])
def test_copy_task_has_the_documented_layout(length, n_symbols, delay):
    rng = np.random.default_rng(10)
    inputs, targets, mask = copy_task(rng, 7, length, n_symbols, delay)
    blank, delimiter = n_symbols, n_symbols + 1
    assert inputs.dtype == targets.dtype == np.int64
    assert mask.dtype == np.bool_
    assert inputs.shape == targets.shape == mask.shape == (7, 2 * length + delay + 1)
    for x, y, counts in zip(inputs, targets, mask, strict=True):
        symbols = x[:length].tolist()
        assert set(symbols) <= set(range(n_symbols))
        assert x.tolist() == [*symbols, *[blank] * delay, delimiter, *[blank] * length]
        assert y.tolist() == [*[blank] * (length + delay + 1), *symbols]
        assert counts.tolist() == [*[False] * (length + delay + 1), *[True] * length]


def test_copying_has_no_loss():
    """The model that looks back L + delay + 1 positions is right on every counted position."""
    inputs, targets, mask = copy_task(np.random.default_rng(11), 20, 5, 9, delay=3)
    looked_back = np.roll(inputs, 5 + 3 + 1, axis=1)
    np.testing.assert_array_equal(looked_back[mask], targets[mask])


def test_not_looking_back_costs_log_n():
    """Plug-in entropy of a uniform symbol is log n − (n − 1)/(2 N) ± √(2 (n − 1))/(2 N)."""
    batch, n = 4_000, 8
    inputs, targets, mask = copy_task(np.random.default_rng(12), batch, 5, n, delay=2)
    np.testing.assert_array_equal(inputs[:, 5:], inputs[:1, 5:].repeat(batch, axis=0))
    expected = np.log(n) - (n - 1) / (2 * batch)
    for symbols in targets[mask].reshape(batch, 5).T:
        best = entropy(np.bincount(symbols, minlength=n) / batch)
        assert abs(best - expected) < 5 * np.sqrt(2 * (n - 1)) / (2 * batch)
    # Nor does one symbol tell of the next.
    pairs = targets[:, -5] * n + targets[:, -4]
    expected = 2 * np.log(n) - (n * n - 1) / (2 * batch)
    best = entropy(np.bincount(pairs, minlength=n * n) / batch)
    assert abs(best - expected) < 5 * np.sqrt(2 * (n * n - 1)) / (2 * batch)


def test_copy_task_is_repeatable():
    first, second = (copy_task(np.random.default_rng(13), 4, 6, 5, 1) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("arguments", [(0, 1, 1), (1, 0, 1), (1, 1, 0), (1, 1, 1, -1)])
def test_unusable_arguments_of_the_copy_task_are_refused(arguments):
    with pytest.raises(ValueError, match="at least 1 and delay at least 0"):
        copy_task(np.random.default_rng(0), *arguments)
