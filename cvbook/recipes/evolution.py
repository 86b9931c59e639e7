"""Twelve architectures, 1986 to 2022, scaled to 28x28 pixels and trained alike.

    python -m cvbook.recipes.evolution     all of them, two seeds; stores the table

Each is built of the parts that `cvbook.cnns` shows, with a few layers and a few dozen channels. All see the same 10 000
images, without augmentation, in the same batches, with the same optimizer and schedule. Their speed is the least time
of the processor (all threads together) for one step of training: other programs on the machine disturb that little.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from cvbook import weights
from cvbook.cnns.convnext import Block, ChannelNorm
from cvbook.cnns.densenet import DenseNet
from cvbook.cnns.efficientnet import MBConv
from cvbook.cnns.googlenet import Inception
from cvbook.cnns.lenet import lenet5
from cvbook.cnns.mobilenet_v1 import ConvNorm, DepthwiseSeparable
from cvbook.cnns.mobilenet_v2 import InvertedResidual
from cvbook.cnns.resnet import BasicBlock, ResNet
from cvbook.cnns.vgg import VGG
from cvbook.cost import summary
from cvbook.data import fashion_mnist
from cvbook.recipes.fashion_ladder import step_seconds
from cvbook.train import accuracy, fit, seed_everything

__all__ = ["ARCHITECTURES", "EPOCHS", "build", "train"]

EPOCHS, RATE, BATCH = 4, 2e-3, 100


def mlp() -> nn.Module:
    """Two hidden layers; no convolution at all."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 10)
    )


def alexnet() -> nn.Module:
    """Five convolutions, overlapping max pooling, three fully connected layers, dropout."""
    return nn.Sequential(
        nn.Conv2d(1, 24, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, stride=2),    # (B, 24, 13, 13)
        nn.Conv2d(24, 48, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, stride=2),   # (B, 48, 6, 6)
        nn.Conv2d(48, 64, 3, padding=1), nn.ReLU(),
        nn.Conv2d(64, 48, 3, padding=1), nn.ReLU(),
        nn.Conv2d(48, 48, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),             # (B, 48, 3, 3)
        nn.Flatten(), nn.Dropout(), nn.Linear(432, 256), nn.ReLU(),
        nn.Dropout(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10),
    )  # fmt: skip


def inception() -> nn.Module:
    """Two modules of four branches each, global average pooling."""
    return nn.Sequential(
        ConvNorm(1, 16, 3, stride=2),                                # (B, 16, 14, 14)
        Inception(16, 16, (16, 24), (8, 12), 12, kernel=5),          # (B, 64, 14, 14)
        nn.MaxPool2d(2),
        Inception(64, 32, (32, 64), (12, 24), 8, kernel=5),          # (B, 128, 7, 7)
        *_pooled_head(128),
    )  # fmt: skip


def mobilenet_v1() -> nn.Module:
    """Depthwise separable convolutions."""
    return nn.Sequential(
        ConvNorm(1, 16, 3, stride=2),                                # (B, 16, 14, 14)
        DepthwiseSeparable(16, 32), DepthwiseSeparable(32, 48),
        DepthwiseSeparable(48, 96, stride=2), DepthwiseSeparable(96, 128),  # (B, 128, 7, 7)
        *_pooled_head(128),
    )  # fmt: skip


def mobilenet_v2() -> nn.Module:
    """Inverted residuals."""
    return nn.Sequential(
        ConvNorm(1, 16, 3, stride=2, activation=nn.ReLU6),           # (B, 16, 14, 14)
        InvertedResidual(16, 16, expand=3, stride=1),
        InvertedResidual(16, 32, expand=3, stride=2),                # (B, 32, 7, 7)
        InvertedResidual(32, 32, expand=4, stride=1),
        InvertedResidual(32, 32, expand=4, stride=1),
        ConvNorm(32, 128, 1, activation=nn.ReLU6),
        *_pooled_head(128),
    )  # fmt: skip


def efficientnet() -> nn.Module:
    """Inverted residuals with squeeze-and-excitation, SiLU and 5x5 kernels."""
    return nn.Sequential(
        ConvNorm(1, 16, 3, stride=2, activation=nn.SiLU),            # (B, 16, 14, 14)
        MBConv(16, 16, expand=3, kernel=3, stride=1, drop=0.0),
        MBConv(16, 32, expand=3, kernel=5, stride=2, drop=0.0),      # (B, 32, 7, 7)
        MBConv(32, 32, expand=4, kernel=5, stride=1, drop=0.0),
        MBConv(32, 32, expand=4, kernel=5, stride=1, drop=0.0),
        ConvNorm(32, 128, 1, activation=nn.SiLU),
        *_pooled_head(128),
    )  # fmt: skip


