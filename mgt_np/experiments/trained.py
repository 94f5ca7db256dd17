"""Decoders trained for an experiment: what the training experiments have in common."""

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np

from mgt_np import plotting
from mgt_np.arrays import leaves_with_paths
from mgt_np.arrays.checks import one_of
from mgt_np.data import load_corpus, ngram_probabilities
from mgt_np.models import TransformerConfig, init_transformer
from mgt_np.training import Task, TrainingError, TrainingSettings, load_task, train

from .experiment import Where, generator
from .rows import Rows
from .writing import read_csv

MGT, SMALL = "MGT", "Pre-LN, steps of MGT's size"
START = math.tanh(TransformerConfig.mgt_b_beta)  # MGT's β of every token before training
# MGT's first step is β g F with a gate g of ½ in the mean; that of SMALL stays as large.
MODELS = {
    MGT: {"residual": "mgt"},
    "Post-LN": {"residual": "post_ln"},
    "Pre-LN": {"residual": "pre_ln"},
    SMALL: {"residual": "scaled_residual", "scaled_residual_factor": START / 2},
    "Pre-LN/√L": {"residual": "scaled_residual"},
    "DeepNorm": {"residual": "deepnorm"},
    "ReZero": {"residual": "rezero"},
    "mHC": {"residual": "mhc"},
    "DDL": {"residual": "ddl"},
}
ERRORS = 2.0  # standard errors by which a mean difference counts: by luck one in 11 of 3 seeds


@dataclass(frozen=True)
class Training(Where):
    """Sizes, and how long is learned; the same for all models.

    Raises ValueError for less than two seeds, of which there is no standard error.
    """

    dtype: str = "float32"
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

    def __post_init__(self):
        super().__post_init__()
        if self.n_seeds < 2:
            raise ValueError(f"expected n_seeds of at least 2, got {self.n_seeds}")


def check_models(models, known, *, needed=(MGT,)):
    """Raise ValueError unless all are known, the needed ones are there, and another beside."""
    for model in models:
        one_of(known, **{"the name of a model": model})
    if not {*needed} < {*models} or len({*models}) < len(models):
        named = " and ".join(needed)
        raise ValueError(f"expected {named} and another of the models, each once, got {models}")


def check_depths(depths):
    """Raise ValueError unless these are two numbers of layers at least, and increase."""
    if len(depths) < 2 or any(a >= b for a, b in pairwise(depths)):
        raise ValueError(f"expected depths that increase, at least two, got {depths}")


@dataclass(frozen=True)
class OverDepths(Training):
    """Rules that are compared, at several depths.

    Raises ValueError for models that are not among `MODELS`, MGT and another, and for less than two
    depths or such as do not increase.
    """

    depths: tuple[int, ...] = (1, 2)
    models: tuple[str, ...] = (MGT, "Post-LN", "Pre-LN")

    def __post_init__(self):
        super().__post_init__()
        check_models(self.models, MODELS)
        check_depths(self.depths)


@dataclass(frozen=True)
class Trained:
    """A run: the rows of `log.csv` and of `layers.csv`, and whether it broke off before its end."""

    config: TransformerConfig
    task: Task
    log: Rows
    layers: Rows
    broke: bool


