"""The shipped sample and the full set, whole, damaged and missing."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from cvbook.data import CLASSES, DataError, fashion, fashion_mnist


@pytest.mark.parametrize(("split", "count"), [("train", 1000), ("test", 200)])
def test_the_sample_is_stratified(split: str, count: int) -> None:
    images, labels = fashion_mnist(split)
    assert images.shape == (10 * count, 1, 28, 28)
    assert images.dtype == torch.float32
    assert 0 == images.min() < images.max() == 1
    assert labels.dtype == torch.int64
    assert labels.bincount().tolist() == [count] * len(CLASSES)


def test_train_and_test_share_no_image() -> None:
    keys = [{image.numpy().tobytes() for image in fashion_mnist(split)[0]} for split in ("train", "test")]
    assert not keys[0] & keys[1]


def test_unknown_split() -> None:
    with pytest.raises(ValueError, match="'train' or 'test', got 'validation'"):
        fashion_mnist("validation")


def test_a_damaged_sample_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "sample.npz"
    content = bytearray(fashion.SAMPLE.read_bytes())
    content[1000] ^= 1
    copy.write_bytes(content)
    monkeypatch.setattr(fashion, "SAMPLE", copy)
    with pytest.raises(DataError, match=r"sample\.npz.*damaged file.*reinstall cvbook"):
        fashion_mnist()


@pytest.fixture
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a tiny "full" test split in the original format."""
    images, labels = np.arange(3 * 784, dtype=np.uint8), np.array([7, 0, 9], np.uint8)
    table = {}
    for kind, header, array in (("images-idx3", 16, images), ("labels-idx1", 8, labels)):
        inside = bytes(header) + array.tobytes()
        name = f"t10k-{kind}-ubyte.gz"
        (tmp_path / name).write_bytes(gzip.compress(inside))
        table[name] = (hashlib.sha256(inside).hexdigest(), "md5:" + "0" * 32)
    monkeypatch.setattr(fashion, "FULL", table)
    monkeypatch.setattr(fashion, "LOCAL", tmp_path)
    return tmp_path


def test_full_set_from_a_local_copy(local: Path) -> None:
    images, labels = fashion_mnist("test", full=True)
    assert images.shape == (3, 1, 28, 28)
    assert images[0, 0, 0, 5].item() == pytest.approx(5 / 255)
    assert labels.tolist() == [7, 0, 9]


def test_in_a_dry_run_the_sample_stands_in(local: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CVBOOK_DRY_RUN", "1")
    assert len(fashion_mnist("test", full=True)[1]) == 2000


def test_full_set_with_other_content(local: Path) -> None:
    (local / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(bytes(11)))
    with pytest.raises(DataError, match="other content; delete it"):
        fashion_mnist("test", full=True)


def test_full_set_truncated(local: Path) -> None:
    path = local / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(DataError, match="expected a gzip file at .*delete it"):
        fashion_mnist("test", full=True)


def test_full_set_is_downloaded_to_the_cache_when_there_is_no_copy(
    local: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.setattr(fashion, "LOCAL", Path("/nonexistent"))
    fetched = []

    def fetch(url: str, path: Path, checksum: str) -> Path:
        fetched.append((url, checksum))
        assert cache in path.parents
        return local / path.name

    monkeypatch.setattr(fashion, "download", fetch)
    assert len(fashion_mnist("test", full=True)[1]) == 3
    assert [url.rsplit("/", 1)[1] for url, _ in fetched] == list(fashion.FULL)
    assert all(checksum == "md5:" + "0" * 32 for _, checksum in fetched)


def test_checksums_are_those_torchvision_knows() -> None:
    from torchvision.datasets import FashionMNIST

    assert {name: packed for name, (_, packed) in fashion.FULL.items()} == {
        name: f"md5:{md5}" for name, md5 in FashionMNIST.resources
    }


@pytest.mark.skipif(not fashion.LOCAL.exists(), reason="no local copy of the full Fashion-MNIST")
def test_the_sample_is_part_of_the_full_set() -> None:
    from cvbook.recipes import fashion_sample

    images, labels = fashion_mnist("test", full=True)
    assert labels.bincount().tolist() == [1000] * 10
    sample, sample_labels = fashion_mnist("test")
    chosen = torch.cat([(labels == c).nonzero()[:200, 0] for c in range(10)]).sort().values
    assert torch.equal(images[chosen], sample)
    assert torch.equal(labels[chosen], sample_labels)
    assert fashion_sample.PER_CLASS["test"] == 200


def test_without_a_home_folder_the_way_out_is_named(local: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(fashion, "LOCAL", Path("/nonexistent"))
    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(DataError, match="expected a home folder .*set XDG_CACHE_HOME"):
        fashion_mnist("test", full=True)


def test_a_split_of_another_kind() -> None:
    with pytest.raises(ValueError, match="'train' or 'test', got"):
        fashion_mnist(["train"])  # type: ignore[arg-type]
