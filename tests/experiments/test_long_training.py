"""Long training: passes over a piece of a text, runs that break off, and verdicts on the rows."""

import math

import numpy as np
import pytest
from small_settings import changed, check_boundaries, small, small_run, verdicts

from mgt_np.arrays.libraries import There, place
from mgt_np.data import load_corpus
from mgt_np.experiments import EXPERIMENTS, Rows, judged, long_training
from mgt_np.experiments.experiment import Result, generator
from mgt_np.layers import mgt_beta
from mgt_np.models import TransformerConfig, init_transformer
from mgt_np.training import TrainingError, TrainingSettings, load_task, loop, train

NAN = float("nan")
MODELS = ("MGT", "MGT with b_β = -2", "MGT with β > 0 only")
SIZES = {"data": "python-docs", "batch": 3, "n_tokens": 8, "n_valid": 2}


@pytest.fixture
def result():
    return small_run("long-training")


def made(*rows):
    """A result of rows (model, seed, step, train_loss), 40 steps in all, an entropy of 1.9."""
    names = ("model", "seed", "step", "train_loss")
    rows = Rows(dict(zip(names, row, strict=True)) | {"entropy": 1.9} for row in rows)
    return Result("long-training", long_training.QUICK, rows)


def cells_of(**settings):
    cell = EXPERIMENTS["long-training"].tasks(small("long-training", **settings))[0]
    return {name: cell[name] for name in cell if name not in ("array_library", "device", "dtype")}


def test_boundaries():
    check_boundaries(
        "long-training",
        ([1.0], [2 / 3, 0.0, NAN]),
        ([-1e-9, -1.0], [0.0, 1.0, NAN]),
        (
            [(0.0, -1e-9), (0.099, -1.0)],
            [(0.1, -1.0), (0.0, 0.0), (0.0, 2.0), (NAN, -1.0), (0.0, NAN)],
        ),
        ([1.0, 99.9], [100.0, 1e9, NAN]),
        ([(-0.21, 0.1), (-1.0, 0.0)], [(-0.2, 0.1), (0.0, 0.0), (NAN, 0.1), (0.5, 0.1)]),
    )


def test_full_settings_are_the_protocols_far_end():
    full = long_training.FULL
    assert (full.n_layers, long_training.passes(full, full.n_steps)) == (200, 200)


def test_passes_count_each_byte_as_often_as_it_is_drawn():
    settings = small("long-training", n_bytes=32, n_tokens=8, batch=3)
    piece, rng, drawn = np.arange(32), np.random.default_rng(0), 0
    draw = long_training.over_and_over(piece, SIZES).batch
    for _ in range(20):
        inputs, _ = draw(rng)
        drawn += inputs.size
    assert long_training.passes(settings, 20) == drawn / piece.size == 15.0


def test_training_windows_are_of_the_piece_alone_and_held_out_ones_of_the_text():
    piece = np.arange(10)  # bytes of no text, in order
    task = long_training.over_and_over(piece, SIZES)
    rng, seen = np.random.default_rng(0), set()
    for _ in range(20):
        inputs, targets = task.batch(rng)
        assert inputs.shape == (3, 8)
        assert (targets == inputs + 1).all()
        seen |= set(np.concatenate([inputs, targets]).ravel().tolist())
    assert seen == set(range(10))
    text = load_task("python-docs", batch=3, n_tokens=8, n_valid=2)
    assert np.array_equal(task.valid, text.valid)


def test_entropy_of_frequencies():
    assert long_training.entropy(np.asarray([7, 7, 9, 9])) == pytest.approx(math.log(2))
    assert long_training.entropy(np.asarray([7, 7, 7, 9])) == pytest.approx(
        -0.75 * math.log(0.75) - 0.25 * math.log(0.25)
    )


def betas_at_the_start(model, x):
    options = long_training.FORMS[model]
    sizes = {"vocab_size": 3, "d_model": 4, "d_ff": 4, "n_heads": 1, "n_layers": 1}
    config = TransformerConfig(**options, **sizes, max_tokens=2)
    params = init_transformer(np.random.default_rng(0), config)
    update = params["blocks"][0]["attention_residual"]["update"]
    found = []
    for change in (0.0, -1e3, 1e3):  # as it starts, and as far as W_beta may be trained
        beta = mgt_beta(
            x, update["W_beta"] + change, update["b_beta"], lam=config.mgt_lam, eps=config.mgt_eps
        )
        found.append(float(beta.mean()))
    return found


