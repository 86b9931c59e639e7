"""Files on disk: checked by SHA-256 before use, downloaded whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import http.client
import os
import tempfile
import urllib.request
from collections.abc import Generator
from contextlib import closing
from pathlib import Path

from tqdm.auto import tqdm

__all__ = ["DataError", "checked_bytes", "download"]


class DataError(RuntimeError):
    """A data file is missing, damaged or cannot be fetched. The message says which one and what to do."""


def checked_bytes(path: Path, sha256: str, *, remedy: str) -> bytes:
    """The content of a file, if its SHA-256 is the expected one.

    Args:
        path: the file.
        sha256: expected digest, 64 hexadecimal digits.
        remedy: what the reader can do about it, the end of the error message.

    Raises:
        DataError: if the file is missing or its content differs.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"expected a data file at {path}, got {error.strerror or error}; {remedy}") from error
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise DataError(f"expected {path} with SHA-256 {sha256[:12]}…, got {found[:12]}… (damaged file); {remedy}")
    return content


def download(url: str, path: Path, checksum: str, *, timeout: float = 30.0) -> Path:
    """Fetch a file into place: complete and checked, or not there at all.

    The bytes go to a temporary file beside ``path``, which replaces it in one step after the digest is verified.
    An interrupted, refused or damaged download leaves nothing behind. A good file that is already there is kept.

    Args:
        url: where the file is.
        path: where it goes; folders are made.
        checksum: expected digest of the file, ``"sha256:…"`` or ``"md5:…"``.
        timeout: seconds without an answer before giving up.

    Returns:
        ``path``.

    Raises:
        DataError: if the server cannot be reached, ``path`` cannot be written (a folder is there, a read-only disk, a
            full one) or the content differs.
    """
    path = Path(path)
    algorithm, expected = checksum.split(":")
    if path.is_dir():
        raise DataError(f"expected a file or nothing at {path}, got a folder; move it away and run the cell again")
    part: Path | None = None
    try:
        if path.exists() and hashlib.new(algorithm, path.read_bytes()).hexdigest() == expected:
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
        part = Path(name)
        digest = hashlib.new(algorithm)
        with os.fdopen(handle, "wb") as file, closing(_blocks(url, path, timeout)) as blocks:
            for block in blocks:
                file.write(block)
                digest.update(block)
        if digest.hexdigest() != expected:
            raise DataError(
                f"expected {url} with {algorithm} {expected[:12]}…, got {digest.hexdigest()[:12]}…; "
                "the download was cut short or the file changed: run the cell again"
            )
        os.replace(part, path)
    except OSError as error:  # the disk's: those of the network are DataErrors by now
        if error.errno == errno.ENOSPC:
            raise DataError(f"no space left for {path}; free some disk space and run the cell again") from error
        raise DataError(
            f"could not read or write {path} ({error.strerror or error}); make its folder writable, or set "
            "XDG_CACHE_HOME to one that is, and run the cell again"
        ) from error
    finally:
        if part is not None:
            part.unlink(missing_ok=True)
    return path


def _blocks(url: str, path: Path, timeout: float) -> Generator[bytes, None, None]:
    """What the server sends, with a progress bar. The errors of the network, and only these, become DataErrors."""
    try:
        with urllib.request.urlopen(url, timeout=timeout) as answer:
            length = answer.headers.get("Content-Length") or ""
            total = int(length) if length.isascii() and length.isdigit() else None
            with tqdm(total=total or None, unit="B", unit_scale=True, desc=path.name) as bar:
                while block := answer.read(1 << 16):
                    bar.update(len(block))
                    yield block
    except (OSError, http.client.HTTPException) as error:  # URLError and timeouts are OSErrors
        reason = " ".join(str(getattr(error, "reason", None) or error or "").split()) or type(error).__name__
        raise DataError(
            f"could not fetch {url} ({reason}); check the connection and run the cell again, or put the file at {path} "
            "yourself"
        ) from error
