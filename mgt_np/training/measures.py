"""What is measured as training goes: the loss on fixed batches, each layer's rank, β and gate."""

import math

from mgt_np.analysis import effective_rank, state_norm
from mgt_np.arrays import array_namespace, checkpoint
from mgt_np.layers import cross_entropy, delta_gate, linear, mgt_beta, rms_norm, tangent_gate
from mgt_np.models import RESIDUAL_RULES, transformer
from mgt_np.models.decoder import connections, embed, last_state
from mgt_np.models.parameters import check_params

from .tasks import IGNORED

LARGE_VOCABULARY = 4096  # with more tokens than this, logits are made in parts
LOGITS_AT_ONCE = 2**24  # in a part: 64 MiB in float32


def loss_of(params, inputs, targets, config, *, masks=None):
    """The mean loss of next tokens in nats, over the targets that count.

    `masks` are those of `last_state`, for dropout. With a vocabulary above LARGE_VOCABULARY the
    logits never exist all at once, nor do their gradients; a mean over no target is then NaN.
    Otherwise errors are those of `transformer` and `cross_entropy`.
    """
    x, W_out = last_state(params, inputs, config, masks=masks), params["W_out"]
    if config.vocab_size <= LARGE_VOCABULARY:
        return cross_entropy(linear(x, W_out), targets)
    return cross_entropy_in_parts(x, W_out, targets)


def cross_entropy_in_parts(x, W_out, targets, *, at_once=None):
    """Return `cross_entropy(linear(x, W_out), targets)` from parts of at most `at_once` logits.

        ℓ = Σ_parts Σ_i −log p_target(x_i W_out) / (number of targets that count)

    Shapes: x (..., d), W_out (d, vocab), targets (...) of integers, -100 where one does not count;
    the default of `at_once` is LOGITS_AT_ONCE, and a part has at least one token. The backward pass
    makes the logits of all parts but the last a second time. A mean over no target is NaN; other
    errors are those of `linear` and `cross_entropy`.
    """
    *parts, last = _parts(x, W_out, targets, at_once or LOGITS_AT_ONCE)
    total = 0.0
    for part, wanted in parts:
        total = total + checkpoint(_total_loss)(part, W_out, wanted)
    part, wanted = last  # its backward pass comes at once: nothing to forget
    return _over_those_that_count(total + _total_loss(part, W_out, wanted), targets)


def _total_loss(x, W_out, targets):
    return cross_entropy(linear(x, W_out), targets, reduction="sum")


