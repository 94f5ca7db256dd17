import hashlib
import inspect
import json
import platform
import re
import sys
import zipfile

import numpy as np
import pytest
from recorded import SHARED

import mgt_np.data
from mgt_np.data import SOURCES, find_wikitext_2, load_corpus, windows
from mgt_np.data.files import Expected, read_member, write_whole
from mgt_np.data.wikitext2 import EXPECTED, read_split

WIKITEXT_2 = SHARED / "wikitext2"
needs_wikitext = pytest.mark.skipif(
    not (WIKITEXT_2 / "wikitext-2-v1.zip").is_file(),
    reason="WikiText-2 is not in ../shared/wikitext2",
)

TEXT = b" \n = A title = \n \n Some text of <unk> words . \n"
SMALL = {"valid": Expected(len(TEXT), hashlib.sha256(TEXT).hexdigest())}
NOWHERE = {"valid": (), "train": (), "test": ()}


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.delenv("MGT_NP_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "mgt-np"


def make_zip(path, members):
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def make_file(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def test_public_names_are_listed_and_documented():
    for name in mgt_np.data.__all__:
        thing = getattr(mgt_np.data, name)
        assert isinstance(thing, tuple) or inspect.getdoc(thing)


# The documentation of Python.


def test_python_docs_are_the_default():
    corpus = load_corpus()
    assert (corpus.name, corpus.split, corpus.level) == ("python-docs", "train", "bytes")
    assert corpus.vocab_size == 256
    assert corpus.tokens.dtype == np.int64
    assert corpus.tokens.ndim == 1
    assert corpus.tokenizer.decode(corpus.tokens).startswith('The "assert" statement\n')


def test_python_docs_splits_are_the_whole_text_cut_at_lines():
    from pydoc_data.topics import topics

    whole = "\n".join(text for _, text in sorted(topics.items()))
    corpora = [load_corpus(split=split) for split in ("train", "valid", "test")]
    texts = [corpus.tokenizer.decode(corpus.tokens) for corpus in corpora]
    assert "".join(texts) == whole
    assert all(text.endswith("\n") for text in texts)
    shares = np.array([len(text) for text in texts]) / len(whole)
    np.testing.assert_allclose(shares, [0.9, 0.05, 0.05], atol=0.002)


@pytest.mark.parametrize("level", ["bytes", "words"])
def test_provenance_names_the_text(level):
    corpus = load_corpus(split="valid", level=level)
    data = bytes(load_corpus(split="valid").tokens.tolist())
    assert corpus.provenance == {
        "source": "python-docs",
        "split": "valid",
        "level": level,
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "module": "pydoc_data.topics",
        "python": platform.python_version(),
    }
    assert json.loads(json.dumps(corpus.provenance)) == corpus.provenance


def test_words_of_every_split_use_the_vocabulary_of_train():
    corpora = {split: load_corpus(split=split, level="words") for split in ("train", "test")}
    train, test = corpora["train"], corpora["test"]
    assert test.tokenizer.vocab == train.tokenizer.vocab
    assert test.vocab_size == train.vocab_size
    assert set(train.tokens.tolist()) == set(range(train.vocab_size)) - {
        train.tokenizer.vocab.index("<unk>")
    }
    assert train.tokenizer.vocab.index("<unk>") in test.tokens


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"source": "wikitxt-2"}, "of python-docs, wikitext-2, got 'wikitxt-2'.*'wikitext-2'"),
        ({"source": "copy"}, "got 'copy' .*copy_task"),
        ({"split": "validation"}, "of train, valid, test, got 'validation'.*did you mean 'valid'"),
        ({"split": "dev"}, "got 'dev'$"),
        ({"level": "word"}, "of bytes, words, got 'word'; did you mean 'words'"),
        ({"level": None}, "got None$"),
    ],
)
def test_unknown_names_are_answered_with_the_known(arguments, message):
    with pytest.raises(ValueError, match=message):
        load_corpus(**arguments)


def test_sources_are_the_documented_ones():
    assert SOURCES == ("python-docs", "wikitext-2", "known-entropy", "copy")


# WikiText-2: where it is looked for.


