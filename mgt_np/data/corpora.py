"""Load a text corpus as one run of tokens, with a record of where it came from."""

import difflib
import hashlib
import platform
from dataclasses import dataclass

import numpy as np

from .tokenizers import ByteTokenizer, WordTokenizer
from .wikitext2 import read_split

TEXT_SOURCES = ("python-docs", "wikitext-2")
SOURCES = (*TEXT_SOURCES, "known-entropy", "copy")
SPLITS = ("train", "valid", "test")
LEVELS = ("bytes", "words")


@dataclass(frozen=True, eq=False)
class Corpus:
    """Hold the tokens of one split of one text.

    `tokens` is int64 (n_tokens,) with ids below `vocab_size`; `provenance` is a dict of strings
    and numbers that names the text exactly, for the record of an experiment.
    """

    name: str
    split: str
    level: str
    tokens: np.ndarray
    tokenizer: ByteTokenizer | WordTokenizer
    provenance: dict

    @property
    def vocab_size(self) -> int:
        """Count the tokens that there can be."""
        return self.tokenizer.vocab_size


def load_corpus(
    source: str = "python-docs", *, split: str = "train", level: str = "bytes", data_dir=None
) -> Corpus:
    """Load one split of a text as tokens.

    `source` is one of
    - `python-docs`: the text of `pydoc_data.topics`, which every CPython ships. It changes with
      the version of Python. The topics are sorted by name and joined by an empty line; train is
      the first 90 % of the characters, valid and test the next 5 % each, each cut moved on to the
      end of its line.
    - `wikitext-2`: from `data_dir`, else from the folder that MGT_NP_DATA names; then from the
      cache; then downloaded. Verified by size and SHA-256.

    `split` is `train`, `valid` or `test`. `level` is `bytes` (256 tokens) or `words` (the
    vocabulary of the train split, whatever the split).
    `provenance` holds source, bytes and sha256 of the split's text, and for python-docs the module
    and the version of Python, for wikitext-2 the path and, if it was downloaded now, the address.
    Raises ValueError for a source, split or level that does not exist, and for a file that is not
    what it should be; DownloadError where no address has it.
    """
    _check("source", source, TEXT_SOURCES)
    _check("split", split, SPLITS)
    _check("level", level, LEVELS)
    text, origin = _read(source, split, data_dir)
    if level == "bytes":
        tokenizer = ByteTokenizer()
    else:
        tokenizer = WordTokenizer.fit(
            text if split == "train" else _read(source, "train", data_dir)[0]
        )
    data = text.encode("utf-8")
    provenance = {
        "source": source,
        "split": split,
        "level": level,
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        **origin,
    }
    return Corpus(source, split, level, tokenizer.encode(text), tokenizer, provenance)


def _check(what, name, valid):
    if name in valid:
        return
    message = f"{what} must be one of {', '.join(valid)}, got {name!r}"
    if what == "source" and name in SOURCES:
        message += " (generated, see KnownEntropyLanguage and copy_task)"
    elif near := difflib.get_close_matches(str(name), valid, n=1):
        message += f"; did you mean {near[0]!r}?"
    raise ValueError(message)


def _read(source, split, data_dir):
    if source == "python-docs":
        origin = {"module": "pydoc_data.topics", "python": platform.python_version()}
        return _python_docs(split), origin
    data, origin = read_split(split, data_dir=data_dir)
    return data.decode("utf-8"), origin


def _python_docs(split):
    try:
        from pydoc_data.topics import topics  # half a megabyte of text
    except ModuleNotFoundError:  # Pyodide has it in a package of its own
        raise ValueError("this Python comes without pydoc_data, the text of python-docs") from None
    text = "\n".join(topics[name] for name in sorted(topics))
    cuts = [text.index("\n", len(text) * percent // 100) + 1 for percent in (90, 95)]
    edges = [0, *cuts, len(text)]
    i = SPLITS.index(split)
    return text[edges[i] : edges[i + 1]]