def convnext() -> nn.Module:
    """Patches of 2x2 pixels, depthwise 7x7 kernels, a perceptron for each pixel."""
    return nn.Sequential(
        nn.Conv2d(1, 24, 2, stride=2), ChannelNorm(24), Block(24, drop=0.0), Block(24, drop=0.0),    # (B, 24, 14, 14)
        ChannelNorm(24), nn.Conv2d(24, 48, 2, stride=2), Block(48, drop=0.0), Block(48, drop=0.0),   # (B, 48, 7, 7)
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(48, eps=1e-6), nn.Linear(48, 10),
    )  # fmt: skip


def _pooled_head(channels: int) -> tuple[nn.Module, ...]:
    """Global average pooling and one fully connected layer."""
    return nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10)


def _vgg(batch_norm: bool) -> nn.Module:
    return VGG((1, 1, 2), widths=(16, 32, 64), hidden=128, num_classes=10, in_channels=1, batch_norm=batch_norm)


def _resnet(residual: bool) -> nn.Module:
    return ResNet(
        BasicBlock, (1, 1, 1), widths=(12, 24, 48), small_images=True, residual=residual, num_classes=10, in_channels=1
    )


# name: year of the paper that brought the idea, builder
ARCHITECTURES: dict[str, tuple[int, Callable[[], nn.Module]]] = {
    "MLP": (1986, mlp),
    "LeNet-5": (1998, lambda: lenet5(in_channels=1)),
    "AlexNet": (2012, alexnet),
    "VGG": (2014, lambda: _vgg(False)),
    "Inception": (2014, inception),
    "VGG + BN": (2015, lambda: _vgg(True)),
    "ResNet": (2015, lambda: _resnet(True)),
    "DenseNet": (2016, lambda: DenseNet((2, 2, 2), growth=6, small_images=True, num_classes=10, in_channels=1)),
    "MobileNetV1": (2017, mobilenet_v1),
    "MobileNetV2": (2018, mobilenet_v2),
    "EfficientNet": (2019, efficientnet),
    "ConvNeXt": (2022, convnext),
}


FAST_RATE = 8e-3  # does the order hold?
AGAIN = ("MLP", "VGG + BN", "ResNet", "DenseNet")  # what is trained again with this rate


def build(name: str, *, seed: int = 0) -> nn.Module:
    """One of `ARCHITECTURES`, freshly initialized, for ``(B, 1, 28, 28)``.

    >>> build("MobileNetV2")(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """
    seed_everything(seed)
    return ARCHITECTURES[name][1]()


def train(
    model: nn.Module, images: Tensor, labels: Tensor, *, seed: int = 0, epochs: int = EPOCHS, rate: float = RATE
) -> None:
    """The one recipe for all: AdamW, one cycle up to 0.002, batches of 100, four passes, nothing else."""
    settings: dict[str, Any] = {"epochs": epochs, "lr": rate, "batch_size": BATCH, "seed": seed, "channels_last": True}
    fit(model, images, labels, progress=False, **settings)


def main(*, count: int = 10_000, seeds: int = 2, epochs: int = EPOCHS, name: str = "evolution") -> None:
    """Train, measure and store; the arguments shrink the job for tests."""
    started = time.perf_counter()
    images, labels = (part[:count] for part in fashion_mnist("train"))
    tested = fashion_mnist("test")
    rows: dict[str, dict[str, Any]] = {}
    for what, (year, _) in ARCHITECTURES.items():
        cost = summary(build(what), (1, 28, 28))
        runs = []
        for seed in range(seeds):
            model = build(what, seed=seed)
            train(model, images, labels, seed=seed, epochs=epochs)
            found = accuracy(model, *tested), accuracy(model, images[:2_000], labels[:2_000])
            runs.append([round(value, 4) for value in found])
        rows[what] = {
            "year": year, "parameters": cost.parameters, "multiply_adds": cost.multiply_adds, "runs": runs,
            "step_seconds": step_seconds(build(what), images[:BATCH], channels_last=True, repeats=10),
        }  # fmt: skip
        if what in AGAIN:
            model = build(what)
            train(model, images, labels, epochs=epochs, rate=FAST_RATE)
            rows[what]["accuracy_at_fast_rate"] = round(accuracy(model, *tested), 4)
        print(what, rows[what], round(time.perf_counter() - started), flush=True)
    table = torch.tensor([row["runs"] for row in rows.values()])  # (architectures, seeds, [test, train])
    weights.save(
        name, {"runs": table}, recipe="cvbook.recipes.evolution", seed=list(range(seeds)), images=count, epochs=epochs,
        lr=RATE, batch_size=BATCH, seconds=round(time.perf_counter() - started), metrics=rows,
    )  # fmt: skip


if __name__ == "__main__":
    main()