def trained(there, options, seed, folder, *, n_layers, d_model, n_heads, task=None, **how):
    """Train a decoder in a cell's folder, from the checkpoint there if there is one.

    `options` are fields of `TransformerConfig` beside the sizes, `how` fields of
    `TrainingSettings`; `task` is that of these, unless another is given. d_ff is 4 d.
    """
    settings = TrainingSettings(
        seed=int(generator(seed).integers(2**62)),
        array_library=there.place.name,
        device=None if there.place.device is None else str(there.place.device),
        **how,
    )
    sizes = {name: how[name] for name in ("batch", "n_tokens", "n_valid", "level") if name in how}
    task = load_task(how["data"], **sizes) if task is None else task
    config = TransformerConfig(
        **options,
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
    log, layers = (read_csv(folder / f"{name}.csv") for name in ("log", "layers"))
    return Trained(config, task, log, layers, broke)


def trained_rows(there, model, seed, folder, **how):
    """Train a model of `MODELS`, and return a dict for each logged step.

    Columns: step; valid_loss and the `unigram`'s on the same batches, nats a byte; rank, of the
    last state, over min(N, d); weights, the number of entries of the model's matrices without its
    embeddings. A run that breaks off has a last row of NaN.
    """
    run = trained(there, MODELS[model], seed, folder, **how)
    fixed = {"model": model, "layers": run.config.n_layers, "seed": seed[-1]}
    fixed |= {"weights": n_weights(run.config), "unigram": unigram_loss(run.task, how["data"])}
    ranks = run.layers.where(layer=run.config.n_layers).column("effective_rank")
    rows = [
        fixed | {"step": row["step"], "valid_loss": row["valid_loss"], "rank": rank}
        for row, rank in zip(run.log, ranks, strict=True)
    ]
    if run.broke:
        rows.append(fixed | {"step": how["n_steps"], "valid_loss": math.nan, "rank": math.nan})
    return rows


def n_weights(config):
    """The number of entries of all matrices but the embeddings.

    A step multiplies each token by each of them. Attention's scores, norms, gates and the mixing of
    streams are not in it: in time a step of MGT, DDL or mHC is dearer than its weights say.
    """
    params = init_transformer(np.random.default_rng(0), config)
    counted = {name: tree for name, tree in params.items() if name not in ("tokens", "positions")}
    return sum(leaf.size for _, leaf in leaves_with_paths(counted) if leaf.ndim > 1)


def unigram_loss(task, data):
    """The loss of single bytes, counted in the train split, on the task's fixed batches, in nats.

    Witten–Bell's smoothing: a byte that was never seen has a probability above 0.
    """
    targets = np.concatenate([targets.ravel() for _, targets in task.valid])
    return _unigram_loss(data, task.vocab_size, targets.astype(np.int64).tobytes())


@lru_cache(maxsize=4)  # seconds, and the cells of an experiment have the same targets
def _unigram_loss(data, vocab_size, targets):
    train, targets = load_corpus(data).tokens, np.frombuffer(targets, np.int64)
    options = {"order": 1, "smoothing": "witten-bell"}
    return float(-np.mean(np.log(ngram_probabilities(train, targets, vocab_size, **options))))


def at_end(result):
    """{model: losses after the last step, one a seed}."""
    return by_model(result.rows.where(step=result.settings.n_steps))


def by_model(rows, column="valid_loss"):
    """{model: the values of a column, one a seed}."""
    return {name: rows.where(model=name).column(column) for name in rows.values("model")}


def mgt_against(losses):
    """{other model: mean and standard error of MGT's losses − its own}, of {model: losses}."""
    return {name: lower_by(losses[MGT], each) for name, each in losses.items() if name != MGT}


def lower_by(mine, others):
    """Mean and standard error of the differences, seed by seed, of two lists of losses."""
    differences = np.subtract(mine, others)
    return float(differences.mean()), float(differences.std(ddof=1) / math.sqrt(differences.size))


def is_lower(difference):
    """Whether a mean lies more than two of its standard errors below zero."""
    mean, error = difference
    return mean + ERRORS * error < 0.0


STYLES = dict(
    zip(
        MODELS,
        (
            {"color": plotting.BLUE, "marker": "o", "ls": "-"},
            {"color": plotting.VERMILLION, "marker": "x", "ls": "-"},
            {"color": plotting.BLACK, "marker": "s", "ls": "-"},
            {"color": plotting.BLACK, "marker": "^", "ls": ":"},
            {"color": plotting.BLACK, "marker": "v", "ls": "--"},
            {"color": plotting.ORANGE, "marker": "D", "ls": "-."},
            {"color": plotting.GREEN, "marker": "P", "ls": "--"},
            {"color": plotting.PURPLE, "marker": "*", "ls": "-"},
            {"color": plotting.SKY, "marker": "h", "ls": "-."},
        ),
        strict=True,
    )
)


def curves(result, model, column):
    """The logged steps of a model, and values (seeds, steps), NaN where a run had broken off."""
    return curves_of(result.rows.where(model=model), column)


def curves_of(rows, column):
    """The same of rows that are of one model."""
    steps = sorted(rows.values("step"))
    values = [
        [next(iter(rows.where(seed=seed, step=step).column(column)), np.nan) for step in steps]
        for seed in rows.values("seed")
    ]
    return steps, np.asarray(values)
