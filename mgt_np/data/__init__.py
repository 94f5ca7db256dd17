"""Corpora, tokenisers and synthetic tasks: where a model's tokens come from."""

from .corpora import SOURCES, TEXT_SOURCES, Corpus, load_corpus
from .download import DownloadError
from .ngrams import ngram_probabilities, perplexity
from .synthetic import KnownEntropyLanguage, copy_task
from .tokenizers import ByteTokenizer, WordTokenizer
from .wikitext2 import find_wikitext_2
from .windows import windows

__all__ = [
    "SOURCES",
    "TEXT_SOURCES",
    "ByteTokenizer",
    "Corpus",
    "DownloadError",
    "KnownEntropyLanguage",
    "WordTokenizer",
    "copy_task",
    "find_wikitext_2",
    "load_corpus",
    "ngram_probabilities",
    "perplexity",
    "windows",
]
