"""Files on disk: checked by SHA-256 before use, downloaded whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
import urllib.error
import urllib.request
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
        DataError: if the server cannot be reached, the disk is full or the content differs.
    """
    path = Path(path)
    algorithm, expected = checksum.split(":")
    if path.exists() and hashlib.new(algorithm, path.read_bytes()).hexdigest() == expected:
        return path
    part: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with urllib.request.urlopen(url, timeout=timeout) as answer:
            handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
            part = Path(name)
            digest = hashlib.new(algorithm)
            total = int(answer.headers.get("Content-Length") or 0) or None
            with os.fdopen(handle, "wb") as file, tqdm(total=total, unit="B", unit_scale=True, desc=path.name) as bar:
                while block := answer.read(1 << 16):
                    file.write(block)
                    digest.update(block)
                    bar.update(len(block))
        if digest.hexdigest() != expected:
            raise DataError(
                f"expected {url} with {algorithm} {expected[:12]}…, got {digest.hexdigest()[:12]}…; "
                "the download was cut short or the file changed: run the cell again"
            )
        os.replace(part, path)
    except OSError as error:  # URLError, timeouts and full disks are all OSErrors
        if error.errno == errno.ENOSPC:
            raise DataError(f"no space left for {path}; free some disk space and run the cell again") from error
        raise DataError(
            f"could not fetch {url} ({getattr(error, 'reason', None) or error}); check the connection and run the "
            f"cell again, or put the file at {path} yourself"
        ) from error
    finally:
        if part is not None:
            part.unlink(missing_ok=True)
    return path
