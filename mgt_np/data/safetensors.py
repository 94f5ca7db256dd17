"""Files of named arrays that any language can read: .safetensors, and NumPy's .npz.

A .safetensors file is the length of its header in 8 bytes, the header as JSON, and the data of
all arrays, row by row and little-endian. The readers trust nothing: a file that is not exactly
what the format asks for is refused with one ValueError, and no size that a header claims is
allocated before the file is known to hold as much.
"""

import io
import json
import math
import re
import reprlib
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from .files import write_whole

MAX_HEADER = 64 * 2**20  # bytes
MAX_UNPACKED = 256 * 2**20  # bytes of all arrays of a .npz, whose compression can hide any size
MAX_AXES = 64  # NumPy's own limit

_STORED_AS = {  # NumPy has no bfloat16: its bits are the upper half of a float32's
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "U8": "|u1",
    "BOOL": "|b1",
}
_DTYPE_OF = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",  # as ml_dtypes, and with it JAX, registers it
    "int64": "I64",
    "int32": "I32",
    "uint8": "U8",
    "bool": "BOOL",
}
_METADATA = "__metadata__"
_OTHER_FILES = {
    b"PK\x03\x04": "a zip archive, as .npz and .pt are",
    b"\x93NUMPY": "an .npy file",
    **{bytes([0x80, protocol]): "a pickle" for protocol in (2, 3, 4, 5)},
    b"\x89HDF": "an HDF5 file",
    b"GGUF": "a GGUF file",
    b"version https://git-lfs": "a Git LFS pointer in place of the file",
}


def write(path, arrays, metadata=None):
    """Write a dict of arrays, and a dict of strings, to a .safetensors file, all at once.

    The bytes depend on the contents alone, not on the order of the dicts: arrays with large
    elements come first, so that all are aligned, and then the names decide.
    """
    arrays = {_text(name): _dtype_and_array(name, array) for name, array in arrays.items()}
    header = {_METADATA: _strings(metadata)} if metadata else {}
    data = []
    end = 0
    for name in sorted(arrays, key=lambda name: (-arrays[name][1].itemsize, name)):
        dtype, array = arrays[name]
        begin, end = end, end + array.nbytes
        offsets = [begin, end]
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": offsets}
        data.append(array.tobytes())
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > MAX_HEADER:
        raise ValueError(f"expected a header of at most {MAX_HEADER} bytes, got {len(text)}")
    write_whole(path, b"".join([len(text).to_bytes(8, "little"), text, *data]))


def read(path):
    """Return the arrays of a .safetensors file by name, and its metadata, a dict of strings.

    bfloat16 comes as float32 of the same values: `dtypes` tells them apart.
    Raises ValueError for a file that is not exactly in the format, and says what is wrong.
    """
    with _naming(path), open(path, "rb") as file:
        entries, metadata = _read_header(file)
        return {entry.name: _array(entry, file.read(entry.size)) for entry in entries}, metadata


def dtypes(path):
    """Return the dtype of each array of a .safetensors file as it stands there: "BF16", "F32"."""
    with _naming(path), open(path, "rb") as file:
        return {entry.name: entry.dtype for entry in _read_header(file)[0]}


def write_npz(path, arrays, metadata=None):
    """Write the same to a .npz file: the metadata as JSON in the bytes of `__metadata__`."""
    arrays = {_text(name): _dtype_and_array(name, array) for name, array in arrays.items()}
    if metadata:
        text = json.dumps(_strings(metadata), ensure_ascii=False, sort_keys=True)
        arrays[_METADATA] = ("U8", np.frombuffer(text.encode(), dtype=np.uint8))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, (dtype, array) in sorted(arrays.items()):
            if dtype == "BF16":
                raise ValueError(f"expected a dtype that .npz can hold, got bfloat16: {name}")
            if "\0" in name or "\\" in name:  # zip cuts the one, and Windows turns the other
                raise ValueError(f"expected a name without NUL and backslash, got {name!r}")
            member = zipfile.ZipInfo(name + ".npy")  # of 1980, so that the bytes do not change
            member.create_system = 3  # whatever system this is
            content = io.BytesIO()
            np.lib.format.write_array(content, array, version=(1, 0), allow_pickle=False)
            archive.writestr(member, content.getvalue())
    write_whole(path, packed.getvalue())


