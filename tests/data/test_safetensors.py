"""Arrays come back from a file as they went in, and a file that is damaged is refused."""

import io
import json
import pickle
import random
import tracemalloc
import zipfile

import numpy as np
import pytest

from mgt_np.data import safetensors
from mgt_np.data.safetensors import dtypes, read, read_npz, write, write_npz

ARRAYS = {
    "softmax/plain/in.x": np.linspace(-1.0, 1.0, 6).reshape(2, 3),
    "softmax/plain/out.y": np.array([[0.1, np.nan, np.inf], [-0.0, 5e-324, 1e308]]),
    "single": np.array([[1.5], [-2.5e-40]], dtype=np.float32),
    "half": np.array([65504.0, 6e-8], dtype=np.float16),
    "long": np.array([-(2**63), 2**63 - 1]),
    "int": np.array([-(2**31), 2**31 - 1], dtype=np.int32),
    "bytes": np.arange(5, dtype=np.uint8),
    "mask": np.array([[True, False, True]]),
    "scalar": np.array(0.25),
    "empty": np.zeros((2, 0, 3), dtype=np.float32),
    "Ωβ 名": np.array([1.0]),
}
METADATA = {"manifest": '{"says": "ε before √"}', "made_by": "tests"}


def assert_same(read_arrays, arrays):
    assert set(read_arrays) == set(arrays)
    for name, array in arrays.items():
        got = read_arrays[name]
        assert (got.dtype, got.shape) == (array.dtype, array.shape), name
        assert got.tobytes() == array.tobytes(), name