def test_files_are_found_in_the_documented_order(tmp_path, monkeypatch, cache):
    given, named = tmp_path / "given", tmp_path / "named"
    given.mkdir()
    assert find_wikitext_2("valid") is None
    expected_order = [
        make_file(cache / "wikitext-2" / "wiki.valid.tokens", TEXT),
        make_zip(named / "wikitext-2-v1.zip", {"wikitext-2/wiki.valid.tokens": TEXT}),
        make_file(named / "wikitext-2" / "wiki.valid.tokens", TEXT),
        make_file(named / "wiki.valid.tokens", TEXT),
    ]
    assert find_wikitext_2("valid") == expected_order[0]
    monkeypatch.setenv("MGT_NP_DATA", str(named))
    for path in reversed(expected_order):
        assert find_wikitext_2("valid") == path
        data, origin = read_split("valid", expected=SMALL, addresses=NOWHERE)
        assert data == TEXT
        assert origin["path"] == str(path)
        assert origin.get("member") == (
            "wikitext-2/wiki.valid.tokens" if path.suffix == ".zip" else None
        )
        path.unlink()
    make_file(named / "wiki.valid.tokens", TEXT)
    assert find_wikitext_2("valid", given) is None
    make_file(given / "wiki.valid.tokens", TEXT)
    assert find_wikitext_2("valid", str(given)) == given / "wiki.valid.tokens"


@pytest.mark.parametrize("how", ["data_dir", "MGT_NP_DATA"])
def test_a_folder_that_is_not_there_is_an_error(how, tmp_path, monkeypatch):
    data_dir = None
    if how == "data_dir":
        data_dir = tmp_path / "absent"
    else:
        monkeypatch.setenv("MGT_NP_DATA", str(tmp_path / "absent"))
    with pytest.raises(ValueError, match=rf"^{how} must name a folder, got '.*absent'"):
        load_corpus("wikitext-2", data_dir=data_dir)


def test_an_empty_variable_names_no_folder_and_an_empty_argument_is_an_error(monkeypatch):
    monkeypatch.setenv("MGT_NP_DATA", "")
    assert find_wikitext_2("valid") is None
    with pytest.raises(ValueError, match="data_dir must name a folder, got ''"):
        find_wikitext_2("valid", "")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (TEXT[:-1], f"has {len(TEXT) - 1} bytes, expected {len(TEXT)}"),
        (TEXT.upper(), "has sha256 [0-9a-f]{64}, expected [0-9a-f]{64}"),
    ],
)
def test_a_file_that_differs_is_an_error_and_nothing_replaces_it(data, message, tmp_path, cache):
    make_file(cache / "wikitext-2" / "wiki.valid.tokens", TEXT)
    path = make_file(tmp_path / "wiki.valid.tokens", data)
    with pytest.raises(
        ValueError, match=rf"^{re.escape(str(path))} is not WikiText-2's valid split: {message};"
    ):
        read_split("valid", data_dir=tmp_path, expected=SMALL, addresses=NOWHERE)
    assert path.read_bytes() == data
    path.unlink()
    make_zip(tmp_path / "wikitext-2-v1.zip", {"wikitext-2/wiki.valid.tokens": data})
    with pytest.raises(ValueError, match=message):
        read_split("valid", data_dir=tmp_path, expected=SMALL, addresses=NOWHERE)


def test_the_official_files_are_refused_when_made_up(tmp_path):
    make_file(tmp_path / "wiki.train.tokens", TEXT)
    with pytest.raises(ValueError, match="expected 10797148"):
        load_corpus("wikitext-2", data_dir=tmp_path)


# Archives and files.


def test_a_member_is_measured_before_it_is_unpacked(tmp_path, monkeypatch):
    path = make_zip(tmp_path / "bomb.zip", {"member": bytes(10_000_000)})

    def unpack(*_):
        pytest.fail("an oversized member was unpacked")

    monkeypatch.setattr(zipfile.ZipFile, "read", unpack)
    with pytest.raises(ValueError, match=r"has 10000000 bytes, expected 10$"):
        read_member(path, "member", Expected(10, "0" * 64))


def test_a_member_that_lies_about_its_size_is_refused(tmp_path):
    path = make_zip(tmp_path / "liar.zip", {"member": TEXT * 100})
    length = (len(TEXT) * 100).to_bytes(4, "little")
    data = path.read_bytes()
    assert data.count(length) == 2
    path.write_bytes(data.replace(length, len(TEXT).to_bytes(4, "little")))
    with pytest.raises(ValueError, match="not readable as a zip archive"):
        read_member(path, "member", SMALL["valid"])


def test_a_missing_member_is_named(tmp_path):
    path = make_zip(tmp_path / "other.zip", {"else": TEXT})
    with pytest.raises(ValueError, match="no member wikitext-2/x"):
        read_member(path, "wikitext-2/x", SMALL["valid"])


def test_a_damaged_archive_gives_the_right_bytes_or_an_error(tmp_path):
    path = make_zip(tmp_path / "small.zip", {"member": TEXT})
    whole = path.read_bytes()
    refused = 0
    for i in range(len(whole)):
        for damaged in (whole[:i], whole[:i] + bytes([whole[i] ^ 0xFF]) + whole[i + 1 :]):
            path.write_bytes(damaged)
            try:
                assert read_member(path, "member", SMALL["valid"]) == TEXT
            except ValueError:
                refused += 1
    assert refused > len(whole)


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_an_interrupted_write_leaves_the_old_file(error, tmp_path, monkeypatch):
    path = make_file(tmp_path / "file", b"old")

    def interrupt(*_):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", interrupt)
        with pytest.raises(error):
            write_whole(path, b"new")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert path.read_bytes() == b"old"
    write_whole(path, b"new")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert path.read_bytes() == b"new"