def read_npz(path):
    """Return the arrays of a .npz file by name, and its metadata, a dict of strings.

    Raises ValueError for anything but plain arrays of the dtypes that `write_npz` writes; objects
    are never unpickled.
    """
    with open(path, "rb") as file:
        packed = file.read()
    with _naming(path):
        arrays = {}
        for name, content in _members(packed).items():
            if not name.endswith(".npy"):
                raise ValueError(f"expected members named *.npy, got {_short(name)}")
            name = name.removesuffix(".npy")
            arrays[name] = _npy(name, content)
        return arrays, _metadata_of(arrays)


@dataclass(frozen=True)
class _Entry:
    """Where an array lies: `begin` and `end` count bytes from the end of the header."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def size(self):
        return self.end - self.begin

    def __str__(self):
        return f"{_short(self.name)} ({self.dtype}, {self.shape})"


@contextmanager
def _naming(path):
    """Put the file's name before what is wrong with it."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


_SHORT = reprlib.Repr()
_SHORT.maxstring = 80


def _short(value):
    """The repr of a value from a file, which may be of any size."""
    return _SHORT.repr(value)


def _text(name):
    """Return a name that can be written, or raise ValueError."""
    if not isinstance(name, str) or name == _METADATA:
        raise ValueError(f"expected a name that is a string but {_METADATA}, got {_short(name)}")
    return _utf8(name)


