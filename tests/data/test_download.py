"""Downloads from a server on 127.0.0.1 that can fail in every way a network does."""

import contextlib
import hashlib
import socket
import struct
import threading
import urllib.error
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO

import pytest
from recorded import SHARED
from tqdm import tqdm

from mgt_np.data import DownloadError, load_corpus
from mgt_np.data import download as download_module
from mgt_np.data.download import download
from mgt_np.data.files import Expected
from mgt_np.data.wikitext2 import ADDRESSES, EXPECTED, read_split

WIKITEXT_2 = SHARED / "wikitext2"
BODY = bytes(range(256)) * 1000
EXPECTED_BODY = Expected(len(BODY), hashlib.sha256(BODY).hexdigest())
BY_HAND = "put it there by hand"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.user_agents.append(self.headers["User-Agent"])
        self.server.replies.get(self.path, missing)(self)

    def log_message(self, *_):
        pass


def missing(handler):
    handler.send_error(404)


def sends(body, declared=None):
    def reply(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(declared or len(body)))
        handler.end_headers()
        with contextlib.suppress(ConnectionError):  # the client may have had enough
            handler.wfile.write(body)

    return reply


def sends_undeclared(body):
    def reply(handler):
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(body)

    return reply


def resets(handler):
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(BODY)))
    handler.end_headers()
    handler.wfile.write(BODY[:70_000])
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()


def hangs_up(handler):
    handler.connection.shutdown(socket.SHUT_RDWR)


def stalls(handler):
    handler.server.finished.wait(10)


def speaks_nonsense(handler):
    handler.wfile.write(b"\x00\x01 not http\r\n\r\n")


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.replies = {}
        running.user_agents = []
        running.finished = threading.Event()
        running.url = f"http://127.0.0.1:{running.server_port}"
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.finished.set()
        running.shutdown()
        thread.join()


def fetch(server, folder, *names, expected=EXPECTED_BODY, timeout=10.0):
    addresses = [f"{server.url}/{name}" for name in names]
    return download(addresses, folder / "file", expected=expected, by_hand=BY_HAND, timeout=timeout)


def test_a_whole_file_is_saved(server, tmp_path):
    server.replies["/good"] = sends(BODY)
    assert fetch(server, tmp_path / "new" / "folder", "good") == f"{server.url}/good"
    assert [p.name for p in (tmp_path / "new" / "folder").iterdir()] == ["file"]
    assert (tmp_path / "new" / "folder" / "file").read_bytes() == BODY
    (user_agent,) = server.user_agents
    assert user_agent.startswith("mgt-np")


def test_a_size_need_not_be_declared(server, tmp_path):
    server.replies["/good"] = sends_undeclared(BODY)
    fetch(server, tmp_path, "good")
    assert (tmp_path / "file").read_bytes() == BODY