def _parts(x, W_out, targets, at_once):
    """Yield tokens, as rows, and their targets: equal parts with at most `at_once` logits."""
    rows = array_namespace(x).reshape(x, (-1, x.shape[-1]))
    targets = array_namespace(targets).reshape(targets, (-1,))
    n_tokens, most = rows.shape[0], max(1, at_once // W_out.shape[-1])
    n_parts = max(1, math.ceil(n_tokens / most))
    for i in range(n_parts):
        start, end = i * n_tokens // n_parts, (i + 1) * n_tokens // n_parts
        yield rows[start:end, :], targets[start:end]


def _over_those_that_count(total, targets):
    plain = array_namespace(targets)
    n = plain.sum(plain.astype(targets != IGNORED, total.dtype))
    return total / plain.where(n == 0, math.nan, n)


def validation(params, batches, config):
    """Mean loss over batches, and the part of the targets that the largest logit gets right.

    With a vocabulary above LARGE_VOCABULARY the logits never exist all at once, as in `loss_of`.
    """
    losses, right, total = [], 0, 0
    for inputs, targets in batches:
        plain = array_namespace(targets)
        loss, hits = _judged(params, inputs, targets, config)
        losses.append(float(loss))
        right += hits
        total += int(plain.sum(plain.astype(targets >= 0, plain.int64)))
    return math.fsum(losses) / len(losses), right / total


def _judged(params, inputs, targets, config):
    """The mean loss of a batch, and how many of its targets have the largest logit."""
    if config.vocab_size <= LARGE_VOCABULARY:
        logits = transformer(params, inputs, config)
        return cross_entropy(logits, targets), _hits(logits, targets)
    x, W_out, loss, hits = last_state(params, inputs, config), params["W_out"], 0.0, 0
    for part, wanted in _parts(x, W_out, targets, LOGITS_AT_ONCE):
        logits = linear(part, W_out)
        loss = loss + cross_entropy(logits, wanted, reduction="sum")
        hits += _hits(logits, wanted)
    return _over_those_that_count(loss, targets), hits


def _hits(logits, targets):
    xp, plain = array_namespace(logits), array_namespace(targets)
    hits = xp.argmax(logits, axis=-1) == targets  # never, where one does not count
    return int(plain.sum(plain.astype(hits, plain.int64)))


def by_layer(params, inputs, config):
    """Rank and norm of the state before each block and at the end, β and gate in each block.

    A list of dicts: layer, effective_rank (of min(N, d), the mean over the batch), state_norm, beta
    (MGT's, or that of DDL's gate), beta_negative, the fraction where β < 0, and gate (MGT's): means
    over tokens and features of the attention sub-layer; NaN where a rule has none, and behind the
    last block. Errors as in `transformer`.
    """
    rows = []
    for layer, (state, x) in enumerate(_states(params, inputs, config)):
        xp = array_namespace(x)
        whole = bool(xp.all(xp.isfinite(x)))
        rank = xp.mean(effective_rank(x, normalize=True)) if whole else math.nan
        last = layer == config.n_layers
        residual = {} if last else _of_attention(params["blocks"][layer], config)
        beta, negative = _beta(state, residual, config)
        rows.append(
            {
                "layer": layer,
                "effective_rank": float(rank),
                "state_norm": float(xp.mean(state_norm(x))),
                "beta": beta,
                "beta_negative": negative,
                "gate": _gate(x, residual.get("update", {})),
            }
        )
    return rows


def _states(params, inputs, config):
    """Yield the rule's state before each block and at the end, and one stream: `hidden_states`."""
    check_params("by_layer", params, config)
    rule, x = RESIDUAL_RULES[config.residual], embed("by_layer", params, inputs, config)
    state = rule.expand(x, config)
    yield state, x
    for block in params["blocks"]:
        for _, sublayer, residual in connections(block, config):
            state = rule.update(state, sublayer, residual, config)
        yield state, rule.read(state, params.get("read_out", {}), config)


def _of_attention(block, config):
    """The rule's parameters for a block's attention sub-layer."""
    return next(residual for name, _, residual in connections(block, config) if name == "attention")


def _beta(state, residual, config):
    """The mean of MGT's β, or of DDL's, whose gate reads the state as its sub-layer does.

    And the fraction of tokens and features where it is negative.
    """
    update = residual.get("update", {})
    if not {"W_beta", "b_beta"} <= update.keys():
        return math.nan, math.nan
    if "W_v" in update:
        x = RESIDUAL_RULES[config.residual].read(state, residual, config)
        context = rms_norm(x, **residual["norm"], eps=config.ddl_norm_eps)
        names = ("W_beta", "b_beta", "W_hidden", "b_hidden")
        beta = delta_gate(context, **{name: update[name] for name in names if name in update})
    else:
        options = {"lam": config.mgt_lam, "eps": config.mgt_eps}
        beta = mgt_beta(state, update["W_beta"], update["b_beta"], **options)
    xp = array_namespace(beta)
    return float(xp.mean(beta)), float(xp.mean(xp.astype(beta < 0.0, beta.dtype)))


def _gate(x, update):
    if "W_gate" not in update:
        return math.nan
    names = ("W_gate", "gain", "bias")
    gate = tangent_gate(x, **{name: update[name] for name in names if name in update})
    return float(array_namespace(gate).mean(gate))