# WikiText-2 itself.


@needs_wikitext
@pytest.mark.parametrize(
    ("split", "n_lines", "n_tokens"),
    [("train", 36_718, 2_088_628), ("valid", 3_760, 217_646), ("test", 4_358, 245_569)],
)
def test_wikitext_2_has_the_published_counts(split, n_lines, n_tokens):
    corpus = load_corpus("wikitext-2", split=split, level="words", data_dir=WIKITEXT_2)
    assert corpus.vocab_size == 33_278
    assert corpus.tokenizer.vocab[:3] == ("<eos>", "=", "Valkyria")
    assert corpus.tokens.shape == (n_tokens,)
    assert np.count_nonzero(corpus.tokens == 0) == n_lines
    assert corpus.provenance["bytes"] == EXPECTED[split].size
    assert corpus.provenance["sha256"] == EXPECTED[split].sha256
    assert corpus.provenance["path"] == str(WIKITEXT_2 / "wikitext-2-v1.zip")


@needs_wikitext
def test_wikitext_2_bytes_are_the_file(monkeypatch):
    monkeypatch.setenv("MGT_NP_DATA", str(WIKITEXT_2))
    corpus = load_corpus("wikitext-2", split="valid")
    data = corpus.tokens.astype(np.uint8).tobytes()
    assert hashlib.sha256(data).hexdigest() == EXPECTED["valid"].sha256
    assert corpus.vocab_size == 256


@needs_wikitext
def test_wikitext_2_words_decode_to_the_text(tmp_path):
    with zipfile.ZipFile(WIKITEXT_2 / "wikitext-2-v1.zip") as archive:
        for split in ("train", "test"):
            data = archive.read(f"wikitext-2/wiki.{split}.tokens")
            (tmp_path / f"wiki.{split}.tokens").write_bytes(data)
    corpus = load_corpus("wikitext-2", split="test", level="words", data_dir=tmp_path)
    text = (tmp_path / "wiki.test.tokens").read_text(encoding="utf-8")
    expected = "".join(" ".join(line.split()) + "\n" for line in text.split("\n")[:-1])
    assert corpus.tokenizer.decode(corpus.tokens) == expected
    # Merity et al. made the rare words <unk>, so none is unknown: no more <unk> than in the text.
    unk = corpus.tokenizer.vocab.index("<unk>")
    assert np.count_nonzero(corpus.tokens == unk) == text.split().count("<unk>")


# Windows.


def test_windows_are_runs_of_the_text():
    tokens = np.arange(100) * 3
    drawn = windows(tokens, 7, batch=50, rng=np.random.default_rng(0))
    assert drawn.shape == (50, 8)
    assert drawn.dtype == tokens.dtype
    np.testing.assert_array_equal(np.diff(drawn, axis=1), 3)


def test_windows_start_everywhere_equally_often():
    starts = windows(np.arange(12), 3, batch=9_000, rng=np.random.default_rng(1))[:, 0]
    counts = np.bincount(starts)
    assert counts.shape == (9,)
    assert np.all(np.abs(counts - 1000) < 5 * np.sqrt(1000))


def test_windows_are_repeatable_and_leave_the_text_alone():
    tokens = np.arange(50)
    first, second = (windows(tokens, 4, batch=6, rng=np.random.default_rng(2)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    first[:] = -1
    np.testing.assert_array_equal(tokens, np.arange(50))


def test_the_shortest_text_has_one_window():
    drawn = windows([5, 6, 7], 2, batch=3, rng=np.random.default_rng(3))
    np.testing.assert_array_equal(drawn, [[5, 6, 7]] * 3)
    with pytest.raises(ValueError, match="length 2 needs 3 tokens, got 2"):
        windows([5, 6], 2, batch=3, rng=np.random.default_rng(3))


@pytest.mark.parametrize(
    ("tokens", "length", "batch", "message"),
    [
        ([[1, 2, 3]], 1, 1, r"1-D, got shape \(1, 3\)"),
        ([1, 2, 3], 0, 1, "length 0, batch 1"),
        ([1, 2, 3], 1, 0, "length 1, batch 0"),
    ],
)
def test_unusable_windows_are_refused(tokens, length, batch, message):
    with pytest.raises(ValueError, match=message):
        windows(tokens, length, batch=batch, rng=np.random.default_rng(0))


def test_a_python_without_its_documentation_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydoc_data", None)
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(ValueError, match="without pydoc_data, the text of python-docs"):
        load_corpus("python-docs")