def _utf8(text):
    """Return a string that is text; half of a surrogate pair, which JSON can hold, is none."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"expected text, got a lone surrogate in {_short(text)}") from None
    return text


def _strings(metadata):
    """Return metadata sorted by name, or raise ValueError unless all of it is strings."""
    if not isinstance(metadata, dict):
        raise ValueError(f"expected {_METADATA} to be a dict of strings, got {_short(metadata)}")
    for name, value in metadata.items():
        if not isinstance(name, str) or not isinstance(value, str):
            got = f"{_short(name)}: {_short(value)}"
            raise ValueError(f"expected {_METADATA} to be a dict of strings, got {got}")
        _utf8(name)
        _utf8(value)
    return dict(sorted(metadata.items()))


def _dtype_and_array(name, array):
    """Return the format's word for an array's dtype, and the array as it is stored."""
    array = np.asarray(array, order="C")
    dtype = _DTYPE_OF.get(array.dtype.name)
    if dtype is None:
        known = ", ".join(_DTYPE_OF)
        raise ValueError(f"expected {_short(name)} to be one of {known}, got {array.dtype}")
    if dtype == "BF16":
        array = array.view(np.uint16)
    return dtype, array.astype(_STORED_AS[dtype], copy=False)


def _read_header(file):
    """Return the entries of a file in the order of their data, and its metadata.

    The file is left at the first byte of the data, all of which is known to be there.
    """
    file_size = file.seek(0, io.SEEK_END)
    file.seek(0)
    start = file.read(8)
    if len(start) < 8:
        raise ValueError(f"expected the 8 bytes of a header's length, got {len(start)} bytes")
    length = int.from_bytes(start, "little")
    if length > MAX_HEADER:
        other = _other_file(start + file.read(16))
        raise ValueError(f"expected a header of at most {MAX_HEADER} bytes, got {length}{other}")
    if length > file_size - 8:
        why = _other_file(start + file.read(16)) or ": the file is cut there"
        raise ValueError(f"expected a header of {length} bytes, got {file_size - 8}{why}")
    text = file.read(length)
    if not text.startswith(b"{"):
        other = _other_file(start + text)
        raise ValueError(f"expected a header that starts with '{{', got {text[:8]}{other}")
    header = _json(text)
    metadata = _strings(header.pop(_METADATA, {}))
    entries = [_entry(name, fields) for name, fields in header.items()]
    entries.sort(key=lambda entry: (entry.begin, entry.end))
    _check_layout(entries, file_size - 8 - length)
    return entries, metadata


def _other_file(start):
    """Say which other kind of file starts like this, if it is a known one."""
    for magic, kind in _OTHER_FILES.items():
        if start.startswith(magic):
            return f": it looks like {kind}"
    return ""


def _json(text):
    """Return the JSON object that bytes hold, in which no key stands twice."""
    try:
        text = text.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"expected JSON in UTF-8, got {error.reason} at {error.start}") from None
    try:
        parsed = json.loads(text, object_pairs_hook=_Pairs)
    except RecursionError:
        raise ValueError("expected JSON, got more nesting than any header has") from None
    except ValueError as error:
        raise ValueError(f"expected JSON, got {error}") from None
    if not isinstance(parsed, _Pairs):
        raise ValueError(f"expected a JSON object, got {_short(parsed)}")
    return {name: _unique(value) for name, value in _unique(parsed).items()}


class _Pairs(list):
    """An object of JSON as (key, value) pairs, which may repeat a key."""


def _unique(value):
    """Return pairs as a dict, or raise ValueError for a key that stands twice."""
    if not isinstance(value, _Pairs):
        return value
    made = {}
    for name, item in value:
        if name in made:
            raise ValueError(f"expected each key once, got {_short(name)} twice")
        made[_utf8(name)] = item
    return made


def _entry(name, fields):
    """Return what the header says of an array, checked by itself."""
    if not isinstance(fields, dict) or set(fields) != {"dtype", "shape", "data_offsets"}:
        got = _short(sorted(fields) if isinstance(fields, dict) else fields)
        raise ValueError(f"{_short(name)}: expected dtype, shape and data_offsets, got {got}")
    dtype, shape, offsets = fields["dtype"], fields["shape"], fields["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _STORED_AS:
        known = ", ".join(_STORED_AS)
        raise ValueError(f"{_short(name)}: expected a dtype of {known}, got {_short(dtype)}")
    if not _are_sizes(shape) or len(shape) > MAX_AXES:
        expected = f"a shape of at most {MAX_AXES} integers ≥ 0"
        raise ValueError(f"{_short(name)}: expected {expected}, got {_short(shape)}")
    if not _are_sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        expected = "data_offsets of two integers 0 ≤ begin ≤ end"
        raise ValueError(f"{_short(name)}: expected {expected}, got {_short(offsets)}")
    entry = _Entry(name, dtype, tuple(shape), *offsets)
    size = _size(entry.name, entry.shape, _STORED_AS[dtype])
    if entry.size != size:
        raise ValueError(f"{entry}: expected {size} bytes, got data_offsets of {entry.size}")
    return entry


def _are_sizes(value):
    """Return whether a value from JSON is a list of integers ≥ 0 that fit into 64 bits."""
    # `type`, because True is an int to isinstance.
    return isinstance(value, list) and all(type(n) is int and 0 <= n < 2**63 for n in value)


def _size(name, shape, stored_as):
    """Return the number of bytes of an array."""
    itemsize = np.dtype(stored_as).itemsize
    if itemsize * math.prod(n for n in shape if n) >= 2**63:  # NumPy counts empty arrays so too
        raise ValueError(f"{_short(name)}: expected fewer than 2⁶³ bytes, got shape {shape}")
    return itemsize * math.prod(shape)


def _check_layout(entries, available):
    """Raise ValueError unless arrays, sorted by their offsets, fill the data from end to end."""
    end = 0
    before = "the header"
    for entry in entries:
        if entry.begin != end:
            what = "overlaps" if entry.begin < end else "leaves a gap after"
            expected = f"expected it to begin at byte {end} of the data"
            raise ValueError(f"{entry} {what} {before}: {expected}, got {entry.begin}")
        if entry.end > available:
            raise ValueError(
                f"{entry}: expected it to end at byte {entry.end} of the data, "
                f"got {available} bytes: the file is cut there, or the offsets are wrong"
            )
        end = entry.end
        before = entry
    if end < available:
        raise ValueError(f"expected {end} bytes of data, got {available}: too many at the end")


def _array(entry, data):
    """Return the array that bytes hold."""
    if len(data) != entry.size:  # the file was shortened while it was being read
        raise ValueError(f"{entry}: expected {entry.size} bytes, got {len(data)}")
    array = _plain(entry.name, data, _STORED_AS[entry.dtype]).reshape(entry.shape)
    if entry.dtype == "BF16":
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array


def _plain(name, data, stored_as):
    """Return bytes as a flat array of this machine's byte order, which can be written to."""
    if stored_as == "|b1" and data.strip(b"\0\1"):
        raise ValueError(f"{_short(name)}: expected booleans of 0 and 1, got other bytes")
    stored = np.frombuffer(data, dtype=stored_as)
    return stored.astype(stored.dtype.newbyteorder("="))


