"""The training loop: steps, a log, checkpoints, and a way to go on."""

import csv
import dataclasses
import io
import json
import math
import signal
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mgt_np.arrays import leaves_with_paths, move, place, to_host, value_and_grad
from mgt_np.arrays.threads import has_threads, limited, watched
from mgt_np.data.files import write_whole
from mgt_np.models import init_transformer, profile_admin
from mgt_np.settings import check_whole_numbers

from .checkpoints import load_checkpoint, save_checkpoint
from .dropout import dropout_masks
from .measures import by_layer, loss_of, validation
from .optimizers import adamw_init, adamw_update, clip_by_global_norm
from .schedules import learning_rate
from .tasks import bits_per_byte, load_task

LOG = (
    *("step", "train_loss", "valid_loss", "perplexity", "bits_per_byte", "accuracy"),
    *("lr", "gradient_norm"),
)
LAYERS = ("step", "layer", "effective_rank", "state_norm", "beta", "beta_negative", "gate")
RUN_FILES = ("checkpoint.npz", "log.csv", "layers.csv")
TIMED_STEPS = 3
EXPLODED = 1e8  # norm of the gradients at which a run ends


class TrainingError(ValueError):
    """A run that cannot go on: what was found, at which step and where, and what is kept."""


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """How a decoder is trained, beside its own `TransformerConfig`.

    `warmup` steps of linearly growing learning rate, of `n_steps` in all; gradients are clipped to
    the norm `clip`. Every `log_every` steps a row is logged and a checkpoint written. Of texts,
    `level` is "bytes" or "words"; `n_valid` batches judge. BranchNorm's α_t grows over the warm-up.
    `dropout` is the part of the entries that each step leaves out (see `dropout_masks`).
    """

    data: str = "python-docs"
    level: str = "bytes"
    n_steps: int = 1000
    batch: int = 8
    n_tokens: int = 64
    lr: float = 3e-3
    warmup: int = 50
    schedule: str = "cosine"
    weight_decay: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.99
    clip: float = 1.0
    dropout: float = 0.0
    log_every: int = 50
    n_valid: int = 8
    seed: int = 0
    array_library: str = "numpy"
    device: str | None = None

    def __post_init__(self):
        check_whole_numbers(self, "seed", "warmup", "n_steps")
        for each in dataclasses.fields(self):
            value = getattr(self, each.name)
            if isinstance(value, float) and not (math.isfinite(value) and value >= 0.0):
                raise ValueError(f"expected {each.name} finite and at least 0, got {value}")
        if self.dropout >= 1.0:
            raise ValueError(f"expected dropout below 1, got {self.dropout}")


@dataclass
class _State:
    """What a checkpoint holds: after `step` steps."""

    params: dict
    optimizer: dict
    rng: np.random.Generator
    step: int = 0
    losses: list = field(default_factory=list)
    log: list = field(default_factory=list)
    layers: list = field(default_factory=list)
    threads: int | None = None


def task_of(settings):
    """The `Task` that the settings ask for."""
    return load_task(
        settings.data,
        batch=settings.batch,
        n_tokens=settings.n_tokens,
        level=settings.level,
        n_valid=settings.n_valid,
    )


def train(
    config, settings=None, *, task=None, folder=None, resume=False, threads=None, progress=False
):
    """Train a decoder, and return its parameters and the logged rows.

    With a `folder`, `log.csv`, `layers.csv` and `checkpoint.npz` are renewed at each logged step;
    with `resume` the run goes on from the checkpoint there, bit for bit as if it had never stopped.
    `threads` for linear algebra: None times a few steps with one and with all and keeps the faster;
    the choice is part of the run. The seed fixes parameters and batches. `task` is that of the
    settings, where it has been loaded before.
    Raises TrainingError where loss or gradients are not finite, naming step and block (the last
    checkpoint stays), ValueError for a checkpoint of another config or settings, and
    KeyboardInterrupt after everything was saved.
    """
    from tqdm import tqdm  # here, so that the optimizers can be had without it

    settings = TrainingSettings() if settings is None else settings
    task = task_of(settings) if task is None else task
    _check_sizes(config, settings, task)
    run = _Run(config, settings, task, None if folder is None else Path(folder))
    state = run.resumed() if resume else run.started()
    run.save(state)
    state.threads = state.threads or threads or run.fastest_threads(state)
    bar = watched(tqdm)(
        total=settings.n_steps, initial=state.step, unit="step", disable=not progress
    )
    with bar, limited(state.threads), _between_steps() as interrupted:
        while state.step < settings.n_steps:
            if interrupted():
                run.save(state)
                raise KeyboardInterrupt
            run.step(state)
            bar.set_postfix(_beside(bar, state.losses[-1], settings), refresh=False)
            bar.update()
            if state.step % settings.log_every == 0 or state.step == settings.n_steps:
                run.write_rows(state)
    return state.params, state.log