FAILURES = {
    "missing": (missing, "HTTP Error 404: Not Found"),
    "truncated": (sends(BODY[:70_000], len(BODY)), f"stopped after 70000 of {len(BODY)} bytes"),
    "short": (sends(BODY[:-1]), f"has {len(BODY) - 1} bytes, expected {len(BODY)}"),
    "long": (sends(BODY + b"x"), f"more than the expected {len(BODY)} bytes"),
    "endless": (sends(BODY * 40, 10**12), f"more than the expected {len(BODY)} bytes"),
    "wrong": (sends(BODY[::-1]), "has sha256 "),
    "empty": (sends(b""), "has 0 bytes"),
    "reset": (resets, "reset"),
    "hung up": (hangs_up, "closed connection"),
    "nonsense": (speaks_nonsense, "not http"),
    "stalled": (stalls, "timed out"),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_failed_address_leads_to_the_next(failure, server, tmp_path):
    reply, reason = FAILURES[failure]
    server.replies = {"/bad": reply, "/good": sends(BODY)}
    timeout = 0.2 if failure == "stalled" else 10.0
    with pytest.raises(DownloadError, match=reason):
        fetch(server, tmp_path, "bad", timeout=timeout)
    assert list(tmp_path.iterdir()) == []
    assert fetch(server, tmp_path, "bad", "good", timeout=timeout) == f"{server.url}/good"
    assert (tmp_path / "file").read_bytes() == BODY


def test_when_all_fail_every_address_and_the_way_by_hand_are_listed(server, tmp_path):
    server.replies = {f"/{i}": reply for i, (reply, _) in enumerate(FAILURES.values())}
    names = [str(i) for i in range(len(FAILURES))]
    with pytest.raises(DownloadError) as raised:
        fetch(server, tmp_path, *names, timeout=0.2)
    message = str(raised.value)
    assert message.startswith("no address gave file: ")
    assert message.endswith(f"; {BY_HAND}")
    assert message.isprintable()
    entries = message.split(f"{server.url}/")[1:]
    for i, (_, reason) in enumerate(FAILURES.values()):
        assert entries[i].startswith(f"{i} (")
        assert reason in entries[i]
    assert list(tmp_path.iterdir()) == []


def test_nobody_listens(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/x"
        with pytest.raises(DownloadError, match="refused"):
            download([url], tmp_path / "file", expected=EXPECTED_BODY, by_hand=BY_HAND)


def test_an_interruption_stops_at_once_and_leaves_nothing(server, tmp_path, monkeypatch):
    server.replies = {"/one": sends(BODY), "/two": sends(BODY)}
    closed = []

    class Interrupted(tqdm):
        def update(self, n=1):
            raise KeyboardInterrupt

        def close(self):
            closed.append(self)
            super().close()

    monkeypatch.setattr(download_module, "tqdm", Interrupted)
    with pytest.raises(KeyboardInterrupt) as raised:
        fetch(server, tmp_path, "one", "two")
    assert list(tmp_path.iterdir()) == []
    assert len(server.user_agents) == 1
    assert closed, raised  # its traceback keeps the bar from being closed by the collector


def test_the_response_that_says_no_is_closed(server, tmp_path, monkeypatch):
    closed = []

    class Refusal(urllib.error.HTTPError):
        def close(self):
            closed.append(self)
            super().close()

    monkeypatch.setattr("urllib.request.HTTPError", Refusal)
    with pytest.raises(DownloadError, match="404") as raised:
        fetch(server, tmp_path, "gone")
    assert closed, raised


def test_progress_is_on_stderr(server, tmp_path, capsys):
    server.replies["/good"] = sends(BODY)
    fetch(server, tmp_path, "good")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "file: 100%" in captured.err


def zipped(members):
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def test_a_member_of_an_archive_is_saved_by_name(server, tmp_path):
    archive = zipped({"a/wanted": BODY, "../escape": b"x"})
    server.replies["/archive.zip"] = sends(archive)
    fetch(server, tmp_path, "archive.zip#a/wanted")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == BODY


@pytest.mark.parametrize(
    ("archive", "reason"),
    [
        (zipped({"b": BODY}), "no member a"),
        (zipped({"a": BODY})[:-30], "not readable as a zip archive"),
        (zipped({"a": BODY + b"x"}), f"has {len(BODY) + 1} bytes"),
        (zipped({"a": BODY[::-1]}), "has sha256"),
        (b"<html>sign in</html>", "not readable as a zip archive"),
    ],
)
def test_a_bad_archive_is_refused(archive, reason, server, tmp_path):
    server.replies["/archive.zip"] = sends(archive)
    with pytest.raises(DownloadError, match=reason):
        fetch(server, tmp_path, "archive.zip#a")
    assert list(tmp_path.iterdir()) == []


def test_an_archive_has_a_largest_size(server, tmp_path, monkeypatch):
    archive = zipped({"a": BODY})
    monkeypatch.setattr(download_module, "MAX_ARCHIVE_BYTES", len(archive) - 1)
    server.replies["/archive.zip"] = sends(archive)
    with pytest.raises(DownloadError, match="sends more than"):
        fetch(server, tmp_path, "archive.zip#a")


# WikiText-2, downloaded into the cache.


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.delenv("MGT_NP_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "mgt-np" / "wikitext-2"


def test_a_split_is_downloaded_once(server, cache):
    server.replies["/valid.txt"] = sends(BODY)
    arguments = {
        "expected": {"valid": EXPECTED_BODY},
        "addresses": {"valid": [f"{server.url}/gone", f"{server.url}/valid.txt"]},
    }
    path = str(cache / "wiki.valid.tokens")
    address = f"{server.url}/valid.txt"
    assert read_split("valid", **arguments) == (BODY, {"address": address, "path": path})
    assert read_split("valid", **arguments) == (BODY, {"path": path})
    assert len(server.user_agents) == 2


def test_a_folder_without_the_split_leads_to_the_download(server, cache, tmp_path):
    server.replies["/valid.txt"] = sends(BODY)
    _, origin = read_split(
        "valid",
        data_dir=tmp_path,
        expected={"valid": EXPECTED_BODY},
        addresses={"valid": [f"{server.url}/valid.txt"]},
    )
    assert origin["path"] == str(cache / "wiki.valid.tokens")


def test_a_spoilt_cache_is_an_error(server, cache):
    cache.mkdir(parents=True)
    (cache / "wiki.valid.tokens").write_bytes(BODY[::-1])
    server.replies["/valid.txt"] = sends(BODY)
    with pytest.raises(ValueError, match=r"wiki\.valid\.tokens is not WikiText-2's.*remove it"):
        read_split(
            "valid",
            expected={"valid": EXPECTED_BODY},
            addresses={"valid": [f"{server.url}/valid.txt"]},
        )
    assert server.user_agents == []


def test_a_failed_download_says_how_to_give_the_file(server, cache):
    with pytest.raises(DownloadError, match=r"wikitext-2-v1\.zip or .* set MGT_NP_DATA to it$"):
        read_split("test", addresses={"test": [f"{server.url}/gone"]})


def test_every_split_has_a_plain_address_and_then_an_archive():
    for split in EXPECTED:
        plain, archive = ADDRESSES[split]
        assert plain.endswith(f"/{split}.txt")
        assert archive.endswith(f"/wikitext-2-v1.zip#wikitext-2/wiki.{split}.tokens")


@pytest.mark.skipif(
    not (WIKITEXT_2 / "wikitext-2-v1.zip").is_file(),
    reason="WikiText-2 is not in ../shared/wikitext2",
)
def test_wikitext_2_is_downloaded_verified_and_read(server, cache, monkeypatch):
    server.replies["/wikitext-2-v1.zip"] = sends((WIKITEXT_2 / "wikitext-2-v1.zip").read_bytes())
    for split in EXPECTED:
        url = f"{server.url}/wikitext-2-v1.zip#wikitext-2/wiki.{split}.tokens"
        monkeypatch.setitem(ADDRESSES, split, (f"{server.url}/{split}.txt", url))
    corpus = load_corpus("wikitext-2", split="valid", level="words")
    assert corpus.tokens.shape == (217_646,)
    assert corpus.vocab_size == 33_278
    assert corpus.provenance["address"].endswith("#wikitext-2/wiki.valid.tokens")
    assert sorted(p.name for p in cache.iterdir()) == ["wiki.train.tokens", "wiki.valid.tokens"]
