"""A small network that learns the full Fashion-MNIST in minutes on two cores, and what each of its tricks gains.

    python -m cvbook.recipes.fashion_cnn             train once, show accuracy and seconds
    python -m cvbook.recipes.fashion_cnn --long      the longer schedule
    python -m cvbook.recipes.fashion_cnn --ladder    leave out one trick at a time, three seeds each; stores the table

The tricks are those of Page (How to train your ResNet, 2018) and Jordan (94 % on CIFAR-10 in 3.29 seconds,
https://arxiv.org/abs/2404.00498), fitted to small grey images and to a processor instead of a graphics card.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvbook import data, weights
from cvbook.augmentation import shift
from cvbook.train import evaluate, fit, seed_everything

__all__ = ["AlternatingFlip", "FashionCNN", "Settings", "evaluate_flipped", "train", "whitening_filters"]


@dataclass(frozen=True)
class Settings:
    """One training; each boolean is a trick that can be left out."""

    epochs: int = 6
    lr: float = 1e-2
    batch_size: int = 250
    widths: tuple[int, int, int] = (32, 64, 128)
    shift: int = 1
    flip: bool = True
    whiten: bool = True
    dirac: bool = True
    smoothing: float = 0.1
    ema: float | None = 0.98
    bfloat16: bool = True
    channels_last: bool = True


SHORT = Settings()
LONG = Settings(epochs=18, widths=(48, 96, 192), shift=2)


def whitening_filters(images: Tensor, size: int = 3) -> Tensor:
    """Filters that decorrelate the patches of some images and give each the same variance.

    The rows are the eigenvectors of the patches' covariance, each divided by the root of its eigenvalue.

    Args:
        images: ``(N, C, H, W)``.
        size: side of the patches.

    Returns:
        ``(C size**2, C, size, size)``.

    >>> images = torch.randn(50, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    >>> responses = F.conv2d(images - images.mean(), whitening_filters(images)).transpose(0, 1).flatten(1)
    >>> torch.allclose(torch.cov(responses), torch.eye(9), atol=0.05)
    True
    """
    C = images.shape[1]
    patches = F.unfold(images, size).transpose(1, 2).reshape(-1, C * size**2)  # (N places, C size size)
    values, vectors = torch.linalg.eigh(torch.cov(patches.T.double()))
    return (vectors / (values + 5e-4).sqrt()).T.reshape(-1, C, size, size).float()


class Block(nn.Module):
    """Convolution, pooling, then another convolution; each with batch normalization and GELU."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.norm1(F.max_pool2d(self.conv1(x), 2)))  # pool first: the rest has a quarter of the pixels
        return F.gelu(self.norm2(self.conv2(x)))


class FashionCNN(nn.Module):
    """Fixed filters, three blocks that halve the map, a maximum over positions, one linear layer.

    Args:
        widths: channels of the three blocks.
        first: the filters of the first layer ``(n, 1, 3, 3)``, which are not trained; each is used with both signs.
            If None, 18 filters are trained instead.
        dirac: start each block's convolutions as "copy the first input channels".

    >>> FashionCNN((8, 16, 32))(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """

    def __init__(self, widths: tuple[int, int, int], *, first: Tensor | None = None, dirac: bool = True) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 18, 3, bias=False)  # 28 -> 26
        if first is not None:
            self.first.weight = nn.Parameter(torch.cat([first, -first]), requires_grad=False)
        channels = (18, *widths)
        self.blocks = nn.Sequential(
            *(Block(a, b) for a, b in zip(channels, widths, strict=False))
        )  # 26 -> 13 -> 6 -> 3
        self.head = nn.Linear(widths[-1], 10, bias=False)
        if dirac:
            for conv in self.blocks.modules():
                if isinstance(conv, nn.Conv2d):
                    nn.init.dirac_(conv.weight[: conv.in_channels])

    def forward(self, x: Tensor) -> Tensor:
        """``(B, 1, 28, 28)`` in [0, 1] to logits ``(B, 10)``."""
        x = F.gelu(self.first(x))  # (B, 18, 26, 26)
        x = self.blocks(x).amax((2, 3))  # (B, widths[-1])
        return self.head(x) / 9  # small logits at the start


