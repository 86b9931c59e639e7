"""Train the networks of the lesson on equivariance: four ways to halve a map, two paddings, three seeds.

Run: ``python -m cvbook.recipes.shift`` (24 networks, 12 to 74 s each on two busy CPU cores). Each checkpoint
``shift_stride``, ``shift_max``, ``shift_blur``, ``shift_maxblur`` holds six of them, under ``PADDING.SEED.``; its card
says how accurate each is when the 2 000 test images are moved.
"""

from __future__ import annotations

import time

import torch
from torch import Tensor

from cvbook import weights
from cvbook.data import fashion_mnist
from cvbook.equivariance import MODES, SHRINKS, ShiftNet, on_canvas, translate
from cvbook.train import accuracy, fit

TOTAL_STRIDE = 4
MARGIN = 6  # black pixels around a garment; a larger shift with zeros would cut it off


def main(
    *, shrinks: tuple[str, ...] = SHRINKS, count: int = 5_000, epochs: int = 4, seeds: int = 3, test_count: int = 2_000
) -> None:
    """Train, measure and store; the arguments shrink the job for tests."""
    images, labels = fashion_mnist("train")
    test_images, test_labels = fashion_mnist("test")
    images, test_images = on_canvas(images[:count]), on_canvas(test_images[:test_count])
    labels, test_labels = labels[:count], test_labels[:test_count]
    for shrink in shrinks:
        tensors: dict[str, Tensor] = {}
        metrics: dict[str, object] = {}
        seconds = {}
        for padding_mode in MODES:
            for seed in range(seeds):
                name = f"{padding_mode}.{seed}"
                torch.manual_seed(seed)
                net = ShiftNet(shrink, padding_mode=padding_mode)
                started = time.perf_counter()
                fit(net, images, labels, epochs=epochs, lr=1e-2, seed=seed, progress=False)
                seconds[name] = round(time.perf_counter() - started, 1)
                tensors |= {f"{name}.{key}": value for key, value in net.state_dict().items()}
                metrics[name] = shifted_accuracy(net, test_images, test_labels)
                print(shrink, name, seconds[name], metrics[name], flush=True)
        weights.save(
            f"shift_{shrink}", tensors, recipe="cvbook.recipes.shift", seed=list(range(seeds)),
            images=count, epochs=epochs, lr=1e-2, seconds=seconds, metrics=metrics,
        )  # fmt: skip


def shifted_accuracy(net: ShiftNet, images: Tensor, labels: Tensor) -> dict[str, object]:
    """Accuracies in [0, 1] of moved images: on the torus one period of ``(dy, dx)``, else a row and the diagonal."""

    def at(dy: int, dx: int) -> float:
        moved = translate(images, dy, dx, mode=net.padding_mode)
        return round(accuracy(net, moved, labels, batch_size=100), 4)

    if net.padding_mode == "circular":
        return {"grid": [[at(dy, dx) for dx in range(TOTAL_STRIDE)] for dy in range(TOTAL_STRIDE)]}
    shifts = range(MARGIN + 1)
    return {"row": [at(0, s) for s in shifts], "diagonal": [at(s, s) for s in shifts]}


if __name__ == "__main__":
    main()
