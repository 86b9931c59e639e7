"""Downloads arrive whole or not at all. A server on this machine plays the mirror."""

from __future__ import annotations

import errno
import hashlib
import http.server
import os
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
        self.send_response(200)
        self.send_header("Content-Length", str(len(BODY)))
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