def test_what_beta_a_form_starts_with_and_can_reach():
    x = np.ones((1, 4))
    small_step = math.tanh(0.05)
    assert betas_at_the_start("MGT", x) == pytest.approx([small_step, -1.0, 1.0])
    assert betas_at_the_start("MGT with β > 0 only", x) == pytest.approx([small_step, 0.0, 2.0])
    for b in (-0.05, -0.5, -2):
        found = betas_at_the_start(f"MGT with b_β = {b:g}", x)
        assert found == pytest.approx([math.tanh(b), -1.0, 1.0])


def test_one_row_a_model_a_seed_and_a_logged_step(result):
    places = [(row["model"], row["seed"], row["step"]) for row in result.rows]
    assert places == [(m, seed, step) for m in MODELS for seed in (0, 1) for step in (2, 4)]


def test_rows_are_those_of_the_training_loop(result, tmp_path):
    how = {"data": "python-docs", "n_tokens": 8, "batch": 4, "n_steps": 4, "log_every": 2}
    settings = TrainingSettings(
        **how, lr=3e-3, warmup=5, n_valid=2, seed=int(generator([0, 1]).integers(2**62))
    )
    config = TransformerConfig(
        **{"vocab_size": 256, "d_model": 8, "d_ff": 32, "n_heads": 2, "n_layers": 2},
        **{"max_tokens": 8, "residual": "mgt", "mgt_b_beta": -2.0},
    )
    piece = load_corpus("python-docs").tokens[:32]
    task = long_training.over_and_over(piece, how | {"n_valid": 2})
    _, log = train(config, settings, task=task, folder=tmp_path, threads=1)
    rows = result.rows.where(model="MGT with b_β = -2", seed=1)
    for name in ("step", "train_loss", "valid_loss", "gradient_norm"):
        expected = [row[name] for row in log]
        assert rows.column(name) == pytest.approx(expected, rel=1e-9)  # kept: ten digits
    lines = (tmp_path / "layers.csv").read_text().splitlines()
    norms = [float(line.split(",")[3]) for line in lines[1:]]
    growth = [norms[2] / norms[0], norms[5] / norms[3]]  # 3 states a logged step
    assert rows.column("growth") == pytest.approx(growth, rel=1e-9)
    assert rows.column("entropy") == pytest.approx([long_training.entropy(piece)] * 2, rel=1e-9)


def breaking(monkeypatch, at):
    step = loop._Run.step

    def breaks(run, state):
        if state.step == at:
            raise TrainingError("no finite loss")
        step(run, state)

    monkeypatch.setattr(loop._Run, "step", breaks)


@pytest.mark.parametrize(("at", "steps"), [(3, [2, 4]), (0, [4])])
def test_a_run_that_breaks_off_ends_with_nan(at, steps, tmp_path, monkeypatch):
    breaking(monkeypatch, at)
    rows = long_training.work(There(place("numpy"), "float64"), folder=tmp_path, **cells_of())
    assert [row["step"] for row in rows] == steps
    names = ("train_loss", "valid_loss", "gradient_norm", "growth")
    assert [math.isnan(rows[-1][name]) for name in names] == [True] * 4
    assert not any(math.isnan(row[name]) for row in rows[:-1] for name in names)


def test_a_run_goes_on_with_the_same_piece(tmp_path, monkeypatch):
    there, cell = There(place("numpy"), "float64"), cells_of()
    whole = long_training.work(there, folder=tmp_path / "whole", **cell)
    with monkeypatch.context() as patch:
        breaking(patch, 3)
        long_training.work(there, folder=tmp_path / "parts", **cell)
    assert long_training.work(there, folder=tmp_path / "parts", **cell) == whole