@contextmanager
def _intact():
    """Turn whatever a damaged archive raises into a ValueError."""
    try:
        yield
    except Exception as error:  # zipfile and zlib raise a dozen kinds
        kind = type(error).__name__
        raise ValueError(f"expected an intact zip archive, got {kind}: {error}") from None


def _members(packed):
    """Return the members of a zip archive by name, or raise ValueError."""
    if not packed.startswith(b"PK"):
        raise ValueError(f"expected a .npz file, got {packed[:8]}{_other_file(packed)}")
    with _intact():
        archive = zipfile.ZipFile(io.BytesIO(packed))
    infos = archive.infolist()
    _unique(_Pairs((info.filename, info) for info in infos))
    size = sum(info.file_size for info in infos)
    if size > MAX_UNPACKED:
        raise ValueError(f"expected at most {MAX_UNPACKED} bytes unpacked, got {size}")
    for info in infos:
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            kind = info.compress_type
            raise ValueError(f"{_short(info.filename)}: expected it stored or deflated, got {kind}")
    with _intact():
        return {info.filename: archive.read(info) for info in infos}


_NPY_START = re.compile(rb"\x93NUMPY(?:\x01\x00(..)|\x02\x00(....))", re.DOTALL)
_NPY_HEADER = re.compile(
    r"\{'descr': (.{1,200}), 'fortran_order': (True|False), "
    r"'shape': \(((?:\d{1,19}, ?)*(?:\d{1,19})?)\), ?\}\s*"
)


def _npy(name, content):
    """Return the array of a .npy file: NumPy's own reader allocates what the header claims."""
    start = _NPY_START.match(content)
    if start is None:
        raise ValueError(f"{_short(name)}: expected an .npy file, got {content[:8]}")
    begin = start.end() + int.from_bytes(start[1] or start[2], "little")
    text = content[start.end() : begin].decode("latin1")
    header = _NPY_HEADER.fullmatch(text)
    if header is None:
        raise ValueError(f"{_short(name)}: expected NumPy's header, got {_short(text)}")
    stored_as = header[1].strip("'")
    known = [word for dtype, word in _STORED_AS.items() if dtype != "BF16"]
    if stored_as not in known:
        why = ": pickled objects are never loaded" if "O" in stored_as else ""
        raise ValueError(f"{_short(name)}: expected one of {known}, got {_short(stored_as)}{why}")
    shape = tuple(map(int, re.findall(r"\d+", header[3])))
    if len(shape) > MAX_AXES or max(shape, default=0) >= 2**63:
        raise ValueError(f"{_short(name)}: expected at most {MAX_AXES} axes, got {_short(shape)}")
    size = _size(name, shape, stored_as)
    if len(content) - begin != size:
        got = len(content) - begin
        raise ValueError(f"{_short(name)} {shape}: expected {size} bytes of data, got {got}")
    array = _plain(name, content[begin:], stored_as)
    return array.reshape(shape[::-1]).T if header[2] == "True" else array.reshape(shape)


def _metadata_of(arrays):
    """Take the metadata out of the arrays of a .npz file and return it."""
    stored = arrays.pop(_METADATA, None)
    if stored is None:
        return {}
    if stored.dtype != np.uint8:
        raise ValueError(f"expected {_METADATA} to be bytes, got {stored.dtype}")
    return _strings(_json(stored.tobytes()))
