"""Does an augmentation help? Six of them on Fashion-MNIST, three seeds each (a few minutes on two cores).

``python -m cvbook.recipes.dropout_augmentation`` stores every accuracy, and the networks of seed 0 in half precision,
for the lesson "Dropout and augmentation".
"""

from __future__ import annotations

import time

import torch
from torch import nn

from cvbook import augmentation, weights
from cvbook.data import fashion_mnist
from cvbook.train import accuracy, fit

AUGMENTATIONS = {
    "none": None, "horizontal flip": augmentation.horizontal_flip, "vertical flip": augmentation.vertical_flip,
    "quarter turns": augmentation.quarter_turns, "shift": augmentation.shift, "invert": augmentation.invert,
}  # fmt: skip


def network() -> nn.Sequential:
    """Two convolutions with max pooling and a linear head: 20 490 parameters."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(32 * 7 * 7, 10),
    )  # fmt: skip


def main(*, n: int = 2000, epochs: int = 14, seeds: int = 3, name: str = "augmentation") -> None:
    """Train with each augmentation and store networks and accuracies.

    Args:
        n: training images.
        epochs: passes over them.
        seeds: how many.
        name: of what is stored (a test uses its own).
    """
    images, labels = (part[:n] for part in fashion_mnist())
    test = fashion_mnist("test")
    started = time.perf_counter()
    table: dict[str, list[float]] = {}
    tensors = {}
    for title, augment in AUGMENTATIONS.items():
        for seed in range(seeds):
            torch.manual_seed(seed)
            model = network()
            fit(model, images, labels, epochs=epochs, seed=seed, augment=augment, batch_size=100, progress=False)
            table.setdefault(title, []).append(accuracy(model, *test))
            print(title, seed, table[title][-1], flush=True)
            if seed == 0:
                tensors.update({f"{title}/{key}": value.half() for key, value in model.state_dict().items()})
    seconds = round(time.perf_counter() - started)
    facts = {"images": n, "epochs": epochs, "seed": list(range(seeds)), "seconds": seconds, "metrics": table}
    weights.save(name, tensors, recipe="cvbook.recipes.dropout_augmentation", **facts)


if __name__ == "__main__":
    main()
