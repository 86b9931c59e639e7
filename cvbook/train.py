"""The training loop that a lesson shows first, wrapped once: images in memory, AdamW, one-cycle learning rate."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from cvbook import dry_run

__all__ = ["accuracy", "fit"]


def fit(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    epochs: int,
    lr: float = 3e-3,
    batch_size: int = 128,
    seed: int = 0,
    augment: Callable[[Tensor, torch.Generator], Tensor] | None = None,
    progress: bool = True,
) -> list[float]:
    """Train a classifier with cross-entropy; afterwards it is in ``eval`` mode.

    Args:
        model: maps ``(B, C, H, W)`` images to ``(B, classes)`` logits; trained in place, on its own device.
        images: ``(N, C, H, W)`` float.
        labels: ``(N,)`` int64.
        epochs: passes over the data.
        lr: peak of the one-cycle schedule.
        batch_size: images in one step; a smaller last batch is dropped.
        seed: of the shuffling and of the augmentation; the model is initialized by the caller.
        augment: called as ``augment(batch, generator)`` on each training batch.
        progress: show a bar.

    Returns:
        The mean loss of each epoch.

    Raises:
        ValueError: if images and labels do not match, or there are fewer images than ``batch_size``.
    """
    if len(images) != len(labels):
        raise ValueError(f"expected one label for each image, got {len(images)} images and {len(labels)} labels")
    if len(images) < batch_size:
        raise ValueError(f"expected at least batch_size={batch_size} images, got {len(images)}; lower batch_size")
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    steps = len(images) // batch_size
    if dry_run():
        epochs, steps = 1, min(steps, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=epochs * steps)
    history = []
    model.train()
    bar = tqdm(total=epochs * steps, disable=not progress, leave=False, mininterval=0.5)
    for _ in range(epochs):
        order = torch.randperm(len(images), generator=generator)
        total = 0.0
        for step in range(steps):
            index = order[step * batch_size : (step + 1) * batch_size]
            batch = images[index]
            if augment is not None:
                batch = augment(batch, generator)
            loss = F.cross_entropy(model(batch.to(device)), labels[index].to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
            bar.update()
        history.append(total / steps)
    bar.close()
    model.eval()
    return history


@torch.no_grad()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor, *, batch_size: int = 500) -> float:
    """The share of images, in [0, 1], whose largest logit is the label. The model's mode is left as it is.

    Args:
        model: maps ``(B, C, H, W)`` images to ``(B, classes)`` logits.
        images: ``(N, C, H, W)`` float.
        labels: ``(N,)`` int64.
        batch_size: images at a time.
    """
    device = next(model.parameters()).device
    hits = 0
    for start in range(0, len(images), batch_size):
        part = slice(start, start + batch_size)
        hits += int((model(images[part].to(device)).argmax(1).cpu() == labels[part]).sum())
    return hits / len(images)
