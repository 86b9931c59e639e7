"""Train small networks of dense, separable and gated blocks on Fashion-MNIST, and time layers on the CPU.

Run: ``python -m cvbook.recipes.what_came_next`` (25 networks, 4 to 30 s each on one busy CPU core, and two minutes of
timing). It stores ``what_came_next``, the networks of seed 0 and the accuracy of all, and ``layer_times``.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvbook import summary, weights
from cvbook.cnns.images import check_counts
from cvbook.cnns.mobilenet_v1 import ConvNorm, DepthwiseSeparable
from cvbook.cnns.squeeze_excitation import SqueezeExcitation
from cvbook.data import fashion_mnist
from cvbook.train import accuracy, fit

WIDE = 45  # separable with as many multiply-adds as the dense network of width 16
NETWORKS = {
    "dense": {"width": 16},
    "separable": {"width": 16, "separable": True},
    "wide separable": {"width": WIDE, "separable": True},
    "gated": {"width": 16, "gated": True},
    "small images": {"width": 32, "separable": True},  # of 14x14: as cheap as "separable"
}
SIDES_OF_IMAGES = {"small images": 14}

# The axes of the table of times: side of the kernel, channels in and out, side of the map, kind of layer.
KERNELS, CHANNELS, SIDES = (3, 5, 7), (32, 64, 128, 256, 512), (7, 14, 28, 56)
GROUPS = (2, 4, 8, 16, 32)
KINDS = ("dense", "depthwise", "pointwise", *(f"groups {g}" for g in GROUPS))


def network(width: int, *, separable: bool = False, gated: bool = False) -> nn.Sequential:
    """Five convolutions for grey images of 28x28, the mean over space, one linear layer; logits ``(B, 10)``.

    Args:
        width: channels of the first layer; the last has four times as many.
        separable: all but the first are depthwise separable; batch normalization and ReLU follow *each* step, so
            there are more nonlinearities than in the dense network.
        gated: squeeze-and-excitation after each, with a quarter of the channels between its two layers.

    Raises:
        TypeError: if the width is no whole number.
        ValueError: if it is less than 1, or with gates less than 2.

    >>> network(8)(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """
    check_counts(width=width)
    if gated and width < 2:
        raise ValueError(f"expected width >= 2 with gates, got {width}; use 2 or more")  # 2 width // 4 channels
    layers: list[nn.Module] = [ConvNorm(1, width, 3)]  # (B, width, 28, 28)
    channels = width
    for c_out, stride in ((2 * width, 2), (2 * width, 1), (4 * width, 2), (4 * width, 1)):
        layers.append(
            DepthwiseSeparable(channels, c_out, stride=stride)
            if separable
            else ConvNorm(channels, c_out, 3, stride=stride)
        )
        if gated:
            layers.append(SqueezeExcitation(c_out, c_out // 4))
        channels = c_out
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10))


def milliseconds(run: Callable[[], object], *, at_least: int = 2, budget: float = 0.02) -> float:
    """Processor time of the fastest of several calls, after one to warm up.

    Unlike time on the clock it stands still while other programs have the processor. Call it with one thread only: it
    adds up the time of all.
    """
    run()
    times: list[float] = []
    while len(times) < at_least or sum(times) < budget:
        started = time.process_time()
        run()
        times.append(time.process_time() - started)
    return 1000 * min(times)


@torch.inference_mode()
def layer_time(kind: str, kernel: int, channels: int, side: int) -> float:
    """Milliseconds of one layer of `KINDS` on one image ``(1, channels, side, side)``, as many channels out as in.

    Raises:
        TypeError: if kernel, channels or side is no whole number.
        ValueError: for another kind, a number less than 1, or channels that cannot be split into the groups.
    """
    if kind not in KINDS:
        raise ValueError(f"expected kind to be one of {', '.join(map(repr, KINDS))}, got {kind!r:.60}; use one of them")
    check_counts(kernel=kernel, channels=channels, side=side)
    groups = {"dense": 1, "pointwise": 1, "depthwise": channels}.get(kind) or int(kind.split()[1])
    if channels % groups:
        fits = channels + -channels % groups
        raise ValueError(f"expected channels as a multiple of {groups} for {kind!r}, got {channels}; use {fits}")
    kernel = 1 if kind == "pointwise" else kernel
    x, weight = torch.randn(1, channels, side, side), torch.randn(channels, channels // groups, kernel, kernel)
    return milliseconds(lambda: F.conv2d(x, weight, padding=kernel // 2, groups=groups))


def main(
    *,
    n: int = 4_000,
    epochs: int = 4,
    seeds: int = 5,
    networks: dict[str, dict] = NETWORKS,
    passes: int = 3,
    grid: tuple[tuple[int, ...], ...] = (KERNELS, CHANNELS, SIDES),
) -> None:
    """Train, time and store; the arguments shrink the job for tests."""
    _train(n, epochs, seeds, networks)
    _time(passes, *grid)


def _train(n: int, epochs: int, seeds: int, networks: dict[str, dict]) -> None:
    train, test = fashion_mnist(), fashion_mnist("test")
    started = time.perf_counter()
    tensors: dict[str, Tensor] = {}
    metrics: dict[str, dict] = {}
    for name, options in networks.items():
        found, side = [], SIDES_OF_IMAGES.get(name, 28)
        images, test_images = (F.adaptive_avg_pool2d(part, side) for part, _ in (train, test))
        for seed in range(seeds):
            torch.manual_seed(seed)
            model = network(**options)
            history = fit(model, images[:n], train[1][:n], epochs=epochs, seed=seed, batch_size=64, progress=False)
            found.append(round(accuracy(model, test_images, test[1]), 4))
            print(name, seed, found[-1], round(sum(history["seconds"]), 1), flush=True)
            if seed == 0:
                state = model.state_dict().items()
                tensors.update({f"{name}/{key}": v.half() for key, v in state if v.is_floating_point()})
        cost = summary(model, (1, side, side))
        metrics[name] = {"accuracy": found, "parameters": cost.parameters, "multiply_adds": cost.multiply_adds}
    weights.save(
        "what_came_next", tensors, recipe="cvbook.recipes.what_came_next", seed=list(range(seeds)), images=n,
        epochs=epochs, seconds=round(time.perf_counter() - started), metrics=metrics,
    )  # fmt: skip


def _time(passes: int, kernels: tuple[int, ...], channels: tuple[int, ...], sides: tuple[int, ...]) -> None:
    started, threads = time.perf_counter(), torch.get_num_threads()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    table = torch.full((len(kernels), len(channels), len(sides), len(KINDS)), torch.inf)
    for _ in range(passes):  # far apart, so that a busy moment spoils one of them only
        for i, kernel in enumerate(kernels):
            for j, width in enumerate(channels):
                for k, side in enumerate(sides):
                    for m, kind in enumerate(KINDS):
                        table[i, j, k, m] = min(table[i, j, k, m].item(), layer_time(kind, kernel, width, side))
        print("timed", round(time.perf_counter() - started), flush=True)
    torch.set_num_threads(threads)
    weights.save(
        "layer_times", {"milliseconds": table}, recipe="cvbook.recipes.what_came_next", seed=0,
        threads=1, kernels=list(kernels), channels=list(channels), sides=list(sides),
        kinds=list(KINDS), seconds=round(time.perf_counter() - started),
        metrics={"longest": round(table.max().item(), 1), "shortest": round(table.min().item(), 4)},
    )  # fmt: skip


if __name__ == "__main__":
    main()
