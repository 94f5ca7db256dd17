"""Download a file whose size and SHA-256 are known, from the first address that has it."""

import http.client
import io
import urllib.error
import urllib.request
from pathlib import Path

from tqdm import tqdm

from .files import Expected, check_bytes, read_member, write_whole

# urllib's own name is refused by some hosts, the data set's author's among them.
USER_AGENT = "mgt-np (https://arxiv.org/abs/2601.01014)"
MAX_ARCHIVE_BYTES = 32 * 2**20
CHUNK_BYTES = 2**16


class DownloadError(OSError):
    """Say that no address gave the expected file, and why each did not."""


def download(addresses, path, *, expected: Expected, by_hand: str, timeout: float = 30.0) -> str:
    """Save at `path` what the first good address gives, and return that address.

    An address is an http(s) URL of the file, or `URL#member` for a member of a zip archive. Any
    failure (refused, interrupted, too short, too long, not the expected bytes) leads to the next
    address; nothing is written before the bytes are verified. `timeout` is in seconds and holds
    for each wait on the network, not for the whole.
    Raises DownloadError, which lists every address with its reason and ends with `by_hand`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    reasons = []
    for address in addresses:
        try:
            data = _fetch(address, expected, timeout, path.name)
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = "".join(filter(str.isprintable, str(error)))  # a server may have written it
            reasons.append(f"{address} ({reason or type(error).__name__})")
        else:
            write_whole(path, data)
            return address
    raise DownloadError(f"no address gave {path.name}: {'; '.join(reasons)}; {by_hand}")


def _fetch(address, expected, timeout, label):
    url, _, member = address.partition("#")
    if not member:
        data = _get(url, expected.size, timeout, label)
        check_bytes(data, expected)
        return data
    return read_member(io.BytesIO(_get(url, MAX_ARCHIVE_BYTES, timeout, label)), member, expected)


def _get(url, max_bytes, timeout, label):
    request = urllib.request.Request(url, headers={"User-Agent": USER_AGENT})
    try:
        response = urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        error.close()  # the error is an open response
        raise
    body = bytearray()
    with response, tqdm(desc=label, total=response.length, unit="B", unit_scale=True) as bar:
        declared = response.length
        while chunk := response.read(CHUNK_BYTES):
            body += chunk
            if len(body) > max_bytes:
                raise ValueError(f"sends more than the expected {max_bytes} bytes")
            bar.update(len(chunk))
    if declared is not None and len(body) != declared:
        raise ValueError(f"stopped after {len(body)} of {declared} bytes")
    return bytes(body)
