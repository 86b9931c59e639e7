"""How much time the book's Fashion-MNIST baseline needs, against the ResNet-18 lesson of Dive into Deep Learning.

    python benchmarks/fashion_cnn.py             both targets, 92 % and 93.5 %: some five minutes on two cores
    python benchmarks/fashion_cnn.py --short     only the first

The lesson (https://d2l.ai/chapter_convolutional-modern/resnet.html) trains a ResNet-18 for ten epochs on the 60 000
images enlarged to 96x96 pixels, in batches of 128. Here its step time is measured on this machine, in this run, before
and after our own trainings, and multiplied by its number of steps; its data loading is left out, in its favor. Two
ratios are shown: of wall time, and of the processor's time, which other programs on the machine disturb less.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator

import torch
import torch.nn.functional as F

from cvbook.cnns import resnet18
from cvbook.recipes import fashion_cnn

STEPS = 10 * -(-60_000 // 128)  # ten epochs; the last batch of each is smaller, and counted
TARGETS = {"SHORT": (0.92, 50), "LONG": (0.935, 15)}  # accuracy, and how many times shorter


def lesson_step_seconds(*, repeats: int = 4, batch: int = 128, side: int = 96) -> tuple[float, float]:
    """Least wall and processor seconds of one training step of the lesson's network: one channel, plain SGD."""
    torch.manual_seed(0)
    model = resnet18(num_classes=10, in_channels=1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    images, labels = torch.rand(batch, 1, side, side), torch.randint(10, (batch,))
    wall, processor = [], []
    for _ in range(repeats + 1):
        started, busy = time.perf_counter(), time.process_time()
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
        wall.append(time.perf_counter() - started)
        processor.append(time.process_time() - busy)
    return min(wall[1:]), min(processor[1:])  # the first one allocates


def report(before: tuple[float, float], after: tuple[float, float], rows: dict[str, dict[str, float]]) -> Iterator[str]:
    """Lines of text: the lesson's time, and for each of our trainings whether it reached its targets.

    Args:
        before, after: what `lesson_step_seconds` gave; the smaller ones count, in the lesson's favor.
        rows: for ``"SHORT"`` and ``"LONG"`` what `cvbook.recipes.fashion_cnn.train` returned.
    """
    wall, processor = (STEPS * min(pair) for pair in zip(before, after, strict=True))
    yield f"ResNet-18, batch 128 at 96 px: {before[0]:.2f} s and {after[0]:.2f} s a step; {STEPS} steps: {wall:.0f} s"
    for name, found in rows.items():
        target, times = TARGETS[name]
        accurate = "reached" if found["accuracy"] >= target else "NOT reached"
        ratio = wall / found["seconds"]
        yield (
            f"{name}: {target:.1%} {accurate}, {found['accuracy']:.2%} without and {found['flipped']:.2%} with "
            f"test-time flip in {found['seconds']:.0f} s, 1/{ratio:.0f} of that time "
            f"({'at most' if ratio >= times else 'NOT at most'} 1/{times}); processor's time: "
            f"1/{processor / found['processor']:.0f}"
        )


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="only the short schedule")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    before = lesson_step_seconds()
    rows = {"SHORT": fashion_cnn.train(fashion_cnn.SHORT, seed=options.seed)}
    if not options.short:
        rows["LONG"] = fashion_cnn.train(fashion_cnn.LONG, seed=options.seed)
    for line in report(before, lesson_step_seconds(), rows):
        print(line)


if __name__ == "__main__":
    main()
