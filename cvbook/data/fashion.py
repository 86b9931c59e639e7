"""Fashion-MNIST: 28x28 grey images of garments in ten classes (Xiao, Rasul & Vollgraf 2017, arXiv:1708.07747).

A stratified sample ships with the package, so that every lesson runs without a network. The full set is read from
Debian's package dataset-fashion-mnist if it is installed, else downloaded once.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import zlib
from pathlib import Path

import numpy as np
import torch

import cvbook
from cvbook.data.files import DataError, checked_bytes, download

__all__ = ["CLASSES", "fashion_mnist"]

CLASSES = (
    "T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip

SAMPLE = Path(__file__).with_name("fashion_mnist_sample.npz")
SAMPLE_SHA256 = "3b9d665febcc7775d90c7f94c859e074bd1fa43b5ad29269914196bf7e191423"
MIRROR = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
LOCAL = Path("/usr/share/datasets/fashion-mnist")
# file: SHA-256 of what is inside it (copies differ in their gzip headers), checksum of the mirror's own copy
FULL = {
    "train-images-idx3-ubyte.gz": (
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "md5:8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    ),
    "train-labels-idx1-ubyte.gz": (
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "md5:25c81989df183df01b3e8a0aad5dffbe",
    ),
    "t10k-images-idx3-ubyte.gz": (
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "md5:bef4ecab320f06d8554ea6380940ec79",
    ),
    "t10k-labels-idx1-ubyte.gz": (
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        "md5:bb300cfdad3c16e7a12a480ee83cd310",
    ),
}
PREFIX = {"train": "train", "test": "t10k"}


def fashion_mnist(split: str = "train", *, full: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Fashion-MNIST as two tensors in memory.

    Args:
        split: ``"train"`` or ``"test"``.
        full: False for the shipped sample (10 000 train, 2 000 test, equally many of each class),
            True for all 60 000 and 10 000.

    Returns:
        images: ``(N, 1, 28, 28)`` float32 in [0, 1], the garment bright on a black ground.
        labels: ``(N,)`` int64 in 0..9, indices into `CLASSES`.

    Raises:
        ValueError: if the split is unknown.
        DataError: if a file is missing, damaged or cannot be fetched.

    >>> images, labels = fashion_mnist("test")
    >>> images.shape, labels.shape
    (torch.Size([2000, 1, 28, 28]), torch.Size([2000]))
    """
    if split not in tuple(PREFIX):
        raise ValueError(f"expected split 'train' or 'test', got {split!r}; Fashion-MNIST has no other")
    images, labels = _full(split) if full and not cvbook.dry_run() else _sample(split)
    return torch.from_numpy(images).float().div_(255)[:, None], torch.from_numpy(labels).long()


def _sample(split: str) -> tuple[np.ndarray, np.ndarray]:
    content = checked_bytes(SAMPLE, SAMPLE_SHA256, remedy="reinstall cvbook")
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return arrays[f"{split}_images"], arrays[f"{split}_labels"]


def _full(split: str) -> tuple[np.ndarray, np.ndarray]:
    images = _idx(f"{PREFIX[split]}-images-idx3-ubyte.gz", header=16).reshape(-1, 28, 28)
    return images, _idx(f"{PREFIX[split]}-labels-idx1-ubyte.gz", header=8)


def _idx(name: str, *, header: int) -> np.ndarray:
    """One file of the original IDX format: a header of known length, then bytes."""
    inside, packed = FULL[name]
    path = LOCAL / name
    if not path.exists():
        path = download(MIRROR + name, _cache() / name, packed)
    try:
        content = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"expected a gzip file at {path}, got {error}; delete it and run the cell again") from error
    if hashlib.sha256(content).hexdigest() != inside:
        raise DataError(f"expected the original Fashion-MNIST in {path}, got other content; delete it and run again")
    return np.frombuffer(content, np.uint8, offset=header).copy()


def _cache() -> Path:
    """The folder that downloads go to; it need not exist."""
    try:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError as error:
        raise DataError(f"expected a home folder for downloads, got none ({error}); set XDG_CACHE_HOME") from error
    return Path(home) / "cvbook" / "fashion-mnist"
