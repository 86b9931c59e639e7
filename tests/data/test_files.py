"""Downloads arrive whole or not at all. A server on this machine plays the mirror."""

from __future__ import annotations

import errno
import hashlib
import http.server
import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cvbook.data.files import DataError, checked_bytes, download

BODY = bytes(range(256)) * 1200
GOOD = "sha256:" + hashlib.sha256(BODY).hexdigest()


class Mirror(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/missing":
            self.send_error(404)
            return
        if self.path == "/nonsense":
            self.wfile.write(b"this is no HTTP\r\n\r\n")
            return
        if self.path == "/chunks":  # one chunk is announced and never ends
            self.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nhalf")
            return
        self.send_response(200)
        self.send_header("Content-Length", "many" if self.path == "/many" else str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY[: len(BODY) // 2] if self.path == "/cut" else BODY)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def mirror() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Mirror)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_file_arrives_and_is_kept(mirror: str, tmp_path: Path) -> None:
    path = tmp_path / "folder" / "file.gz"
    assert download(f"{mirror}/file", path, GOOD).read_bytes() == BODY
    assert os.listdir(path.parent) == ["file.gz"]
    assert download("http://127.0.0.1:1/unreachable", path, GOOD) == path  # not fetched again


def test_a_damaged_file_is_replaced(mirror: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"half")
    assert download(f"{mirror}/file", path, GOOD).read_bytes() == BODY


@pytest.mark.parametrize(
    ("where", "checksum", "message"),
    [
        ("/cut", GOOD, "run the cell again"),
        ("/file", "md5:" + "0" * 32, r"md5 000000000000…, got .*run the cell again"),
        ("/missing", GOOD, "Not Found.*check the connection"),
        ("/nonsense", GOOD, "could not fetch .*this is no HTTP.*check the connection"),
        ("/chunks", GOOD, "could not fetch .*IncompleteRead.*run the cell again"),
    ],
)
def test_failures_say_what_to_do_and_leave_nothing(
    mirror: str, tmp_path: Path, where: str, checksum: str, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        download(mirror + where, tmp_path / "file", checksum)
    assert os.listdir(tmp_path) == []


def test_no_connection(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="could not fetch .*refused.*put the file at"):
        download("http://127.0.0.1:1/file", tmp_path / "file", GOOD)


def test_full_disk(mirror: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.fdopen

    def full(handle: int, mode: str) -> object:
        file = real(handle, mode)

        class Disk:
            def __enter__(self) -> Disk:
                return self

            def __exit__(self, *_: object) -> None:
                file.close()

            def write(self, _: bytes) -> None:
                raise OSError(errno.ENOSPC, "No space left on device")

        return Disk()

    monkeypatch.setattr(os, "fdopen", full)
    with pytest.raises(DataError, match="no space left for .*free some disk space"):
        download(f"{mirror}/file", tmp_path / "file", GOOD)
    assert os.listdir(tmp_path) == []


def test_interruption_leaves_nothing(mirror: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        download(f"{mirror}/file", tmp_path / "file", GOOD)
    assert os.listdir(tmp_path) == []


def test_checked_bytes(tmp_path: Path) -> None:
    path = tmp_path / "x"
    with pytest.raises(DataError, match="expected a data file at .*No such file.*; do this"):
        checked_bytes(path, "0" * 64, remedy="do this")
    path.write_bytes(b"x")
    with pytest.raises(DataError, match="damaged file.*; do this"):
        checked_bytes(path, "0" * 64, remedy="do this")
    assert checked_bytes(path, hashlib.sha256(b"x").hexdigest(), remedy="") == b"x"


def test_a_senseless_length_does_not_matter(mirror: str, tmp_path: Path) -> None:
    assert download(f"{mirror}/many", tmp_path / "file", GOOD).read_bytes() == BODY


def test_a_folder_in_the_way_is_named(mirror: str, tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    with pytest.raises(DataError, match="got a folder; move it away"):
        download(f"{mirror}/file", tmp_path / "file", GOOD)
    assert os.listdir(tmp_path) == ["file"]


def test_a_cache_that_cannot_be_written_is_not_blamed_on_the_connection(
    mirror: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(tempfile, "mkstemp", refuse)  # root may write anywhere: no mode of a folder would do
    with pytest.raises(DataError, match="Read-only file system.*writable, or set XDG_CACHE_HOME") as caught:
        download(f"{mirror}/file", tmp_path / "file", GOOD)
    assert "connection" not in str(caught.value)


def test_a_file_in_place_of_the_cache_folder_is_named(mirror: str, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("no folder")
    with pytest.raises(DataError, match="could not read or write"):
        download(f"{mirror}/file", tmp_path / "cache" / "file", GOOD)
