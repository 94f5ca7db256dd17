import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mgt_np.data import ByteTokenizer, WordTokenizer

SEEDED = settings(derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
WORDS = st.lists(st.lists(st.sampled_from(["a", "b", "the", "été", "<unk>", "x<eos>y"])))


@SEEDED
@given(st.text())
def test_bytes_are_exact_for_any_text(text):
    ids = ByteTokenizer().encode(text)
    assert ids.dtype == np.int64
    assert ids.tolist() == list(text.encode("utf-8"))
    assert ByteTokenizer().decode(ids) == text


def test_bytes_that_are_not_text_are_shown():
    assert ByteTokenizer().decode([72, 255, 105]) == "H\ufffdi"


@SEEDED
@given(st.text())
def test_words_follow_the_published_rule(text):
    lines = text.split("\n")
    lines = lines if lines[-1] else lines[:-1]
    words = [word for line in lines for word in [*line.split(), "<eos>"]]
    tokenizer = WordTokenizer.fit(text)
    assert [tokenizer.vocab[i] for i in tokenizer.encode(text)] == words


def test_word_ids_are_in_order_of_first_appearance():
    assert WordTokenizer.fit(" \n b a b \n c\n").vocab == ("<eos>", "b", "a", "c", "<unk>")
    assert WordTokenizer.fit("a <unk> b").vocab == ("a", "<unk>", "b", "<eos>")
    assert WordTokenizer.fit("").vocab == ("<eos>", "<unk>")


def test_unknown_words_become_unk():
    tokenizer = WordTokenizer.fit("a b\n")
    ids = tokenizer.encode("b zebra a\n\n")
    assert ids.dtype == np.int64
    assert [tokenizer.vocab[i] for i in ids] == ["b", "<unk>", "a", "<eos>", "<eos>"]
    assert tokenizer.decode(ids) == "b <unk> a\n\n"


@SEEDED
@given(WORDS)
def test_decoding_keeps_all_but_spacing(lines):
    text = "".join(" ".join(line) + "\n" for line in lines)
    tokenizer = WordTokenizer.fit(text)
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert (
        tokenizer.decode(tokenizer.encode(text.replace(" ", " \t ").replace("\n", "  \n"))) == text
    )


def test_a_vocabulary_rebuilds_its_tokenizer():
    text = "to be or not to be\n"
    fitted = WordTokenizer.fit(text)
    rebuilt = WordTokenizer(list(fitted.vocab))
    assert rebuilt.vocab_size == fitted.vocab_size == 6
    np.testing.assert_array_equal(rebuilt.encode(text), fitted.encode(text))


@pytest.mark.parametrize(
    ("vocab", "message"),
    [
        (["<eos>", "<unk>", "a", "a"], "4 words of which 3 differ"),
        (["<unk>", "a"], "must have <eos>"),
        (["<eos>", "a"], "must have <unk>"),
    ],
)
def test_unusable_vocabularies_are_refused(vocab, message):
    with pytest.raises(ValueError, match=message):
        WordTokenizer(vocab)


@pytest.mark.parametrize("tokenizer", [ByteTokenizer(), WordTokenizer.fit("a b\n")])
def test_ids_outside_the_vocabulary_are_refused(tokenizer):
    assert tokenizer.decode([]) == ""
    for ids in ([-1], [0, tokenizer.vocab_size]):
        with pytest.raises(ValueError, match=f"must be in 0 … {tokenizer.vocab_size - 1}"):
            tokenizer.decode(ids)
    for ids in ([[0]], [0.5]):
        with pytest.raises(ValueError, match="1-D integers"):
            tokenizer.decode(ids)