class AlternatingFlip:
    """Show each image as it is in one epoch and mirrored in the next; a coin decides which comes first.

    A coin in each epoch would show some images several times alike (Jordan 2024, section 3.6).

    Args:
        images: the training images, half of which are mirrored here, once.
        seed: of the coins.
        pixels: how far each image is moved at random, in each direction.
    """

    def __init__(self, images: Tensor, *, seed: int, flip: bool = True, pixels: int = 0) -> None:
        coins = torch.rand(len(images), 1, 1, 1, generator=torch.Generator().manual_seed(seed)) < 0.5
        self.images = torch.where(coins, images.flip(-1), images) if flip else images
        self.flip, self.pixels, self.epoch = flip, pixels, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by `cvbook.train.fit`."""
        self.epoch = epoch

    def __call__(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        if self.flip and self.epoch % 2:
            batch = batch.flip(-1)
        return shift(batch, generator, pixels=self.pixels) if self.pixels else batch


@torch.no_grad()
def evaluate_flipped(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Accuracy of the mean of two predictions: for each image and for its mirror image (test-time augmentation)."""
    parts = zip(images.split(500), labels.split(500), strict=True)
    return sum(int(((model(x) + model(x.flip(-1))).argmax(1) == y).sum()) for x, y in parts) / len(images)


def train(settings: Settings, *, seed: int = 0, count: int | None = None, progress: bool = True) -> dict[str, float]:
    """Train once on the full set, or on its first ``count`` images.

    Returns:
        ``accuracy`` and ``flipped`` (with test-time flip) on the test images, in [0, 1]; ``seconds`` of the training,
        from images in memory to trained weights.
    """
    images, labels = (part[:count] for part in data.fashion_mnist("train", full=True))
    test_images, test_labels = data.fashion_mnist("test", full=True)
    started = time.perf_counter()
    seed_everything(seed)
    first = whitening_filters(images[:2000]) if settings.whiten else None
    model = FashionCNN(settings.widths, first=first, dirac=settings.dirac)
    augment = AlternatingFlip(images, seed=seed, flip=settings.flip, pixels=settings.shift)
    fit(
        model, augment.images, labels, epochs=settings.epochs, lr=settings.lr, batch_size=settings.batch_size,
        seed=seed, augment=augment, loss=partial(F.cross_entropy, label_smoothing=settings.smoothing), ema=settings.ema,
        mixed=settings.bfloat16, channels_last=settings.channels_last, progress=progress,
    )  # fmt: skip
    seconds = time.perf_counter() - started
    found = evaluate(model, test_images, test_labels)
    flipped = evaluate_flipped(model, test_images, test_labels)
    return {"accuracy": found["accuracy"], "flipped": flipped, "seconds": seconds}


LADDER = {
    "all tricks": SHORT,
    "no shift": replace(SHORT, shift=0),
    "no flip": replace(SHORT, flip=False),
    "no whitening": replace(SHORT, whiten=False),
    "no Dirac start": replace(SHORT, dirac=False),
    "no label smoothing": replace(SHORT, smoothing=0.0),
    "no average": replace(SHORT, ema=None),
    "float32": replace(SHORT, bfloat16=False),
    "channels first": replace(SHORT, channels_last=False),
}


def ladder(*, seeds: int = 3, count: int | None = None, name: str = "fashion_cnn") -> None:
    """Measure each trick by leaving it out, and store the table."""
    started = time.perf_counter()
    rows = {
        what: [train(s, seed=seed, count=count, progress=False) for seed in range(seeds)] for what, s in LADDER.items()
    }
    table = torch.tensor(
        [[[run[key] for key in ("accuracy", "flipped", "seconds")] for run in runs] for runs in rows.values()]
    )
    weights.save(
        name, {"table": table}, recipe="cvbook.recipes.fashion_cnn", seed=list(range(seeds)), metrics=rows,
        seconds=round(time.perf_counter() - started),
    )  # fmt: skip


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--long", action="store_true", help="the longer schedule")
    parser.add_argument("--ladder", action="store_true", help="leave out one trick at a time and store the table")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    if options.ladder:
        ladder()
        return
    found = train(LONG if options.long else SHORT, seed=options.seed)
    print(f"{found['accuracy']:.2%} ({found['flipped']:.2%} with test-time flip) in {found['seconds']:.0f} s")


if __name__ == "__main__":
    main()
