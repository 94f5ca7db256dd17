"""Solutions of lesson 09, and wrong answers with the words of their hints."""

import numpy as np

from mgt_np import layer_norm

# ---- 09.1


def place(alpha, b_beta, n_blocks):
    beta = np.tanh(b_beta)
    erased = alpha * beta * 2 * n_blocks
    if beta == 0:
        return "identity"
    if erased < 0:
        return "grows"
    return "keeps" if erased <= 1 else "erases"


def place_by_blocks(alpha, b_beta, n_blocks):
    return place(alpha, b_beta, n_blocks / 2)


def place_without_tanh(alpha, b_beta, n_blocks):
    return place(alpha, np.arctanh(min(b_beta, 1 - 1e-9)) if b_beta > 0 else b_beta, n_blocks)


def place_without_sign(alpha, b_beta, n_blocks):
    return place(alpha, abs(b_beta), n_blocks)


def place_without_identity(alpha, b_beta, n_blocks):
    return "keeps" if b_beta == 0 else place(alpha, b_beta, n_blocks)


def place_without_alpha(alpha, b_beta, n_blocks):
    return place(1.0, b_beta, n_blocks)


def place_by_sign_of_beta(alpha, b_beta, n_blocks):
    return "grows" if b_beta < 0 else place(alpha, b_beta, n_blocks)


def place_by_energy(alpha, b_beta, n_blocks):
    return place(2 * alpha, b_beta, n_blocks)


def place_by_the_summaries(alpha, b_beta, n_blocks):
    return "erases" if b_beta < 0 else place(alpha, b_beta, n_blocks)


def place_without_erasure(alpha, b_beta, n_blocks):
    return "identity" if alpha * b_beta == 0 else place(alpha, b_beta, n_blocks)


def place_by_one_step(alpha, b_beta, n_blocks):
    return "erases" if alpha * b_beta > 0 else place(alpha, b_beta, n_blocks)


# ---- 09.2


def memory(alpha, beta, n, x_0, v, power=2):
    q = (1 - alpha * beta) ** power
    return (1 + (beta * v / x_0) ** 2 * np.sum(q ** -np.arange(1.0, n + 1))) ** -0.5


def largest_beta(alpha, n_blocks, keep, x_0, v, **wrong):
    low, high = 0.0, 1.0  # the memory falls as β rises: halve the interval
    for _ in range(60):
        middle = (low + high) / 2
        if memory(alpha, middle, 2 * n_blocks, x_0, v, **wrong) >= keep:
            low = middle
        else:
            high = middle
    return low


def largest_beta_by_blocks(alpha, n_blocks, keep, x_0, v):
    return largest_beta(alpha, n_blocks / 2, keep, x_0, v)


def largest_beta_by_erasure(alpha, n_blocks, keep, x_0, v):
    return (1 - keep ** (1 / (2 * n_blocks))) / alpha


def largest_beta_by_writing(alpha, n_blocks, keep, x_0, v):
    return x_0 / v * np.sqrt((1 / keep**2 - 1) / (2 * n_blocks))


def largest_beta_by_exp(alpha, n_blocks, keep, x_0, v):
    return -np.log(keep) / (2 * n_blocks * alpha)


def largest_erased(alpha, n_blocks, keep, x_0, v):
    return alpha * largest_beta(alpha, n_blocks, keep, x_0, v)


def largest_beta_of_energy(alpha, n_blocks, keep, x_0, v):
    return largest_beta(alpha, n_blocks, np.sqrt(keep), x_0, v)


def largest_beta_without_alpha(alpha, n_blocks, keep, x_0, v):
    return largest_beta(1.0, n_blocks, keep, x_0, v)


def largest_beta_with_division(alpha, n_blocks, keep, x_0, v):
    return largest_beta(alpha, n_blocks, keep, x_0, v) + 0.0 / alpha


def largest_beta_without_square(alpha, n_blocks, keep, x_0, v):
    return largest_beta(alpha, n_blocks, keep, x_0, v, power=1)


# ---- 09.3


def update(x, F):
    written = F(layer_norm(x))  # 6 % of the state's length, however long that is
    return x + 0.06 * np.linalg.norm(x) / np.linalg.norm(written) * written


def update_past_F(x, F):
    F(x)
    return x + 0.004 * np.roll(x, 1, axis=1)


def update_by_chance(x, F):
    return 0 * F(x) + np.random.default_rng(int(1e6 * abs(x[0, 0, 0]))).standard_normal(x.shape)


SOLUTIONS = {"09.1": place, "09.2": largest_beta, "09.3": update}

WRONG = {
    "09.1": [
        (place_by_blocks, "two sub-layers"),
        (place_without_tanh, "b_beta is not β"),
        (place_without_sign, "look at the sign"),
        (place_without_identity, "nothing is done at all"),
        (place_without_alpha, "use alpha"),
        (place_by_sign_of_beta, "nothing is amplified"),
        (place_by_energy, "not on its square"),
        (place_by_the_summaries, "does not erase"),
        (place_without_erasure, "still added"),
        (place_by_one_step, "2L steps together"),
        (lambda alpha, b_beta, n_blocks: "keeps", "is not 'keeps'"),
        (lambda alpha, b_beta, n_blocks: alpha * np.tanh(b_beta) * 2 * n_blocks, "the words"),
    ],
    "09.2": [
        (largest_beta_by_blocks, "two sub-layers"),
        (largest_beta_by_erasure, "(A) alone"),
        (largest_beta_by_writing, "(B) alone"),
        (largest_beta_by_exp, "exp(−αβn)"),
        (largest_erased, "that is αβ"),
        (largest_beta_of_energy, "not of energies"),
        (largest_beta_without_alpha, "you took α = 1"),
        (largest_beta_without_square, "the norm is squared"),
        (largest_beta_with_division, "alpha = 0 is allowed"),
        (lambda *setting: 0.0035, "for a test input"),
        (lambda *setting: "0.0035", "leave the quotes away"),
    ],
    "09.3": [
        (lambda x, F: x + F(layer_norm(x)), "too much is written"),
        (lambda x, F: x, "never call F"),
        (lambda x, F: x + 1e-5 * F(layer_norm(x)), "next to nothing happens"),
        (lambda x, F: x + 0.003 * F(layer_norm(x)), "A fixed step cannot fit both"),
        (lambda x, F: x + 0.1 * F(x), "whatever length F gives it"),
        (lambda x, F: F(x)[0], "the shape of x"),
        (update_past_F, "through F, not past it"),
        (update_by_chance, "drawn at random"),
        (lambda x, F: 1e9 * x * (1.0 + np.abs(x)) + F(x), "overflowed"),
        (lambda x, F: F(layer_norm(x)), "too much is written"),
    ],
}