def _beside(bar, loss, settings):
    """What the bar says beside the steps: the last loss, and tokens a second at its own rate."""
    if bar.disable:
        return {}
    shown = bar.format_dict
    rate = shown["rate"]  # smoothed; None until the bar was drawn a second time
    if rate is None:
        rate = (shown["n"] - shown["initial"]) / max(shown["elapsed"], 1e-9)
    tokens = rate * settings.batch * settings.n_tokens
    return {"loss": f"{loss:.3f}", "tokens/s": f"{tokens:,.0f}"}


@contextmanager
def _between_steps():
    """Let Ctrl-C wait for the end of a step; yield a function that says whether it came.

    A second one does not wait. In a thread that gets no signals nothing waits.
    """
    came = []

    def note(number, frame):
        came.append(number)
        signal.signal(signal.SIGINT, before)

    try:
        before = signal.signal(signal.SIGINT, note)
    except ValueError:  # not the main thread
        yield lambda: False
        return
    try:
        yield lambda: bool(came)
    finally:
        signal.signal(signal.SIGINT, before)


def _check_sizes(config, settings, task):
    if config.vocab_size != task.vocab_size:
        raise ValueError(
            f"train: expected a config of {task.vocab_size} tokens for {task.source}, "
            f"got {config.vocab_size}"
        )
    if config.max_tokens < settings.n_tokens:
        raise ValueError(
            f"train: expected max_tokens of at least {settings.n_tokens}, got {config.max_tokens}"
        )