def test_a_rise_is_above_any_earlier_loss():
    found = made(
        *(("MGT", 0, step, loss) for step, loss in ((10, 3.0), (20, 1.0), (30, 1.2), (40, 1.5))),
        *(("MGT", 1, step, loss) for step, loss in ((10, 5.0), (20, 4.0), (30, 3.0), (40, 2.0))),
        *(("Pre-LN", 0, step, 1.0) for step in (10, 20, 30, 40)),
        *(("Pre-LN", 1, step, 1.0) for step in (10, 20)),
        ("Pre-LN", 1, 40, NAN),
    )
    rises = long_training.rises(found)
    assert rises["MGT"] == pytest.approx((0.5, 0.1))
    assert np.isnan(rises["Pre-LN"]).all()


def test_mgt_is_compared_seed_by_seed_at_the_end():
    found = made(
        *(("MGT", seed, 40, loss) for seed, loss in enumerate((1.0, 2.0))),
        *(("Pre-LN", seed, 40, loss) for seed, loss in enumerate((2.0, 3.5))),
        ("MGT", 1, 20, 99.0),  # an earlier step decides nothing
    )
    assert long_training.against_the_others(found) == {"Pre-LN": pytest.approx((-1.25, 0.25))}


def test_verdicts_follow_the_rows(result):
    good = verdicts(result, train_loss=1.0, entropy=2.0, growth=1.0)
    assert good == [*["holds"] * 4, "does not hold"]
    assert verdicts(result, train_loss=NAN, growth=NAN) == ["does not hold"] * 5
    assert verdicts(result, train_loss=2.0, entropy=2.0)[2] == "does not hold"  # nothing to keep

    def only_mgt(row):
        return 1.0 if row["model"] == "MGT" else 1.0 + row["step"]

    mgt = verdicts(result, train_loss=only_mgt, entropy=2.0, growth=only_mgt)
    assert mgt[0] == "holds"
    assert mgt[1:3] == ["holds only if it is MGT"] * 2
    assert mgt[3:] == ["holds", "holds"]


def test_one_seed_decides(result):
    def one_breaks(row):
        broke = (row["model"], row["seed"], row["step"]) == ("MGT with b_β = -2", 1, 4)
        return NAN if broke else 1.0

    found = verdicts(result, train_loss=one_breaks, growth=one_breaks, entropy=2.0)
    assert found[:4] == ["holds only if it is MGT or MGT with β > 0 only"] * 4
    one = verdicts(result, train_loss=1.0, entropy=lambda row: 2.0 - 1.5 * (row["seed"] == 1))
    assert one[1:3] == ["does not hold"] * 2
    early = verdicts(result, growth=lambda row: 200.0 if row["step"] == 2 else 1.0)
    assert early[3] == "does not hold"


def test_the_figure_says_how_many_runs_broke_off(result):
    def labels(result):
        figure = long_training.plot(result, judged(EXPERIMENTS["long-training"], result))
        return [text.get_text() for text in figure.legends[0].get_texts()]

    lost = {"MGT": 0, "MGT with b_β = -2": 1, "MGT with β > 0 only": 2}
    broke = changed(result, train_loss=lambda row: NAN if row["seed"] < lost[row["model"]] else 1.0)
    assert labels(broke)[:3] == [
        "MGT",
        "MGT with b_β = -2 (1 of 2 broke off)",
        "MGT with β > 0 only (2 of 2 broke off)",
    ]


@pytest.mark.parametrize("models", [("MGT",), ("Pre-LN", "Post-LN"), ("MGT", "Pre-LM")])
def test_models_are_known_ones_and_mgt_is_compared_with_another(models):
    with pytest.raises(ValueError, match="model"):
        small("long-training", models=models)


def test_each_logged_loss_is_a_mean_over_as_many_steps():
    with pytest.raises(ValueError, match="multiple of log_every, 3, got 4"):
        small("long-training", n_steps=4, log_every=3)


def test_a_piece_is_no_longer_than_the_text(tmp_path):
    there, whole = There(place("numpy"), "float64"), load_corpus("python-docs").tokens.size
    assert long_training.work(there, folder=tmp_path / "whole", **cells_of(n_bytes=whole))
    with pytest.raises(ValueError, match=f"at most the text's {whole}, got {whole + 1}"):
        long_training.work(there, folder=tmp_path / "more", **cells_of(n_bytes=whole + 1))
