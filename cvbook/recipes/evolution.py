"""Twelve architectures, 1986 to 2022, scaled to 28x28 pixels and trained alike.

    python -m cvbook.recipes.evolution     all of them, 36 trainings (most of an hour on one core); stores the table

Each is built of the parts that `cvbook.cnns` shows, with a few layers and a few dozen channels, as its paper has it but
for dropout, which nobody gets. All see the same 55 000 images, without augmentation, in the same batches, with the same
optimizer and schedule. Only the peak of the rate is
chosen for each network: the better of two on the last 5 000 training images, with seed 0. Their speed is the least time
of the processor (all threads together) for one step of training: other programs on the machine disturb that little.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
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
from cvbook.recipes.fashion_cnn import full_set
from cvbook.recipes.fashion_ladder import step_seconds
from cvbook.train import accuracy, fit, seed_everything

__all__ = ["ARCHITECTURES", "EPOCHS", "RATES", "build", "step_milliseconds", "train"]

EPOCHS, BATCH = 4, 250
RATES = (3e-3, 1e-2)
HELD_OUT = 5_000  # images that choose the rate


def mlp() -> nn.Module:
    """Two hidden layers; no convolution at all."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 10)
    )


def alexnet() -> nn.Module:
    """Five convolutions, overlapping max pooling, three fully connected layers."""
    return nn.Sequential(
        nn.Conv2d(1, 24, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, stride=2),    # (B, 24, 13, 13)
        nn.Conv2d(24, 48, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, stride=2),   # (B, 48, 6, 6)
        nn.Conv2d(48, 64, 3, padding=1), nn.ReLU(),
        nn.Conv2d(64, 48, 3, padding=1), nn.ReLU(),
        nn.Conv2d(48, 48, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),             # (B, 48, 3, 3)
        nn.Flatten(), nn.Linear(432, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10),
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
    net = VGG((1, 1, 2), widths=(16, 32, 64), hidden=128, num_classes=10, in_channels=1, batch_norm=batch_norm)
    net.avgpool = nn.Identity()  # type: ignore[assignment]  # it would enlarge 3x3 pixels to 7x7
    net.classifier[0] = nn.Linear(64 * 3 * 3, 128)
    for layer in net.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
    return net


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


def build(name: str, *, seed: int = 0) -> nn.Module:
    """One of `ARCHITECTURES`, freshly initialized, for ``(B, 1, 28, 28)``.

    >>> build("MobileNetV2")(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """
    if name not in ARCHITECTURES:
        raise ValueError(f"expected one of {', '.join(ARCHITECTURES)}, got {name!r}")
    seed_everything(seed)
    return ARCHITECTURES[name][1]()


def train(
    model: nn.Module, images: Tensor, labels: Tensor, *, rate: float, seed: int = 0, epochs: int = EPOCHS
) -> None:
    """The one recipe for all: AdamW (weight decay 0.01), one cycle up to ``rate``, batches of 250, in 16 bits."""
    fit(
        model, images, labels, epochs=epochs, lr=rate, batch_size=BATCH, seed=seed, mixed=True, channels_last=True,
        progress=False,
    )  # fmt: skip


def run(name: str, *, rate: float, seed: int, count: int | None = None, epochs: int = EPOCHS) -> dict[str, float]:
    """Train one network, on all images or the first ``count``.

    Returns:
        ``rate`` and ``seed``, accuracies on ``held_out`` training images and on ``test`` images in [0, 1].
    """
    images, labels = (part[:count] for part in full_set("train"))
    last = HELD_OUT if count is None else count // 10
    model = build(name, seed=seed)
    train(model, images[:-last], labels[:-last], rate=rate, seed=seed, epochs=epochs)
    held_out, test = accuracy(model, images[-last:], labels[-last:]), accuracy(model, *full_set("test"))
    return {"rate": rate, "seed": seed, "held_out": round(held_out, 4), "test": round(test, 4)}


def chosen(runs: Iterable[dict[str, float]]) -> float:
    """The rate that is best on held-out images.

    >>> chosen([{"rate": 0.1, "held_out": 0.8, "test": 0.7}, {"rate": 0.2, "held_out": 0.7, "test": 0.9}])
    0.1
    """
    return max(runs, key=lambda run: run["held_out"])["rate"]


def store(runs: dict[str, list[dict[str, float]]], *, seconds: int, epochs: int = EPOCHS) -> None:
    """Measure the costs of each network, and keep all as ``evolution``.

    Args:
        runs: for each network what `run` returned: with seed 0 for each of `RATES`, in order, then with further seeds
            for the `chosen` one.
        seconds: of the processor, for all of them.
        epochs: of each.
    """
    rows: dict[str, dict[str, Any]] = {}
    found: dict[str, list[list[float]]] = {}
    for name, these in runs.items():
        search, rest = these[: len(RATES)], these[len(RATES) :]
        rate = chosen(search)
        cost = summary(build(name), (1, 28, 28))
        rows[name] = {
            "year": ARCHITECTURES[name][0], "parameters": cost.parameters, "multiply_adds": cost.multiply_adds,
            "rate": rate, "search": search, "runs": [search[RATES.index(rate)], *rest],
            "step_seconds": step_milliseconds(name) / 1000,
        }  # fmt: skip
        found[name] = [[run["held_out"], run["test"]] for run in rows[name]["runs"]]
    weights.save(
        "evolution", {"runs": torch.tensor(list(found.values()))}, recipe="cvbook.recipes.evolution",
        seed=list(range(len(these) - len(RATES) + 1)), epochs=epochs, rates=list(RATES), batch_size=BATCH,
        seconds=seconds, metrics=rows,
    )  # fmt: skip


def step_milliseconds(name: str, *, bfloat16: bool = True, repeats: int = 10) -> float:
    """Least time of the processor for one step of training, in 16 or 32 bits (by plain SGD; AdamW adds little)."""
    batch = torch.rand(BATCH, 1, 28, 28)
    return 1000 * step_seconds(build(name), batch, bfloat16=bfloat16, channels_last=True, repeats=repeats)


def main(*, seeds: int = 2, count: int | None = None, epochs: int = EPOCHS) -> None:
    """Train, measure and store; the arguments shrink the job for tests."""
    started = time.process_time()
    runs: dict[str, list[dict[str, float]]] = {}
    for name in ARCHITECTURES:
        runs[name] = [run(name, rate=rate, seed=0, count=count, epochs=epochs) for rate in RATES]
        rate = chosen(runs[name])
        runs[name] += [run(name, rate=rate, seed=seed, count=count, epochs=epochs) for seed in range(1, seeds)]
        print(name, runs[name], round(time.process_time() - started), flush=True)
    store(runs, seconds=round(time.process_time() - started), epochs=epochs)


if __name__ == "__main__":
    main()
