"""Tasks whose best loss is known exactly: a language of known entropy, and copying."""

from bisect import bisect_right

import numpy as np

from mgt_np.arrays.options import generator


class KnownEntropyLanguage:
    """A stationary Markov chain, whose entropy rate bounds any model's loss from below.

        π P = π,   Σ_i π_i = 1,   H = −Σ_i π_i Σ_j P_ij log P_ij          (Shannon 1948, section 7)

    `transition` is P (n, n): row i is the distribution of the token after token i. H is in nats
    per token, and the floor at every position: one token of context tells all that there is to
    know. The uniform chain has H = log n; a chain that goes round one fixed cycle has H = 0.
    Raises ValueError where P is not a square matrix of rows that sum to one within 1e-9, or where
    its stationary distribution π is not unique, or so nearly not that π is known to less than
    about eight digits.
    """

    def __init__(self, transition):
        P = np.asarray(transition, dtype=np.float64)
        if P.ndim != 2 or P.shape[0] != P.shape[1] or P.size == 0:
            raise ValueError(f"transition must be a square matrix, got shape {P.shape}")
        if not (np.all(P >= 0) and np.allclose(P.sum(axis=1), 1.0, rtol=0.0, atol=1e-9)):
            raise ValueError("transition must have rows of probabilities that sum to one")
        self.transition = P
        self.n_symbols = P.shape[0]
        self.stationary = _stationary(P)

    @classmethod
    def random(cls, rng, n_symbols: int, *, concentration: float = 0.1):
        """Draw every row of P from a symmetric Dirichlet distribution.

        A small `concentration` makes few successors likely and H small; a large one makes rows
        nearly uniform and H nearly log n.
        """
        generator("rng", rng)
        if n_symbols < 1 or not concentration > 0:
            raise ValueError(
                "n_symbols must be at least 1 and concentration positive, "
                f"got {n_symbols} and {concentration}"
            )
        return cls(rng.dirichlet(np.full(n_symbols, concentration), size=n_symbols))

    @property
    def entropy_rate(self) -> float:
        """Give H in nats per token: no model of the language has a lower expected loss."""
        return float(self.stationary @ _entropy(self.transition))

    @property
    def unigram_entropy(self) -> float:
        """Give −Σ π log π in nats per token: the best loss of a model that ignores its context."""
        return float(_entropy(self.stationary))

    def sample(self, rng, n_tokens: int):
        """Draw `n_tokens` int64 tokens (n_tokens,), the first from π, so every one is from π."""
        generator("rng", rng)
        if n_tokens < 0:
            raise ValueError(f"n_tokens must not be negative, got {n_tokens}")
        cumulative = np.cumsum(np.vstack([self.transition, self.stationary]), axis=1)
        # Dividing by the last makes it exactly 1, so no draw lands on a token of probability 0.
        rows = (cumulative / cumulative[:, -1:]).tolist()
        tokens = []
        token = self.n_symbols  # the row of π
        for u in rng.random(n_tokens).tolist():
            token = bisect_right(rows[token], u)
            tokens.append(token)
        return np.array(tokens, dtype=np.int64)

    def cross_entropy(self, tokens) -> float:
        """Give the mean of −log P over the transitions in `tokens`, in nats per token.

        This is the loss of the true model on these very tokens: it has mean H and comes to H as
        1/√n. An impossible transition makes it infinite.
        """
        tokens = np.asarray(tokens)
        if tokens.ndim != 1 or tokens.size < 2:
            raise ValueError(f"tokens must be 1-D with at least 2 tokens, got shape {tokens.shape}")
        if tokens.min() < 0 or tokens.max() >= self.n_symbols:
            raise ValueError(
                f"tokens must be in 0 … {self.n_symbols - 1}, got {tokens.min()} … {tokens.max()}"
            )
        with np.errstate(divide="ignore"):
            return float(-np.mean(np.log(self.transition[tokens[:-1], tokens[1:]])))


def copy_task(rng, batch: int, length: int, n_symbols: int, delay: int = 0):
    """Make a batch of the copy task: read symbols, wait, and give them back in order.

        inputs    s_1 … s_L   blank × delay   delimiter   blank × L
        targets   blank × (L + delay + 1)                 s_1 … s_L        L = length
        mask      False × (L + delay + 1)                 True × L

    (The copying memory problem of Arjovsky, Shah & Bengio, arXiv:1511.06464, section 4.1; with
    its T, delay = T − 1. What MGT's paper calls its synthetic copy task is not published.)

    Tokens: the symbols are 0 … n_symbols − 1, drawn uniformly; blank is n_symbols and the delimiter
    n_symbols + 1, so the vocabulary has n_symbols + 2. The target at position t belongs to the
    input at t (no further shift), and is the input at t − (L + delay + 1). The answer is never
    among the inputs that follow the delimiter.
    Shapes: all three (batch, 2 L + delay + 1); inputs and targets int64, mask boolean.

    On the positions of the mask, loss is 0 for a model that copies, and log(n_symbols) nats
    (accuracy 1 / n_symbols) at best for one that does not look back.
    """
    generator("rng", rng)
    if min(batch, length, n_symbols) < 1 or delay < 0:
        raise ValueError(
            "batch, length and n_symbols must be at least 1 and delay at least 0, "
            f"got {batch}, {length}, {n_symbols} and {delay}"
        )
    blank, delimiter = n_symbols, n_symbols + 1
    shape = (batch, 2 * length + delay + 1)
    symbols = rng.integers(n_symbols, size=(batch, length))
    inputs = np.full(shape, blank, dtype=np.int64)
    inputs[:, :length] = symbols
    inputs[:, length + delay] = delimiter
    targets = np.full(shape, blank, dtype=np.int64)
    targets[:, -length:] = symbols
    mask = np.zeros(shape, dtype=bool)
    mask[:, -length:] = True
    return inputs, targets, mask


def _stationary(P):
    n = P.shape[0]
    equations = np.vstack([P.T - np.eye(n), np.ones(n)])
    pi, _, rank, _ = np.linalg.lstsq(equations, np.append(np.zeros(n), 1.0), rcond=1e-8)
    if rank < n:
        raise ValueError("transition has, or nearly has, more than one stationary distribution")
    pi = np.maximum(pi, 0.0)  # rounding leaves a transient token at about -1e-17
    return pi / np.sum(pi)


def _entropy(p):
    return -np.sum(p * np.log(p, out=np.zeros_like(p), where=p > 0), axis=-1)
