"""Decoders trained for an experiment: what the training experiments have in common."""

import math
from dataclasses import dataclass

import numpy as np

from mgt_np.arrays import leaves_with_paths
from mgt_np.models import TransformerConfig, init_transformer
from mgt_np.training import TrainingError, TrainingSettings, load_task, train

from .experiment import Where, generator
from .writing import read_csv

MGT, POST, PRE = "MGT", "Post-LN", "Pre-LN"
SMALL, SCALED = "Pre-LN, steps of MGT's size", "Pre-LN/√L"
# MGT's first step is β g F with β = tanh 0.05 and a gate of ½ in the mean; here it is fixed.
MODELS = {
    MGT: {"residual": "mgt"},
    POST: {"residual": "post_ln"},
    PRE: {"residual": "pre_ln"},
    SMALL: {"residual": "scaled_residual", "scaled_residual_factor": math.tanh(0.05) / 2},
    SCALED: {"residual": "scaled_residual"},
    "DeepNorm": {"residual": "deepnorm"},
    "ReZero": {"residual": "rezero"},
    "mHC": {"residual": "mhc"},
    "DDL": {"residual": "ddl"},
}
ERRORS = 2.0  # standard errors by which a mean difference counts


@dataclass(frozen=True)
class Training(Where):
    """Sizes, and how long is learned: bytes of a text, all models at one learning rate."""

    seed: int = 0
    n_seeds: int = 3
    data: str = "python-docs"
    d_model: int = 16
    n_heads: int = 2
    n_tokens: int = 16
    batch: int = 4
    n_steps: int = 20
    lr: float = 3e-3
    warmup: int = 5
    log_every: int = 10
    n_valid: int = 4


def trained_rows(there, model, seed, folder, *, n_layers, d_model, n_heads, **how):
    """Train a model of `MODELS`, and return a dict for each logged step.

    Columns: step; valid_loss and the `unigram`'s on the same batches, nats a byte; rank, of the
    last state, over min(N, d); weights, the number of entries of its matrices but the embedding's,
    to which the arithmetic of a step is proportional. A run that breaks off has a last row of NaN.
    """
    settings = TrainingSettings(
        seed=int(generator(seed).integers(2**62)),
        array_library=there.place.name,
        device=None if there.place.device is None else str(there.place.device),
        **how,
    )
    sizes = {name: how[name] for name in ("batch", "n_tokens", "n_valid")}
    task = load_task(how["data"], **sizes)
    config = TransformerConfig(
        **MODELS[model],
        vocab_size=task.vocab_size,
        d_model=d_model,
        d_ff=4 * d_model,
        n_heads=n_heads,
        n_layers=n_layers,
        max_tokens=how["n_tokens"],
        dtype=there.dtype,
    )
    kept = (folder / "checkpoint.npz").exists()
    broke = False
    try:
        train(config, settings, task=task, folder=folder, resume=kept, threads=1)
    except TrainingError:
        broke = True
    last = read_csv(folder / "layers.csv").where(layer=n_layers)
    fixed = {"model": model, "layers": n_layers, "seed": seed[-1], "weights": n_weights(config)}
    fixed["unigram"] = unigram_loss(task)
    rows = [
        fixed | {"step": row["step"], "valid_loss": row["valid_loss"], "rank": rank}
        for row, rank in zip(
            read_csv(folder / "log.csv"), last.column("effective_rank"), strict=True
        )
    ]
    if broke:
        rows.append(fixed | {"step": settings.n_steps, "valid_loss": math.nan, "rank": math.nan})
    return rows


def n_weights(config):
    """The number of entries of all matrices that a token is multiplied with."""
    params = init_transformer(np.random.default_rng(0), config)
    counted = {name: tree for name, tree in params.items() if name not in ("tokens", "positions")}
    return sum(leaf.size for _, leaf in leaves_with_paths(counted) if leaf.ndim > 1)


def unigram_loss(task, n_batches=64):
    """The loss on the fixed batches of the frequencies of tokens, in nats.

    They are counted in batches of the task, one added to each.
    """
    rng = np.random.default_rng(0)
    counts = np.ones(task.vocab_size)
    for _ in range(n_batches):
        counts += np.bincount(task.batch(rng)[1].ravel(), minlength=task.vocab_size)
    targets = np.concatenate([targets.ravel() for _, targets in task.valid])
    return float(-np.mean(np.log(counts / counts.sum())[targets]))


def at_end(result, column="valid_loss", **wanted):
    """{model: values of the last step, one a seed} of the rows with these values."""
    rows = result.rows.where(step=result.settings.n_steps, **wanted)
    return {model: rows.where(model=model).column(column) for model in rows.values("model")}


def lower_by(mine, others):
    """Mean and standard error of the differences, seed by seed, of two lists of losses."""
    differences = np.subtract(mine, others)
    return float(differences.mean()), float(differences.std(ddof=1) / math.sqrt(differences.size))


def is_lower(difference):
    """Whether a mean lies more than two of its standard errors below zero."""
    mean, error = difference
    return mean + ERRORS * error < 0.0
