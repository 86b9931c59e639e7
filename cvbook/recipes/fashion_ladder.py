"""What each trick of `cvbook.recipes.fashion_cnn` gains: leave out one at a time, and measure.

Run: ``python -m cvbook.recipes.fashion_ladder`` (33 trainings, almost an hour). It stores ``fashion_ladder``: for each
row of `LADDER` and each seed the accuracy, the accuracy with test-time flip and the processor's seconds; on the card
also what the tricks save that change only the speed.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from cvbook import data, weights
from cvbook.recipes.fashion_cnn import SHORT, AlternatingFlip, FashionCNN, train, whitening_filters
from cvbook.train import mixed_precision

__all__ = ["LADDER", "costs", "main", "step_seconds", "store"]

LADDER = {
    "all tricks": SHORT,
    "no flip": replace(SHORT, flip=False),
    "no whitening": replace(SHORT, whiten=False),
    "no Dirac start": replace(SHORT, dirac=False),
    "no label smoothing": replace(SHORT, smoothing=0.0),
    "constant rate": replace(SHORT, one_cycle=False),
    "no average": replace(SHORT, ema=None),
    "constant rate, no average": replace(SHORT, one_cycle=False, ema=None),
    "float32": replace(SHORT, bfloat16=False),
    "with shift": replace(SHORT, shift=1),
    "with cutout": replace(SHORT, cutout=8),
}


def step_seconds(
    model: nn.Module, batch: Tensor, *, bfloat16: bool = False, channels_last: bool = False, repeats: int = 5
) -> float:
    """Least seconds that the processor spends on one step of training (all threads together), by plain SGD.

    It leaves the model in training mode, with statistics of this batch.
    """
    layout = torch.channels_last if channels_last else torch.contiguous_format
    model.to(memory_format=layout).train()
    batch, labels = batch.contiguous(memory_format=layout), torch.randint(10, (len(batch),))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    seconds = []
    for _ in range(repeats + 1):  # the first one allocates
        started = time.process_time()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16 and mixed_precision("cpu") is not None):
            loss = F.cross_entropy(model(batch), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seconds.append(time.process_time() - started)
    return min(seconds[1:])


class OneByOne(Dataset[tuple[Tensor, int]]):
    """The usual way: each image is taken, moved, perhaps mirrored and converted by itself."""

    def __init__(self, images: Tensor, pixels: int = 1) -> None:
        from torchvision import transforms as T

        self.pictures = [T.functional.to_pil_image(image) for image in images]
        self.transform = T.Compose([T.RandomCrop(28, padding=pixels), T.RandomHorizontalFlip(), T.ToTensor()])

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.pictures[index]), 0


def batch_seconds(images: Tensor, *, size: int = 250, repeats: int = 5) -> tuple[float, float]:
    """Least processor seconds to make one augmented batch: from memory at once, and by a DataLoader, one by one."""
    augment, generator = AlternatingFlip(images, seed=0, pixels=1), torch.Generator().manual_seed(0)
    augment.set_epoch(1)
    at_once, one_by_one = [], []
    loader = DataLoader(OneByOne(images), batch_size=size, shuffle=True)
    for _ in range(repeats):
        started = time.process_time()
        augment(images[torch.randperm(len(images))[:size]], generator)
        at_once.append(time.process_time() - started)
        started = time.process_time()
        next(iter(loader))
        one_by_one.append(time.process_time() - started)
    return min(at_once), min(one_by_one)


def costs(widths: tuple[int, ...] = SHORT.widths, *, size: int = 250, repeats: int = 5) -> dict[str, float]:
    """Processor seconds of one step, and of one batch of images, with and without the tricks that save time."""
    images = data.fashion_mnist("test")[0]
    found = {}
    for name, setting in (
        ("all tricks", {"bfloat16": True, "channels_last": True}), ("float32", {"channels_last": True}),
        ("channels first", {"bfloat16": True}), ("float32, channels first", {}),
    ):  # fmt: skip
        model = FashionCNN(widths, first=whitening_filters(images[:500]))
        found[name] = step_seconds(model, images[:size], repeats=repeats, **setting)
    found["batch from memory"], found["batch from a DataLoader"] = batch_seconds(images, size=size, repeats=repeats)
    return found


def store(rows: dict[str, list[dict[str, float]]], *, seconds: int, **facts: object) -> None:
    """Keep what `cvbook.recipes.fashion_cnn.train` returned, for each row of `LADDER` one for each seed.

    Args:
        rows: one list for each row.
        seconds: of the processor, for all of them.
        facts: more for the card.
    """
    keys = ("accuracy", "flipped", "processor")
    table = torch.tensor([[[run[key] for key in keys] for run in rows[what]] for what in LADDER])
    weights.save(
        "fashion_ladder", {"table": table}, recipe="cvbook.recipes.fashion_ladder", seed=list(range(table.shape[1])),
        metrics=rows, costs=costs(), seconds=seconds, **facts,
    )  # fmt: skip


def main(*, seeds: int = 3, count: int | None = None, **changes: Any) -> None:
    """Measure each trick by leaving it out, and store the table; the arguments shrink the job for tests."""
    started = time.process_time()
    rows: dict[str, list[dict[str, float]]] = {}
    for what, setting in LADDER.items():
        setting = replace(setting, **changes)
        rows[what] = [train(setting, seed=seed, count=count, progress=False) for seed in range(seeds)]
        mean, flipped = (statistics.mean(run[key] for run in rows[what]) for key in ("accuracy", "flipped"))
        print(f"{what:20} {mean:.2%} ({flipped:.2%} with test-time flip)", flush=True)
    store(rows, seconds=round(time.process_time() - started))


if __name__ == "__main__":
    main()
