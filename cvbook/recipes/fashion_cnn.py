"""A small network that learns the full Fashion-MNIST in less than a minute on two cores, by a dozen small tricks.

    python -m cvbook.recipes.fashion_cnn             train once, show accuracy and seconds
    python -m cvbook.recipes.fashion_cnn --long      the longer schedule
    python -m cvbook.recipes.fashion_cnn --table     both, three seeds each; stores the results

`cvbook.recipes.fashion_ladder` leaves out one trick at a time.

The tricks are those of Page (How to train your ResNet, 2018) and Jordan (94 % on CIFAR-10 in 3.29 seconds,
https://arxiv.org/abs/2404.00498), fitted to small grey images and to a processor instead of a graphics card. Widths,
rates and lengths were chosen on the last 10 000 training images, not on the test images.
"""

from __future__ import annotations

import argparse
import functools
import time
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from cvbook import data, weights
from cvbook.augmentation import shift
from cvbook.train import fit, one_cycle, seed_everything

__all__ = [
    "LONG", "SHORT", "AlternatingFlip", "FashionCNN", "Settings", "cut_out", "evaluate_flipped", "train",
    "whitening_filters",
]  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """One training; most of these are a trick that can be left out.

    Attributes:
        epochs, lr, batch_size: of the schedule.
        widths: channels of the blocks.
        shift: how many pixels each image is moved at random, in each direction; 0 for none.
        cutout: side of the square that is blackened at random; 0 for none.
        flip: mirror every image in every second epoch.
        whiten: the first filters decorrelate patches, and are not trained.
        dirac: convolutions start as copies of their input.
        smoothing: of the labels.
        ema: decay of the average of the weights with which the training ends.
        bfloat16: compute in 16 bits, where the processor can.
        channels_last: keep the channels of a pixel together in memory.
        one_cycle: the rate goes up to ``lr`` and down to almost 0; False keeps it at ``lr``.
    """

    epochs: int = 5
    lr: float = 5e-3
    batch_size: int = 250
    widths: tuple[int, ...] = (64, 128)
    shift: int = 0
    cutout: int = 0
    flip: bool = True
    whiten: bool = True
    dirac: bool = True
    smoothing: float = 0.1
    ema: float | None = 0.98
    bfloat16: bool = True
    channels_last: bool = True
    one_cycle: bool = True


SHORT = Settings()
LONG = Settings(epochs=16, widths=(96, 192), shift=1, cutout=8, ema=0.99)