def file_of(header, data=b"", length=None):
    """Return a file as bytes: a header, given as an object or as bytes, and data."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def entry(begin=0, end=16, shape=(2,), dtype="F64"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


def refusal(path, content, reader=read):
    """Return what the reader says of a file of this content, which it must refuse."""
    path.write_bytes(content)
    with pytest.raises(ValueError, match=path.name) as caught:
        reader(path)
    assert "expected" in str(caught.value)
    assert len(str(caught.value)) < 1000
    return str(caught.value)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "vectors.safetensors"


class TestWriting:
    def test_what_is_written_is_read(self, path):
        write(path, ARRAYS, METADATA)
        arrays, metadata = read(path)
        assert_same(arrays, ARRAYS)
        assert metadata == METADATA
        assert dtypes(path)["mask"] == "BOOL"

    def test_nothing_at_all(self, path):
        write(path, {})
        assert read(path) == ({}, {})

    def test_what_is_read_can_be_changed(self, path):
        write(path, ARRAYS)
        for array in read(path)[0].values():
            assert array.flags.writeable
            assert array.flags.aligned

    def test_any_layout_in_memory(self, path):
        arrays = {
            "fortran": np.asfortranarray(ARRAYS["softmax/plain/in.x"]),
            "strided": np.arange(12.0)[::-3],
            "big-endian": np.arange(3, dtype=">f8"),
            "list": [1.0, 2.0],
        }
        write(path, arrays)
        got = read(path)[0]
        for name, array in arrays.items():
            np.testing.assert_array_equal(got[name], array)
            assert got[name].dtype == np.float64

    def test_the_bytes_do_not_depend_on_the_order_of_dicts(self, tmp_path):
        for name, writer in (("a", write), ("b", write_npz)):
            writer(tmp_path / name, ARRAYS, METADATA)
            reversed_arrays = dict(reversed(ARRAYS.items()))
            writer(tmp_path / f"{name}2", reversed_arrays, dict(reversed(METADATA.items())))
            assert (tmp_path / name).read_bytes() == (tmp_path / f"{name}2").read_bytes()

    def test_the_bytes_are_these(self, path):
        write(path, {"x": np.array([1.0, 2.0], dtype=np.float32)}, {"k": "v"})
        text = b'{"__metadata__":{"k":"v"},"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}} '
        assert len(text) % 8 == 0
        assert path.read_bytes() == bytes([len(text), *[0] * 7]) + text + (
            b"\x00\x00\x80\x3f\x00\x00\x00\x40"
        )

    def test_each_array_is_aligned_in_the_file(self, path):
        write(path, ARRAYS, METADATA)
        content = path.read_bytes()
        start = 8 + int.from_bytes(content[:8], "little")
        for name, said in json.loads(content[8:start]).items():
            if name in ARRAYS:
                assert (start + said["data_offsets"][0]) % ARRAYS[name].itemsize == 0

    def test_a_failed_write_leaves_the_old_file(self, path):
        write(path, ARRAYS)
        before = path.read_bytes()
        with pytest.raises(ValueError, match=r"'x' to be one of .*got complex128"):
            write(path, {"x": np.array([1j])})
        assert path.read_bytes() == before
        assert list(path.parent.iterdir()) == [path]

    @pytest.mark.parametrize(
        ("arrays", "metadata", "says"),
        [
            ({"x": np.array([None])}, {}, "got object"),
            ({"x": np.array(["a"])}, {}, "got <U1"),
            ({"__metadata__": np.zeros(1)}, {}, "got '__metadata__'"),
            ({3: np.zeros(1)}, {}, "got 3"),
            ({"\ud800": np.zeros(1)}, {}, "lone surrogate"),
            ({}, {"version": 1}, "got 'version': 1"),
            ({}, {"version": "\udfff"}, "lone surrogate"),
        ],
    )
    @pytest.mark.parametrize("writer", [write, write_npz])
    def test_what_cannot_be_written(self, path, writer, arrays, metadata, says):
        with pytest.raises(ValueError, match=says):
            writer(path, arrays, metadata)
        assert not path.exists()

    def test_a_header_that_no_one_would_read(self, path, monkeypatch):
        monkeypatch.setattr(safetensors, "MAX_HEADER", 100)
        with pytest.raises(ValueError, match="expected a header of at most 100 bytes"):
            write(path, {}, {"manifest": "x" * 100})


class TestBfloat16:
    def test_is_read_as_float32_of_the_same_values(self, path):
        bits = np.array([0x3F80, 0xC049, 0x7F80, 0x0001], dtype="<u2")
        path.write_bytes(file_of({"x": entry(0, 8, (2, 2), "BF16")}, bits.tobytes()))
        got = read(path)[0]["x"]
        assert got.dtype == np.float32
        np.testing.assert_array_equal(got, [[1.0, -3.140625], [np.inf, 2.0**-133]])
        assert dtypes(path) == {"x": "BF16"}

    def test_of_ml_dtypes_is_written(self, path):
        bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
        values = np.array([[1.0, -3.140625]])
        write(path, {"x": values.astype(bfloat16), "scalar": np.array(2.0, dtype=bfloat16)})
        assert dtypes(path) == {"x": "BF16", "scalar": "BF16"}
        np.testing.assert_array_equal(read(path)[0]["x"], values)
        with pytest.raises(ValueError, match=r"expected a dtype that \.npz can hold, got bfloat16"):
            write_npz(path, {"x": values.astype(bfloat16)})


class TestBesideThePackage:
    def test_it_reads_ours(self, path):
        theirs = pytest.importorskip("safetensors")
        load_file = pytest.importorskip("safetensors.numpy").load_file
        write(path, ARRAYS, METADATA)
        assert_same(load_file(path), ARRAYS)
        with theirs.safe_open(path, framework="numpy") as opened:
            assert opened.metadata() == METADATA

    def test_we_read_its(self, path):
        save_file = pytest.importorskip("safetensors.numpy").save_file
        save_file(ARRAYS, path, METADATA)
        arrays, metadata = read(path)
        assert_same(arrays, ARRAYS)
        assert metadata == METADATA

    def test_we_read_its_bfloat16(self, path):
        torch = pytest.importorskip("torch")
        save_file = pytest.importorskip("safetensors.torch").save_file
        x = torch.tensor([[1.1, -2.2], [3e38, 1e-40]], dtype=torch.bfloat16)
        save_file({"x": x}, path)
        np.testing.assert_array_equal(read(path)[0]["x"], x.float().numpy())
        assert dtypes(path) == {"x": "BF16"}

    def test_it_reads_whatever_we_read(self, tmp_path):
        load = pytest.importorskip("safetensors.numpy").load
        accepted = 0
        for content in corruptions(written(tmp_path), 1000, random.Random(1)):
            arrays = read_or_refuse(tmp_path / "corrupt", content)
            if arrays is not None:
                assert_same(load(content), arrays)
                accepted += 1
        assert accepted > 50


def cut(content, n):
    return content[: len(content) - n]


PLAIN = {"x": entry(0, 16), "y": entry(16, 32)}
DATA = bytes(range(32))
DOUBLED = b'{"x":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"x":{"dtype":"U8"}}'
REFUSED = {
    "no bytes": (b"", "got 0 bytes"),
    "few bytes": (b"\x08\0\0", "got 3 bytes"),
    "cut in the header": (file_of(PLAIN)[:40], "the file is cut there"),
    "cut in the first array": (cut(file_of(PLAIN, DATA), 17), r"'x' \(F64, \(2,\)\).*cut there"),
    "cut in the second array": (cut(file_of(PLAIN, DATA), 1), r"'y' .*byte 32.*got 31 bytes"),
    "more at the end": (file_of(PLAIN, DATA + b"!"), "expected 32 bytes of data, got 33"),
    "overlap": (file_of({"x": entry(0, 16), "y": entry(8, 24)}, DATA), r"'y' .*overlaps 'x'"),
    "the same bytes twice": (file_of({"x": entry(), "y": entry()}, DATA[:16]), "overlaps"),
    "gap": (
        file_of({"x": entry(0, 16), "y": entry(17, 33)}, DATA + b"!"),
        r"'y' .* a gap after 'x'",
    ),
    "gap at the start": (file_of({"x": entry(8, 24)}, DATA[:24]), "a gap after the header"),
    "empty array inside another": (
        file_of({"x": entry(0, 16), "y": entry(5, 5, (0,))}, DATA[:16]),
        "'y' .*overlaps 'x'",
    ),
    "offsets beyond the file": (
        file_of({"x": entry(0, 8 * 10**15, (10**15,))}, DATA),
        "byte 8000000000000000 of the data, got 32 bytes",
    ),
    "offsets turned": (file_of({"x": entry(16, 0)}, DATA[:16]), "0 ≤ begin ≤ end"),
    "negative offset": (file_of({"x": entry(-16, 0)}, DATA[:16]), "0 ≤ begin ≤ end"),
    "offset no integer": (file_of({"x": entry(0, 16.0)}, DATA[:16]), "two integers"),
    "three offsets": (
        file_of({"x": entry() | {"data_offsets": [0, 8, 16]}}, DATA[:16]),
        r"two integers.*\[0, 8, 16\]",
    ),
    "size": (file_of({"x": entry(0, 16, (3,))}, DATA[:16]), "expected 24 bytes, got .* 16"),
    "negative shape": (file_of({"x": entry(shape=(-2,))}, DATA[:16]), r"integers ≥ 0, got \[-2\]"),
    "shape no integer": (file_of({"x": entry(shape=(2.0,))}, DATA[:16]), r"got \[2.0\]"),
    "shape true": (file_of({"x": entry(0, 8, (True,))}, DATA[:8]), r"got \[True\]"),
    "shape infinite": (
        file_of(b'{"x":{"dtype":"F64","shape":[1e999],"data_offsets":[0,16]}}', DATA[:16]),
        r"got \[inf\]",
    ),
    "shape no list": (file_of({"x": entry() | {"shape": 2}}, DATA[:16]), "a shape of.*got 2"),
    "shape of 2 ** 64": (file_of({"x": entry(0, 0, (2**64, 0))}), "a shape of at most 64"),
    "empty shape too large": (file_of({"x": entry(0, 0, (2**40, 2**40, 0))}), "fewer than 2⁶³"),
    "65 axes": (file_of({"x": entry(0, 8, [1] * 65)}, DATA[:8]), "at most 64 integers"),
    "unknown dtype": (file_of({"x": entry(dtype="F8_E4M3")}, DATA[:16]), "BOOL, got 'F8_E4M3'"),
    "dtype no string": (file_of({"x": entry(dtype=["F64"])}, DATA[:16]), r"got \['F64'\]"),
    "unknown key": (file_of({"x": entry() | {"strides": [8]}}, DATA[:16]), "'strides'"),
    "missing key": (file_of({"x": {"dtype": "F64", "shape": [2]}}), r"got \['dtype', 'shape'\]"),
    "entry no object": (file_of({"x": [0, 16]}), r"'x': expected dtype.*got \[0, 16\]"),
    "a name twice": (file_of(DOUBLED), "each key once, got 'x' twice"),
    "a field twice": (file_of(b'{"x":{"dtype":"U8","dtype":"U8"}}'), "got 'dtype' twice"),
    "metadata twice": (file_of(b'{"__metadata__":{},"__metadata__":{}}'), "'__metadata__' twice"),
    "a key of metadata twice": (file_of(b'{"__metadata__":{"a":"","a":""}}'), "'a' twice"),
    "metadata no strings": (file_of({"__metadata__": {"version": 1}}), "'version': 1"),
    "metadata no object": (file_of({"__metadata__": ["a"]}), r"dict of strings, got \['a'\]"),
    "no object": (file_of(b"[1, 2]"), "starts with '{'"),
    "space before the header": (file_of(b" {}"), "starts with '{'"),
    "empty header": (file_of(b""), "starts with '{'"),
    "no JSON": (file_of(b"{x: 1}"), "expected JSON, got Expecting property name"),
    "two objects": (file_of(b"{}{}"), "expected JSON, got Extra data"),
    "endless number": (file_of(b'{"x":' + b"9" * 10_000 + b"}"), "expected JSON"),
    "deep nesting": (file_of(b'{"x":' + b"[" * 100_000), "more nesting"),
    "deep objects": (file_of(b'{"x":' * 100_000), "more nesting"),
    "no UTF-8": (file_of(b'{"\xff":{}}'), "UTF-8, got invalid start byte at 2"),
    "UTF-16": (file_of('{"x":{}}'.encode("utf-16-le")), "expected JSON"),
    "lone surrogate": (file_of(b'{"\\ud800":{}}'), "lone surrogate"),
    "a long name": (file_of({"x" * 10**6: {}}), "xxx"),
    "text": (b"Not a file of arrays, just text.", "expected a header of at most"),
    "Git LFS pointer": (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(64), "an HDF5 file"),
    "GGUF": (b"GGUF\x03\0\0\0" + bytes(64), "a GGUF file"),
    **{
        f"pickle {protocol}": (pickle.dumps(ARRAYS["scalar"], protocol), "a pickle")
        for protocol in (2, 3, 4, 5)
    },
}


class TestRefusals:
    @pytest.mark.parametrize("name", REFUSED)
    def test_says_what_is_wrong(self, path, name):
        content, says = REFUSED[name]
        message = refusal(path, content)
        with pytest.raises(ValueError, match=says):
            read(path)
        assert refusal(path, content, dtypes) == message

    def test_booleans_are_0_and_1(self, path):
        content = file_of({"x": entry(0, 3, (3,), "BOOL")}, b"\1\2\0")
        assert "'x': expected booleans of 0 and 1" in refusal(path, content)

    def test_npz_and_npy_are_told_apart(self, path):
        write_npz(path, ARRAYS)
        assert "it looks like a zip archive" in refusal(path, path.read_bytes())
        with open(path, "wb") as file:
            np.save(file, ARRAYS["scalar"])
        assert "it looks like an .npy file" in refusal(path, path.read_bytes())

    def test_long_headers_are_refused_by_their_length(self, path):
        limit = 64 * 2**20
        message = refusal(path, file_of(b"{}", length=limit + 1))
        assert f"at most {limit} bytes, got {limit + 1}" in message
        assert "the file is cut" in refusal(path, file_of(b"{}", length=limit))

    def test_a_header_allocates_nothing(self, path):
        hostile = {
            "length": file_of(b"{}", length=2**26),
            "shape": file_of({"x": entry(0, 2**40, (2**37,))}),
            "zip": npz({"x": npy_of("<f8", (2**37,))}),
        }
        for content in hostile.values():
            path.write_bytes(content)
            tracemalloc.start()
            try:
                with pytest.raises(ValueError, match="expected"):
                    (read_npz if content.startswith(b"PK") else read)(path)
                assert tracemalloc.get_traced_memory()[1] < 2**20
            finally:
                tracemalloc.stop()

    def test_a_missing_file_is_an_os_error(self, path):
        for reader in (read, dtypes, read_npz):
            with pytest.raises(FileNotFoundError):
                reader(path)
            with pytest.raises(OSError, match=r"directory|denied"):
                reader(path.parent)


def npy_of(descr, shape, data=b"", order="False"):
    """Return an .npy file as NumPy writes it, whatever its header claims."""
    text = f"{{'descr': {descr!r}, 'fortran_order': {order}, 'shape': {shape!r}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


def npz(members, compression=zipfile.ZIP_STORED):
    """Return an archive of members: .npy files, but where a name has an ending."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name if "." in name else f"{name}.npy", content)
    return packed.getvalue()