class _Run:
    """One training run: its settings, its task, and where it keeps things."""

    def __init__(self, config, settings, task, folder):
        self.config, self.settings, self.task, self.folder = config, settings, task, folder
        self.there = place(settings.array_library, settings.device, dtype=config.dtype)
        self.valid = [self._moved(batch) for batch in task.valid]

    def _moved(self, tree):
        return move(tree, self.there)

    def started(self):
        """The state before the first step."""
        rng_weights, rng_batches = np.random.default_rng(self.settings.seed).spawn(2)
        params = init_transformer(rng_weights, self.config)
        if self.config.residual == "admin" and self.config.admin_omega is None:
            first, _ = self.task.valid[0]
            params = profile_admin(params, first, self.config)
        params = self._moved(params)
        return _State(params, adamw_init(params), rng_batches)

    def fastest_threads(self, state):
        """The number of threads with which a few steps are faster: one, or all there are."""
        if not has_threads():
            return 1
        from threadpoolctl import threadpool_info

        most = max([info["num_threads"] for info in threadpool_info()], default=1)
        times = {}
        for threads in {1, most}:
            trial = dataclasses.replace(state, rng=np.random.default_rng(0), losses=[])
            with limited(threads):
                self.step(trial)  # the first is slower
                start = time.perf_counter()
                for _ in range(TIMED_STEPS):
                    self.step(trial)
                times[threads] = time.perf_counter() - start
        return min(times, key=times.get)

    def step(self, state):
        """Take one step; the state is as it was where it fails."""
        settings, config = self.settings, self.config_at(state.step)
        before = state.rng.bit_generator.state
        inputs, targets = self._moved(self.task.batch(state.rng))
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is said below
            loss, gradients = value_and_grad(loss_of)(
                state.params, inputs, targets, config, masks=self.masks(state.step, inputs.shape)
            )
            clipped, norm = clip_by_global_norm(gradients, settings.clip)
        if not math.isfinite(float(loss)) or not float(norm) < EXPLODED:
            state.rng.bit_generator.state = before
            raise TrainingError(self._broken(state, float(loss), float(norm), gradients))
        state.params, state.optimizer = adamw_update(
            state.params,
            clipped,
            state.optimizer,
            lr=self.rate(state.step),
            betas=(settings.beta1, settings.beta2),
            weight_decay=settings.weight_decay,
        )
        state.step += 1
        state.losses.append(float(loss))
        self.norm = float(norm)

    def masks(self, step, shape):
        """The masks of a step's dropout, drawn by seed and step alone; None without dropout."""
        settings = self.settings
        if settings.dropout == 0.0:
            return None
        # beside the branches 0 and 1 of the seed, from which weights and batches are drawn
        seed = np.random.SeedSequence(settings.seed, spawn_key=(2, step))
        rng = np.random.default_rng(seed)
        return self._moved(dropout_masks(rng, settings.dropout, self.config, tuple(shape)))

    def rate(self, step):
        """The learning rate of a step."""
        settings = self.settings
        return learning_rate(
            step,
            peak=settings.lr,
            warmup=settings.warmup,
            n_steps=settings.n_steps,
            schedule=settings.schedule,
        )

    def config_at(self, step):
        """The config of a step: BranchNorm's α_t = min(1, (t + 1)/T) grows over the warm-up."""
        if self.config.residual != "branchnorm":
            return self.config
        alpha = min(1.0, (step + 1) / max(1, self.settings.warmup))
        return dataclasses.replace(self.config, branchnorm_alpha=alpha)

    def _broken(self, state, loss, norm, gradients):
        """A line that names the step, and the first parameter with the largest gradient."""
        sizes = {
            path: float(np.nan_to_num(np.abs(to_host(leaf)), nan=math.inf).max())
            for path, leaf in leaves_with_paths(gradients)
        }
        kept = "" if self.folder is None else f"; {self.folder / 'checkpoint.npz'} is kept"
        return (
            f"train: step {state.step + 1}: expected a finite loss and gradients of norm below "
            f"{EXPLODED:g}, got loss {loss:g} and norm {norm:g}, largest in "
            f"{max(sizes, key=sizes.get)}{kept}"
        )

    def write_rows(self, state):
        """Measure, add a row to the log and one for each layer, and save."""
        config = self.config_at(state.step - 1)
        loss, accuracy = validation(state.params, self.valid, config)
        row = {
            "step": state.step,
            "train_loss": math.fsum(state.losses) / len(state.losses),
            "valid_loss": loss,
            "perplexity": math.exp(min(loss, 700.0)),
            "bits_per_byte": bits_per_byte(loss, self.task),
            "accuracy": accuracy,
            "lr": self.rate(state.step - 1),
            "gradient_norm": self.norm,
        }
        state.losses = []
        state.log.append(row)
        inputs, _ = self.valid[0]
        state.layers += [
            {"step": state.step, **each} for each in by_layer(state.params, inputs, config)
        ]
        self.save(state)

    def save(self, state):
        """Write the checkpoint, then the logs that belong to it."""
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        record = {
            "config": dataclasses.asdict(self.config),
            "settings": dataclasses.asdict(self.settings),
            "step": state.step,
            "optimizer_step": state.optimizer["step"],
            "rng": state.rng.bit_generator.state,
            "losses": state.losses,
            "log": state.log,
            "layers": state.layers,
            "threads": state.threads,
        }
        save_checkpoint(self.folder / "checkpoint.npz", _trees(state), record)
        for name, columns, rows in (("log", LOG, state.log), ("layers", LAYERS, state.layers)):
            write_whole(self.folder / f"{name}.csv", _csv(columns, rows))

    def resumed(self):
        """The state that the folder's checkpoint holds."""
        path = self.folder / "checkpoint.npz"
        _, record = load_checkpoint(path)
        for name, mine in (("config", self.config), ("settings", self.settings)):
            _check_same(path, name, record.get(name), mine)
        params = init_transformer(np.random.default_rng(0), self.config)
        zeros = adamw_init(params)
        trees, _ = load_checkpoint(path, _trees(_State(params, zeros, None)))
        trees = self._moved(trees)
        optimizer = {
            "step": record["optimizer_step"],
            "mean": trees["mean"],
            "square": trees["square"],
        }
        rng = np.random.default_rng()
        rng.bit_generator.state = record["rng"]
        names = ("step", "losses", "log", "layers", "threads")
        kept = {name: record[name] for name in names}
        # a column that an older version did not write
        kept["layers"] = [dict.fromkeys(LAYERS, math.nan) | row for row in record["layers"]]
        return _State(trees["params"], optimizer, rng, **kept)


def _trees(state):
    optimizer = state.optimizer
    return {"params": state.params, "mean": optimizer["mean"], "square": optimizer["square"]}


def _check_same(path, name, found, mine):
    """Raise ValueError for the first setting that is another than the checkpoint's.

    A setting that the checkpoint does not have is at its default there.
    """
    if not isinstance(found, dict):
        raise ValueError(f"{path} is no checkpoint of a training run")
    wanted = json.loads(json.dumps(dataclasses.asdict(mine)))
    fields = {each.name: each.default for each in dataclasses.fields(mine)}
    found = {key: x for key, x in fields.items() if x is not dataclasses.MISSING} | found
    for key in sorted(wanted.keys() | found.keys()):
        if found.get(key) != wanted.get(key):
            raise ValueError(
                f"{path} is of another run: expected {name} with {key} = {found.get(key)!r}, "
                f"got {wanted.get(key)!r}"
            )


def _csv(columns, rows):
    text = io.StringIO()
    lines = csv.DictWriter(text, columns, lineterminator="\n")
    lines.writeheader()
    lines.writerows(rows)
    return text.getvalue().encode()
