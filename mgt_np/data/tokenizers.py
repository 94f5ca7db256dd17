"""Text to token ids and back: bytes, or the words of word-level WikiText."""

import numpy as np

EOS = "<eos>"
UNK = "<unk>"


class ByteTokenizer:
    """Read text as its UTF-8 bytes: 256 tokens, nothing unknown.

    `decode(encode(text)) == text` for every text that UTF-8 can hold.
    """

    vocab_size = 256

    def encode(self, text: str):
        """Give the bytes of `text` as int64 ids (n_bytes,), each in 0 … 255."""
        return np.frombuffer(text.encode("utf-8"), dtype=np.uint8).astype(np.int64)

    def decode(self, ids) -> str:
        """Give the text of byte ids (n_bytes,); what is not UTF-8 reads as U+FFFD.

        A model may sample any bytes, so malformed ones are shown and not refused.
        """
        data = _checked(ids, self.vocab_size).astype(np.uint8).tobytes()
        return data.decode("utf-8", errors="replace")


class WordTokenizer:
    """Read text as words between white space, every line closed by `<eos>`.

        tokens of a line = line.split() + ["<eos>"]              (Merity et al. 2016, WikiText)

    `vocab` holds the words by id and must have `<eos>` and `<unk>`, which stands for every word
    outside it. Spacing is not kept: `decode(encode(text))` has one space between words.
    """

    def __init__(self, vocab):
        self.vocab = tuple(vocab)
        self._ids = {word: i for i, word in enumerate(self.vocab)}
        if len(self._ids) != len(self.vocab):
            raise ValueError(
                f"vocab must not repeat a word, got {len(self.vocab)} words "
                f"of which {len(self._ids)} differ"
            )
        for word in (EOS, UNK):
            if word not in self._ids:
                raise ValueError(f"vocab must have {word}, got {len(self.vocab)} words without it")

    @classmethod
    def fit(cls, text: str):
        """Make the vocabulary of `text`, ids in order of first appearance.

        `<unk>` comes last where the text has none. WikiText-2 starts with an empty line, so there
        `<eos>` is id 0.
        """
        return cls(dict.fromkeys([*_split(text), EOS, UNK]))

    @property
    def vocab_size(self) -> int:
        """Count the words, `<eos>` and `<unk>` among them."""
        return len(self.vocab)

    def encode(self, text: str):
        """Give the words of `text` as int64 ids (n_words + n_lines,)."""
        unknown = self._ids[UNK]
        return np.array([self._ids.get(word, unknown) for word in _split(text)], dtype=np.int64)

    def decode(self, ids) -> str:
        """Give the text of word ids: words with one space between them, a line for each `<eos>`."""
        lines = [[]]
        for i in _checked(ids, self.vocab_size).tolist():
            if self.vocab[i] == EOS:
                lines.append([])
            else:
                lines[-1].append(self.vocab[i])
        return "\n".join(" ".join(line) for line in lines)


def _split(text):
    """Give `line.split() + ["<eos>"]` for every line, in one pass."""
    if text and not text.endswith("\n"):
        text += "\n"
    return text.replace("\n", f" {EOS} ").split()


def _checked(ids, vocab_size):
    ids = np.asarray(ids)
    if ids.ndim != 1 or not (ids.size == 0 or np.issubdtype(ids.dtype, np.integer)):
        raise ValueError(f"ids must be 1-D integers, got {ids.dtype} of shape {ids.shape}")
    if ids.size and not (ids.min() >= 0 and ids.max() < vocab_size):
        raise ValueError(f"ids must be in 0 … {vocab_size - 1}, got {ids.min()} … {ids.max()}")
    return ids