def object_npz():
    packed = io.BytesIO()
    np.savez(packed, x=np.array([{"a": 1}, None], dtype=object))
    return packed.getvalue()


def doubled_npz():
    """Return an archive in which a name stands twice."""
    return npz({"x": npy_of("<f8", ()), "z": npy_of("<f8", ())}).replace(b"z.npy", b"x.npy")


REFUSED_NPZ = {
    "no bytes": (b"", "expected a .npz file, got b''"),
    "text": (b"some text", "got b'some tex'"),
    "pickle": (pickle.dumps([1]), "a pickle"),
    "safetensors": (file_of(PLAIN, DATA), "expected a .npz file"),
    "cut": (npz({"x": npy_of("<f8", (), DATA[:8])})[:-9], "intact zip archive"),
    "objects": (object_npz(), r"'x': .*got '\|O': pickled objects are never loaded"),
    "structured": (npz({"x": npy_of([("a", "<f8")], ())}), "'x': expected one of"),
    "complex": (npz({"x": npy_of("<c16", (1,), DATA[:16])}), "got '<c16'"),
    "big-endian": (npz({"x": npy_of(">f8", (1,), DATA[:8])}), "got '>f8'"),
    "a name twice": (doubled_npz(), "expected each key once, got 'x.npy' twice"),
    "another member": (npz({"x.txt": b"hello"}), r"named \*\.npy, got 'x.txt'"),
    "no npy": (npz({"x": b"hello"}), "'x': expected an .npy file, got b'hello'"),
    "version 3": (npz({"x": b"\x93NUMPY\x03\0" + DATA}), "expected an .npy file"),
    "header cut": (npz({"x": npy_of("<f8", (2,))[:30]}), "'x': expected NumPy's header"),
    "too few data": (npz({"x": npy_of("<f8", (2,), DATA[:15])}), "expected 16 bytes .*got 15"),
    "too many data": (npz({"x": npy_of("<f8", (2,), DATA[:17])}), "expected 16 bytes .*got 17"),
    "negative shape": (npz({"x": npy_of("<f8", (-1,))}), "expected NumPy's header"),
    "endless shape": (npz({"x": npy_of("<f8", (10**19, 0))}), "expected NumPy's header"),
    "large shape": (npz({"x": npy_of("<f8", (9 * 10**18, 9))}), "fewer than 2⁶³ bytes"),
    "65 axes": (npz({"x": npy_of("<f8", (1,) * 65, DATA[:8])}), "at most 64 axes"),
    "bzip2": (npz({"x": npy_of("<f8", ())}, zipfile.ZIP_BZIP2), "stored or deflated, got 12"),
    "true of 2": (npz({"x": npy_of("|b1", (1,), b"\2")}), "booleans of 0 and 1"),
    "metadata floats": (npz({"__metadata__": npy_of("<f8", (), DATA[:8])}), "to be bytes"),
    "metadata no JSON": (npz({"__metadata__": npy_of("|u1", (2,), b"{x")}), "expected JSON"),
    "metadata list": (npz({"__metadata__": npy_of("|u1", (2,), b"[]")}), "expected a JSON object"),
}


