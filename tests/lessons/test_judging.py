"""Hints: the right answer, the usual mistakes, and what is no answer at all."""

import numpy as np
import pytest

import mgt_np
from mgt_np.lessons import hint_for, without
from mgt_np.lessons.judging import Forbidden, Unanswered, answered, is_number, unit

USUAL = [(1.0, "that is one."), ([[1.0, 2.0]], "that is a row.")]


class TestHintFor:
    def test_right_answers_have_none(self):
        assert hint_for(0.5, 0.5) == ""
        assert hint_for(np.float32(0.5), 0.5) == ""
        assert hint_for(np.asarray(0.5), 0.5) == ""
        assert hint_for([1.0, np.nan], np.array([1.0, np.nan])) == ""

    def test_the_boundary(self):
        assert hint_for(1.0 + 0.99e-9, 1.0, atol=0.0) == ""
        assert hint_for(1.0 + 1.01e-9, 1.0, atol=0.0) != ""
        assert hint_for(0.99e-12, 0.0) == ""
        assert hint_for(1.01e-12, 0.0) != ""

    def test_usual_mistakes_have_their_own(self):
        assert hint_for(1.0, 0.5, USUAL) == "that is one."
        assert hint_for([[1.0, 2.0]], [1.0, 2.0], USUAL) == "that is a row."
        assert hint_for(1.0, 1.0, USUAL) == ""  # right, whatever else it may be

    @pytest.mark.parametrize(
        ("got", "right", "words"),
        [
            ("0.5", 0.5, "leave the quotes away"),
            ([0.5], 0.5, "one number, got a list"),
            (np.ones(3), np.ones(4), "of shape (4,), got shape (3,)"),
            (np.ones(3), 1.0, "one number, got shape (3,)"),
            (lambda: 0.5, 0.5, "call it"),
            ({"a": 1}, np.ones(2), "got a dict"),
            ([[1.0], [1.0, 2.0]], np.ones(2), "got a list"),
            (np.inf, 0.5, "NaN or infinity"),
            (np.float32(0.1), 0.1, "a few digits only"),
            (0.1 * (1.0 + 1.01e-6), 0.1, "should be 0.1"),
            (0.25, 0.5, "0.25, and should be 0.5"),
            (np.array([1.0, 3.0]), np.array([1.0, 2.0]), "[1] is 3, and should be 2"),
        ],
    )
    def test_everything_else_is_said_in_words(self, got, right, words):
        assert words in hint_for(got, right)

    @pytest.mark.parametrize("blank", [None, ...])
    def test_nothing_is_no_answer(self, blank):
        with pytest.raises(Unanswered):
            hint_for(blank, 0.5)


class TestAnswered:
    @pytest.mark.parametrize(
        "dots",
        [..., None, lambda: ..., lambda: None, lambda: (1.0, ...)],
        ids=["...", "None", "f = ...", "f = None", "in a tuple"],
    )
    def test_dots_are_no_answer(self, dots):
        with pytest.raises(Unanswered):
            answered(dots)()

    def test_answers_are_passed_on(self):
        assert answered(0.5) == 0.5
        assert answered(lambda x, *, y: (x, y))(1, y=2) == (1, 2)


class TestWithout:
    @pytest.mark.parametrize(
        "call",
        [
            lambda x: mgt_np.layer_norm(x),
            lambda x: [mgt_np.layer_norm(row) for row in x],
            lambda x: mgt_np.multi_head_attention(
                x, x, x, x, x, n_heads=1, inner=mgt_np.layer_norm
            ),
        ],
        ids=["at once", "by rows", "inside another"],
    )
    def test_a_layer_is_found_in_either_form(self, call):
        x = np.eye(3)
        for context in (mgt_np.arrays.composed, _nothing):
            with (
                context(),
                pytest.raises(Forbidden, match="layer_norm"),
                without(mgt_np.layer_norm),
            ):
                call(x)

    def test_functions_of_numpy(self):
        with pytest.raises(Forbidden, match="svd"), without(np.linalg.svd):
            np.linalg.svd(np.eye(2))

    def test_others_may_be_called_and_all_may_afterwards(self):
        with without(mgt_np.layer_norm):
            mgt_np.rms_norm(np.eye(3))
        mgt_np.layer_norm(np.eye(3))


class _nothing:
    def __enter__(self):
        pass

    def __exit__(self, *error):
        pass


def test_directions_have_length_one():
    k = unit(np.random.default_rng(0), 4, 3)
    assert k.shape == (4, 3)
    np.testing.assert_allclose(np.linalg.norm(k, axis=-1), 1.0, rtol=1e-15)


@pytest.mark.parametrize("x", [1, 0.5, np.float64(0.25)])
def test_numbers(x):
    assert is_number(x)
    assert not is_number(str(x))
    assert not is_number(x * np.inf)
