"""How much time the book's Fashion-MNIST baseline needs, against the ResNet-18 lesson of Dive into Deep Learning.

    python benchmarks/fashion_cnn.py          both targets, 92 % and 93.5 %: about a quarter of an hour on two cores

The lesson (https://d2l.ai/chapter_convolutional-modern/resnet.html) trains a ResNet-18 for ten epochs on the 60 000
images enlarged to 96x96 pixels, in batches of 128. Here its step time is measured on this machine, in this run, before
and after our own trainings, and multiplied by its number of steps; its data loading is left out, in its favor.
"""

from __future__ import annotations

import statistics
import time

import torch
import torch.nn.functional as F

from cvbook.cnns import resnet18
from cvbook.recipes import fashion_cnn

STEPS = 10 * -(-60_000 // 128)  # ten epochs; the last batch of each is smaller, and counted


def lesson_step_seconds(repeats: int = 4) -> float:
    """Median seconds of one training step of the lesson's network: batch 128, one channel, 96x96, plain SGD."""
    torch.manual_seed(0)
    model = resnet18(num_classes=10, in_channels=1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    images, labels = torch.rand(128, 1, 96, 96), torch.randint(10, (128,))
    seconds = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[1:])  # the first one allocates


def main() -> None:
    """Measure and print."""
    before = lesson_step_seconds()
    rows = []
    for target, settings in ((0.92, fashion_cnn.SHORT), (0.935, fashion_cnn.LONG)):
        rows.append((target, settings, fashion_cnn.train(settings)))
    after = lesson_step_seconds()
    step = min(before, after)
    lesson = step * STEPS
    print(f"ResNet-18, batch 128 at 96 px: {before:.2f} s and {after:.2f} s a step; {STEPS} steps: {lesson:.0f} s")
    for target, settings, found in rows:
        reached = "reached" if found["accuracy"] >= target else "NOT reached"
        print(
            f"{target:.1%}: {reached}, {found['accuracy']:.2%} ({found['flipped']:.2%} with test-time flip) after "
            f"{settings.epochs} epochs in {found['seconds']:.0f} s, 1/{lesson / found['seconds']:.0f} of that time"
        )


if __name__ == "__main__":
    main()
