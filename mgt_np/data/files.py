"""Read and write files so that what is there is whole and is what was expected."""

import hashlib
import os
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Expected:
    """Hold what a file must be: its size in bytes and its SHA-256 in hexadecimal."""

    size: int
    sha256: str


def check_size(size: int, expected: Expected):
    """Raise ValueError unless `size` is the expected one."""
    if size != expected.size:
        raise ValueError(f"has {size} bytes, expected {expected.size}")


def check_bytes(data: bytes, expected: Expected):
    """Raise ValueError unless `data` has the expected size and SHA-256."""
    check_size(len(data), expected)
    sha256 = hashlib.sha256(data).hexdigest()
    if sha256 != expected.sha256:
        raise ValueError(f"has sha256 {sha256}, expected {expected.sha256}")


def read_file(path, expected: Expected) -> bytes:
    """Read a file whose size and SHA-256 are known; ValueError where they differ."""
    check_size(Path(path).stat().st_size, expected)
    data = Path(path).read_bytes()
    check_bytes(data, expected)
    return data


def read_member(archive, member: str, expected: Expected) -> bytes:
    """Read one member of a zip archive, by name, into memory.

    `archive` is a path or a binary file. The size that the archive declares is checked before
    anything is unpacked. Raises ValueError where the archive is damaged, has no such member, or
    the member is not what was expected.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            info = opened.getinfo(member)
            check_size(info.file_size, expected)
            data = opened.read(info)
    except KeyError:
        raise ValueError(f"the zip archive has no member {member}") from None
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError) as error:
        raise ValueError(f"not readable as a zip archive ({error})") from error
    check_bytes(data, expected)
    return data


def write_whole(path, data: bytes):
    """Write `data` to `path` all at once: a reader sees the old file or the new, never a part."""
    path = Path(path)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    except BaseException:  # KeyboardInterrupt too
        temporary.unlink(missing_ok=True)
        raise