def whitening_filters(images: Tensor, size: int = 4) -> Tensor:
    """Filters that decorrelate the patches of some images and give each nearly the same variance.

    The rows are the eigenvectors of the patches' covariance, each divided by the root of its eigenvalue. A little is
    added to the eigenvalues, so that directions in which patches hardly differ are not blown up.

    Args:
        images: ``(N, C, H, W)``.
        size: side of the patches.

    Returns:
        ``(C size**2, C, size, size)``.

    >>> images = torch.randn(50, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    >>> responses = F.conv2d(images - images.mean(), whitening_filters(images, 3)).transpose(0, 1).flatten(1)
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
    """Filters of 4x4 pixels at stride 2, blocks that halve the map, a maximum over positions, one linear layer.

    Args:
        widths: channels of the blocks.
        first: the filters of the first layer ``(16, 1, 4, 4)``, which are not trained; each is used with both signs.
            If None, 32 filters are trained instead.
        dirac: start each block's convolutions as "copy the first input channels".

    >>> FashionCNN((8, 16))(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """

    def __init__(self, widths: tuple[int, ...], *, first: Tensor | None = None, dirac: bool = True) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 32, 4, stride=2, padding=1, bias=False)  # at stride 1 all that follows costs more
        if first is not None:
            if tuple(first.shape) != (16, 1, 4, 4):
                raise ValueError(f"expected first filters of shape (16, 1, 4, 4), got {tuple(first.shape)}")
            self.first.weight = nn.Parameter(torch.cat([first, -first]), requires_grad=False)
        channels = (32, *widths)
        self.blocks = nn.Sequential(*(Block(a, b) for a, b in zip(channels, widths, strict=False)))
        self.head = nn.Linear(widths[-1], 10, bias=False)
        if dirac:
            for conv in self.blocks.modules():
                if isinstance(conv, nn.Conv2d):
                    nn.init.dirac_(conv.weight[: conv.in_channels])

    def forward(self, x: Tensor) -> Tensor:
        """``(B, 1, 28, 28)`` in [0, 1] to logits ``(B, 10)``."""
        x = F.gelu(self.first(x))  # (B, 32, 14, 14)
        x = self.blocks(x)  # (B, widths[-1], 3, 3) with two blocks
        return self.head(x.amax((2, 3))) / 9  # small logits at the start


class AlternatingFlip:
    """Show each image as it is in one epoch and mirrored in the next; a coin decides which comes first.

    A coin in each epoch would show some images several times alike (Jordan 2024, section 3.6).

    Args:
        images: the training images, half of which are mirrored here, once.
        seed: of the coins.
        flip: False mirrors nothing.
        pixels: how far each image is moved at random, in each direction.
        cutout: side of a square that becomes black, at a random place of each image; 0 for none.
    """

    def __init__(self, images: Tensor, *, seed: int, flip: bool = True, pixels: int = 0, cutout: int = 0) -> None:
        coins = torch.rand(len(images), 1, 1, 1, generator=torch.Generator().manual_seed(seed)) < 0.5
        self.images = torch.where(coins, images.flip(-1), images) if flip else images
        self.flip, self.pixels, self.cutout, self.epoch = flip, pixels, cutout, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by `cvbook.train.fit`."""
        self.epoch = epoch

    def __call__(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        if self.flip and self.epoch % 2:
            batch = batch.flip(-1)
        if self.pixels:
            batch = shift(batch, generator, pixels=self.pixels)
        return cut_out(batch, generator, self.cutout) if self.cutout else batch


def cut_out(images: Tensor, generator: torch.Generator, size: int) -> Tensor:
    """Blacken a square of each image; its center is anywhere, so it may reach over the border (DeVries & Taylor 2017).

    >>> cut_out(torch.ones(1, 1, 28, 28), torch.Generator().manual_seed(0), 8).sum() < 28 * 28
    tensor(True)
    """
    if size < 0:
        raise ValueError(f"expected the side of a square, 0 or more, got {size}")
    B, _, H, W = images.shape
    top, left = (torch.randint(n, (B, 1), generator=generator) - size // 2 for n in (H, W))
    rows, columns = torch.arange(H) - top, torch.arange(W) - left  # (B, H), (B, W): how far inside the square
    rows, columns = (rows >= 0) & (rows < size), (columns >= 0) & (columns < size)
    return images.masked_fill(rows[:, None, :, None] & columns[:, None, None, :], 0.0)


@functools.cache  # for the next training in the same process
def full_set(split: str) -> tuple[Tensor, Tensor]:
    """All images and labels; nobody may change them in place."""
    return data.fashion_mnist(split, full=True)


@torch.no_grad()
def evaluate_flipped(model: nn.Module, images: Tensor, labels: Tensor) -> tuple[float, float]:
    """Accuracy without and with test-time flip: the mean of the logits for each image and for its mirror image."""
    if not len(images):
        raise ValueError("expected at least one image to evaluate, got none")
    model.eval()
    hits = torch.zeros(2)
    for x, y in zip(images.split(500), labels.split(500), strict=True):
        logits = model(x)
        for i, answer in enumerate((logits, logits + model(x.flip(-1)))):
            hits[i] += (answer.argmax(1) == y).sum()
    plain, flipped = (hits / len(images)).tolist()
    return plain, flipped


def steady(optimizer: torch.optim.Optimizer, steps: int) -> LRScheduler:
    """A schedule that never changes the rate."""
    return LambdaLR(optimizer, lambda step: 1.0)


def train(settings: Settings, *, seed: int = 0, count: int | None = None, progress: bool = True) -> dict[str, float]:
    """Train once on the full set, or on its first ``count`` images.

    Returns:
        ``accuracy`` and ``flipped`` (with test-time flip) on the test images, in [0, 1]; ``seconds`` of the training,
        from images in memory to trained weights; ``processor``, the seconds of all threads together.
    """
    if count is not None and count < settings.batch_size:
        raise ValueError(f"expected at least {settings.batch_size} images, one batch, got count={count}")
    images, labels = (part[:count] for part in full_set("train"))
    test_images, test_labels = full_set("test")
    started, busy = time.perf_counter(), time.process_time()
    seed_everything(seed)
    first = whitening_filters(images[:2000]) if settings.whiten else None
    model = FashionCNN(settings.widths, first=first, dirac=settings.dirac)
    augment = AlternatingFlip(images, seed=seed, flip=settings.flip, pixels=settings.shift, cutout=settings.cutout)
    loss = functools.partial(F.cross_entropy, label_smoothing=settings.smoothing)
    fit(
        model, augment.images, labels, epochs=settings.epochs, lr=settings.lr, batch_size=settings.batch_size,
        seed=seed, augment=augment, loss=loss, ema=settings.ema, mixed=settings.bfloat16,
        channels_last=settings.channels_last, schedule=one_cycle if settings.one_cycle else steady, progress=progress,
    )  # fmt: skip
    seconds, processor = time.perf_counter() - started, time.process_time() - busy
    plain, flipped = evaluate_flipped(model, test_images, test_labels)
    return {"accuracy": plain, "flipped": flipped, "seconds": seconds, "processor": processor}


def store(runs: dict[str, list[dict[str, float]]]) -> None:
    """Keep what `train` returned, for each of the two settings one for each seed, as ``fashion_cnn``."""
    tables = {name: torch.tensor([list(run.values()) for run in rows]) for name, rows in runs.items()}
    weights.save(
        "fashion_cnn", tables, recipe="cvbook.recipes.fashion_cnn", seed=list(range(max(map(len, runs.values())))),
        metrics=runs, columns=["accuracy", "flipped", "seconds", "processor"],
        seconds=round(sum(run["processor"] for rows in runs.values() for run in rows)),
    )  # fmt: skip


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--long", action="store_true", help="the longer schedule")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--table", action="store_true", help="both, seeds 0 to 2, and store the results")
    options = parser.parse_args(arguments)
    if options.table:
        store({name: [train(s, seed=i) for i in range(3)] for name, s in (("SHORT", SHORT), ("LONG", LONG))})
        return
    found = train(LONG if options.long else SHORT, seed=options.seed)
    print(f"{found['accuracy']:.2%} ({found['flipped']:.2%} with test-time flip) in {found['seconds']:.0f} s")


if __name__ == "__main__":
    main()
