"""What is measured as training goes: the loss on fixed batches, each layer's rank, β and gate."""

import math

from mgt_np.analysis import effective_rank, state_norm
from mgt_np.arrays import array_namespace
from mgt_np.layers import cross_entropy, mgt_beta, tangent_gate
from mgt_np.models import hidden_states, transformer


def loss_of(params, inputs, targets, config):
    """The mean loss of next tokens in nats, over the targets that count."""
    return cross_entropy(transformer(params, inputs, config), targets)


def validation(params, batches, config):
    """Mean loss over batches, and the part of the targets that the largest logit gets right."""
    losses, right, total = [], 0, 0
    for inputs, targets in batches:
        logits = transformer(params, inputs, config)
        xp, plain = array_namespace(logits), array_namespace(targets)
        counts = targets >= 0
        losses.append(float(cross_entropy(logits, targets)))
        hits = xp.argmax(logits, axis=-1) == targets
        right += int(plain.sum(plain.astype(hits & counts, plain.int64)))
        total += int(plain.sum(plain.astype(counts, plain.int64)))
    return math.fsum(losses) / len(losses), right / total


def by_layer(params, inputs, config):
    """Rank and norm of the state before each block and at the end, MGT's β and gate in each block.

    A list of dicts: layer, effective_rank (of min(N, d), the mean over the batch), state_norm, beta
    and gate (means over tokens and features of the attention sub-layer; NaN where a rule has none,
    and behind the last block).
    """
    rows = []
    for layer, state in enumerate(hidden_states(params, inputs, config)):
        xp = array_namespace(state)
        whole = bool(xp.all(xp.isfinite(state)))
        rank = xp.mean(effective_rank(state, normalize=True)) if whole else math.nan
        last = layer == config.n_layers
        update = {} if last else params["blocks"][layer]["attention_residual"].get("update", {})
        rows.append(
            {
                "layer": layer,
                "effective_rank": float(rank),
                "state_norm": float(xp.mean(state_norm(state))),
                "beta": _beta(state, update, config),
                "gate": _gate(state, update),
            }
        )
    return rows


def _beta(x, update, config):
    if not {"W_beta", "b_beta", "alpha"} <= update.keys():
        return math.nan
    xp, options = array_namespace(x), {"lam": config.mgt_lam, "eps": config.mgt_eps}
    return float(xp.mean(mgt_beta(x, update["W_beta"], update["b_beta"], **options)))


def _gate(x, update):
    if "W_gate" not in update:
        return math.nan
    names = ("W_gate", "gain", "bias")
    gate = tangent_gate(x, **{name: update[name] for name in names if name in update})
    return float(array_namespace(gate).mean(gate))
