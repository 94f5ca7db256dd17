"""What `mgt-np train` and `mgt-np generate` do."""

import dataclasses
from pathlib import Path

import numpy as np

from mgt_np.arrays import move, place
from mgt_np.arrays.checks import one_of
from mgt_np.data import TEXT_SOURCES, load_corpus
from mgt_np.models import TransformerConfig
from mgt_np.settings import changed, texts_of

from .exporting import kept_model, kept_settings
from .generating import generate
from .loop import TrainingSettings, task_of, train

SIZES = {"residual": "mgt", "n_layers": 4, "d_model": 64, "n_heads": 4, "dtype": "float32"}


def train_command(given, changes, *, out, resume=None, progress=False):
    """Train as the command line asks, and return the folder and the logged rows.

    `given` has values by the names of `TransformerConfig` and `TrainingSettings`, None where
    nothing was asked for; `changes` are texts NAME=VALUE. With `resume` both come from the
    checkpoint there.
    Raises ValueError for a name of neither, for a folder that holds another run, and what `train`
    raises.
    """
    given = {name: value for name, value in given.items() if value is not None}
    texts = texts_of(changes)
    fields = {
        f.name for kind in (TransformerConfig, TrainingSettings) for f in dataclasses.fields(kind)
    }
    for name in texts:
        one_of(sorted(fields), **{"the name of a setting": name})
    if resume is not None:
        config, settings, _ = kept_settings(resume)
        settings = changed(settings, given, texts)
        config = changed(config, given, texts)
        _, log = train(config, settings, folder=resume, resume=True, progress=progress)
        return Path(resume), log
    if (Path(out) / "checkpoint.npz").exists():
        raise ValueError(f"{out} holds a run: --resume {out} goes on with it, --out names another")
    if given.get("data") == "copy":
        given.setdefault("n_tokens", 63)  # which must be odd
    settings = changed(TrainingSettings(), given, texts)
    task = task_of(settings)
    config = _config(settings, task, given, texts)
    _, log = train(config, settings, task=task, folder=out, progress=progress)
    return Path(out), log


def _config(settings, task, given, texts):
    """The config of a new run: sizes that the task asks for, where nothing else was asked for."""
    sizes = SIZES | {"vocab_size": task.vocab_size, "max_tokens": settings.n_tokens}
    sizes |= {name: value for name, value in given.items() if name in SIZES}
    config = TransformerConfig(**sizes, d_ff=4 * sizes["d_model"])
    return changed(config, {}, texts)


def generate_command(folder, *, prompt, n_tokens, temperature, seed):
    """Return text that the model in a folder goes on with after a prompt.

    Raises ValueError for a model of something else than text, and what `kept_model` raises.
    """
    params, config, settings, _ = kept_model(folder)
    if settings.data not in TEXT_SOURCES:
        raise ValueError(f"generate: expected a model of a text, got one of {settings.data}")
    tokenizer = load_corpus(settings.data, level=settings.level).tokenizer
    there = place(settings.array_library, settings.device, dtype=config.dtype)
    tokens = tokenizer.encode(prompt)
    rng = np.random.default_rng(seed)
    made = generate(move(params, there), config, tokens, n_tokens, rng=rng, temperature=temperature)
    return tokenizer.decode(made)