class TestNpz:
    def test_what_is_written_is_read(self, path):
        write_npz(path, ARRAYS, METADATA)
        arrays, metadata = read_npz(path)
        assert_same(arrays, ARRAYS)
        assert metadata == METADATA
        assert all(array.flags.writeable for array in arrays.values())

    def test_numpy_reads_ours(self, path):
        write_npz(path, ARRAYS)
        with np.load(path) as loaded:
            assert_same(dict(loaded), ARRAYS)

    def test_its_members_tell_no_time_and_no_system(self, path):
        write_npz(path, ARRAYS)
        with zipfile.ZipFile(path) as archive:
            told = {(info.date_time, info.create_system) for info in archive.infolist()}
        assert told == {((1980, 1, 1, 0, 0, 0), 3)}

    @pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
    def test_we_read_numpys(self, path, save):
        arrays = ARRAYS | {"fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3))}
        with open(path, "wb") as file:
            save(file, **arrays)
        got, metadata = read_npz(path)
        assert metadata == {}
        assert_same(got, arrays)

    @pytest.mark.parametrize("name", REFUSED_NPZ)
    def test_refusals_say_what_is_wrong(self, path, name):
        content, says = REFUSED_NPZ[name]
        refusal(path, content, read_npz)
        with pytest.raises(ValueError, match=says):
            read_npz(path)

    def test_a_zip_bomb_is_not_unpacked(self, path, monkeypatch):
        content = npz({"x": npy_of("|u1", (10**6,), bytes(10**6))}, zipfile.ZIP_DEFLATED)
        path.write_bytes(content)
        assert read_npz(path)[0]["x"].size == 10**6
        monkeypatch.setattr(safetensors, "MAX_UNPACKED", 10**6)
        assert "expected at most 1000000 bytes unpacked" in refusal(path, content, read_npz)

    @pytest.mark.parametrize("name", ["a\0b", "a\\b"])
    def test_names_that_zip_changes(self, path, name):
        with pytest.raises(ValueError, match="without NUL and backslash"):
            write_npz(path, {name: np.zeros(1)})


def written(folder, writer=write):
    """Return a small file as bytes, of every dtype and with a header about as long as its data."""
    writer(folder / "whole", ARRAYS, METADATA)
    return (folder / "whole").read_bytes()


EDITS = (b"0", b"1", b"9", b"-", b".", b"e", b'"', b",", b":", b"{", b"}", b"[", b"]", b"\\", b" ")
WORDS = (b"F64", b"F32", b"BF16", b"U8", b"BOOL", b"I64", b"null", b"true", b"NaN", b"99999999999")


def corruptions(content, n, rng):
    """Yield n damaged copies: bits flipped, cut, characters edited, words and pieces moved."""
    start = 8 + int.from_bytes(content[:8], "little")
    for i in range(n):
        damaged = bytearray(content)
        at = rng.randrange(start if rng.random() < 0.7 else len(content))
        kind = i % 6
        if kind == 0:
            for _ in range(rng.choice((1, 1, 2, 8))):
                damaged[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del damaged[at:]
        elif kind == 2:
            damaged[at : at + rng.randrange(3)] = rng.choice(EDITS)
        elif kind == 3:
            damaged[at : at + rng.randrange(8)] = rng.choice(WORDS)
        elif kind == 4:
            length = rng.randrange(60)
            other = rng.randrange(len(content))
            damaged[at : at + length] = content[other : other + length]
        else:  # one number of the header by another, with all else in place
            numbers = [k for k in range(8, start) if chr(content[k]).isdigit()]
            damaged[rng.choice(numbers)] = ord(rng.choice("0123456789"))
        if kind in (2, 3, 4) and len(damaged) != len(content) and rng.random() < 0.8:
            length = max(start - 8 + len(damaged) - len(content), 0)
            damaged[:8] = length.to_bytes(8, "little")  # else all of these end at the same refusal
        yield bytes(damaged)


def read_or_refuse(path, content, reader=read):
    """Return the arrays of a file, or None where it is refused."""
    with open(path, "r+b" if path.exists() else "wb") as file:
        file.write(content)
        file.truncate()  # afterwards: to empty a file first makes some file systems wait for a disk
    try:
        return reader(path)[0]
    except ValueError as error:
        if not str(error).startswith(f"{path}: ") or "expected" not in str(error):
            raise
        return None


def assert_read_right(arrays, content):
    """Hold arrays against their file, read as simply as can be."""
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    header.pop("__metadata__", None)
    assert set(arrays) == set(header)
    assert sum(e["data_offsets"][1] - e["data_offsets"][0] for e in header.values()) == (
        len(content) - start
    )
    for name, said in header.items():
        begin, end = said["data_offsets"]
        data = arrays[name]
        assert list(data.shape) == said["shape"]
        if said["dtype"] == "BF16":
            data = (np.ascontiguousarray(data).view(np.uint32) >> 16).astype(np.uint16)
        assert data.tobytes() == content[start + begin : start + end]


class TestCorruption:
    def test_a_damaged_file_is_read_right_or_refused(self, tmp_path):
        accepted = refused = 0
        content = written(tmp_path)
        for damaged in corruptions(content, 5000, random.Random(0)):
            arrays = read_or_refuse(tmp_path / "corrupt", damaged)
            if arrays is None:
                refused += 1
            else:
                assert_read_right(arrays, damaged)
                accepted += 1
        assert accepted > 200  # a changed number in the data is still a number
        assert refused > 2500

    def test_a_damaged_npz_is_read_right_or_refused(self, tmp_path):
        content = written(tmp_path, write_npz)
        rng = random.Random(2)
        refused = 0
        for _ in range(1000):
            damaged = bytearray(content)
            for _ in range(rng.choice((1, 2, 8))):
                damaged[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
            if rng.random() < 0.3:
                del damaged[rng.randrange(len(content)) :]
            arrays = read_or_refuse(tmp_path / "corrupt", bytes(damaged), read_npz)
            if arrays is None:
                refused += 1
            else:  # each array has a checksum: what changed is a name, or stands nowhere
                assert_same(dict(enumerate(arrays.values())), dict(enumerate(sorted_arrays())))
        assert refused > 500

    def test_noise_is_refused(self, tmp_path):
        rng = random.Random(3)
        for length in range(300):
            for start in (b"", b"PK\x03\x04", bytes([length % 256]) + bytes(7) + b"{"):
                content = start + rng.randbytes(length)
                for reader in (read, read_npz):
                    assert read_or_refuse(tmp_path / "noise", content, reader) is None


def sorted_arrays():
    return [ARRAYS[name] for name in sorted(ARRAYS)]
