"""The training loop that a lesson shows first, wrapped once: images in memory, and what a long run needs around it.

Under ``torchrun`` each process takes its share of every batch, and the losses are those of one process.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm.auto import tqdm

from cvbook import checkpoint as checkpoints
from cvbook import dry_run, labeled
from cvbook.viz import Curve

__all__ = ["accuracy", "evaluate", "fit", "mixed_precision", "one_cycle", "seed_everything", "warmup_cosine"]

CHECK_EVERY = 32  # steps between looks at the losses; on a GPU each look waits for it
Schedule = Callable[[torch.optim.Optimizer, int], LRScheduler]


def seed_everything(seed: int) -> None:
    """Seed Python's, NumPy's and torch's global generators, on all devices."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.manual_seed(seed)


def one_cycle(optimizer: torch.optim.Optimizer, steps: int) -> LRScheduler:
    """Up to the optimizer's rate in 30 % of the steps, then down to nearly 0 (Smith & Topin 2018, arXiv:1708.07120)."""
    # momentum (Adam: beta 1) goes down to 0.85 and back to 0.95; SGD gets it even if it was made without
    return OneCycleLR(optimizer, [group["lr"] for group in optimizer.param_groups], total_steps=steps)


def warmup_cosine(optimizer: torch.optim.Optimizer, steps: int) -> LRScheduler:
    """Up along a line for 5 % of the steps, then down along half a cosine (Loshchilov & Hutter, arXiv:1608.03983)."""
    warm = max(1, steps // 20)

    def factor(step: int) -> float:
        angle = np.pi * (step - warm) / max(1, steps - warm)
        return (step + 1) / warm if step < warm else 0.5 + 0.5 * float(np.cos(angle))

    return LambdaLR(optimizer, factor)


def mixed_precision(device: torch.device | str) -> torch.dtype | None:
    """The 16-bit type that this device computes fast: bfloat16, else float16 (older GPUs), else None (older CPUs).

    >>> mixed_precision("cpu") in (torch.bfloat16, None)
    True
    """
    if torch.device(device).type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    return torch.bfloat16 if torch.ops.mkldnn._is_mkldnn_bf16_supported() else None


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
    loss: Callable[[Any, Tensor], Tensor] = F.cross_entropy,
    optimizer: Callable[[Any], torch.optim.Optimizer] | None = None,
    schedule: Schedule = one_cycle,
    ema: float | None = None,
    mixed: bool = False,
    channels_last: bool = False,
    validation: tuple[Tensor, Tensor] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    live: bool = False,
    progress: bool = True,
) -> dict[str, list[float]]:
    """Train a classifier; afterwards it is in ``eval`` mode.

    Args:
        model: maps ``(B, C, H, W)`` images to ``(B, classes)`` logits; trained in place, on its own device.
        images: ``(N, C, H, W)`` float of the model's type, on any device.
        labels: ``(N,)`` int64 in ``0..classes-1``; for a loss other than cross-entropy, what that takes, ``(N, ...)``.
        epochs: passes over the data, at least 1.
        lr: peak of the schedule, for the default optimizer.
        batch_size: images in one step, over all processes together; a smaller last batch is dropped.
        seed: of the shuffling and of the augmentation; the model is initialized by the caller.
        augment: called as ``augment(batch, generator)`` on each batch; its ``set_epoch``, if any, before each epoch.
        loss: of the model's output and the labels.
        optimizer: makes one from the parameters; AdamW with weight decay 0.01 if None.
        schedule: `one_cycle`, `warmup_cosine`, or another function of optimizer and number of steps.
        ema: decay of a moving average of the weights, in (0, 1); the model ends with the average.
        mixed: compute in 16 bits where `mixed_precision` knows a type; weights stay in their own.
        channels_last: keep the channels of a pixel together in memory, which convolutions like.
        validation: images and labels to evaluate on after each epoch.
        checkpoint: a file written after each epoch. If it exists, training goes on from there, to the same weights, bit
            for bit, that an uninterrupted run on this machine gives, if settings, data and functions' names are alike.
        live, progress: draw the loss while it falls; show a bar.

    Returns:
        Lists of one number for each epoch: ``loss``, ``seconds`` and, if validated, ``validation_loss``, ``accuracy``.

    Raises:
        ValueError, TypeError: if arguments do not fit each other or the model; raised before the first step.
        FloatingPointError: if the loss or, at the end of an epoch, a weight is no longer finite.
        CheckpointError: if the checkpoint is damaged, belongs to another run, or cannot be written.
    """
    world, rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
    device, classes = labeled.place(model), labeled.is_cross_entropy(loss)
    labeled.pairs(model, images, labels, whole_labels=classes, mixed=mixed, planes=channels_last)
    labeled.validation(model, validation)
    functions: dict[str, Any] = {"loss": loss, "schedule": schedule, "augment": augment}
    epochs, batch_size, seed, lr, ema = labeled.settings(
        images, world, checkpoint, optimizer, functions, epochs=epochs, batch_size=batch_size, seed=seed, lr=lr, ema=ema
    )
    generator = torch.Generator().manual_seed(seed)
    steps = len(images) // batch_size
    if dry_run():
        epochs, steps = 1, min(steps, 2)
    make = optimizer or (lambda parameters: torch.optim.AdamW(parameters, lr=lr, weight_decay=1e-2))
    if channels_last:
        model.to(memory_format=torch.channels_last)
    opt = make(model.parameters())
    run: dict[str, Any] = {"epochs": epochs, "batch_size": batch_size, "seed": seed, "ema": ema, "images": len(images)}
    run |= checkpoints.describe(opt, mixed=mixed, channels_last=channels_last, **functions)  # the rate is still its own
    plan = schedule(opt, epochs * steps)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(ema), use_buffers=True) if ema else None
    kind = mixed_precision(device) if mixed else None
    scaler = torch.amp.GradScaler(device.type, enabled=kind is torch.float16)
    parts: dict[str, Any] = {"model": model, "optimizer": opt, "schedule": plan, "scaler": scaler}
    parts |= {"average": average} if average else {}
    history: dict[str, list[float]] = {"loss": [], "seconds": []}
    if checkpoint is not None:
        run["data"] = labeled.digest(images, labels)
        if os.path.exists(checkpoint):
            history = checkpoints.resume(checkpoint, run, parts, generator, device)
        if rank == 0 and len(history["loss"]) < epochs:
            checkpoints.probe(checkpoint)
    net: nn.Module = model
    if world > 1:
        if not dist.is_initialized():
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        net = DistributedDataParallel(model)
    done = len(history["loss"])
    bar = tqdm(total=epochs * steps, initial=done * steps, disable=not progress or rank > 0, leave=False)
    curve = Curve() if live and rank == 0 else None
    for epoch in range(done, epochs):
        model.train()
        started = time.perf_counter()
        if set_epoch := getattr(augment, "set_epoch", None):
            set_epoch(epoch)
        order = torch.randperm(len(images), generator=generator)
        losses = torch.zeros(steps, device=device)
        for step in range(steps):
            index = order[step * batch_size : (step + 1) * batch_size].to(images.device)
            batch, target = images[index], labels[index.to(labels.device)]
            if augment is not None:
                batch = augment(batch, generator)  # the whole batch, so that every process draws alike
                if step == 0:
                    labeled.augmented(batch, batch_size)
            batch, target = batch[rank::world].to(device), target[rank::world].to(device)
            if channels_last:
                batch = batch.contiguous(memory_format=torch.channels_last)
            with torch.autocast(device.type, dtype=kind, enabled=kind is not None):
                output = net(batch)
                if epoch == done and step == 0:
                    labeled.classes(output, *[labels] * classes, *(validation or ())[1:])
                value = loss(output, target)
            opt.zero_grad()
            scaler.scale(value).backward()
            scaler.step(opt)
            scaler.update()
            plan.step()
            if average is not None:
                average.update_parameters(model)
            losses[step] = value.detach()
            if (step + 1) % CHECK_EVERY == 0 or step + 1 == steps:
                labeled.finite_losses(losses[: step + 1], epoch, checkpoint)
            bar.update()
        if world > 1:
            dist.all_reduce(losses)
        history["loss"].append(losses.double().mean().item() / world)
        if validation is not None:
            found = evaluate(average.module if average else model, *validation)
            history.setdefault("validation_loss", []).append(found["loss"])
            history.setdefault("accuracy", []).append(found["accuracy"])
        history["seconds"].append(time.perf_counter() - started)
        if curve:
            curve.draw(history)
        if checkpoint is not None or epoch + 1 == epochs:
            labeled.finite_weights(average or model, epoch, checkpoint)
        if checkpoint is not None and rank == 0:
            checkpoints.save(checkpoint, checkpoints.capture(run, history, parts, generator, device))
    bar.close()
    if average is not None:
        model.load_state_dict(average.module.state_dict())
    model.eval()
    return history


@torch.no_grad()
def evaluate(model: nn.Module, images: Tensor, labels: Tensor, *, batch_size: int = 500) -> dict[str, float]:
    """``{"loss": …, "accuracy": …}``: mean cross-entropy and share of hits, in ``eval`` mode.

    Afterwards, and after an error, each part of the model is in its own mode again. Arguments and errors: see `fit`.
    """
    labeled.place(model)
    modes, total, hits = [(module, module.training) for module in model.modules()], 0.0, 0
    try:
        model.eval()
        for logits, target, right in _answers(model, images, labels, batch_size):
            total += F.cross_entropy(logits.float(), target, reduction="sum").item()
            hits += right
    finally:
        for module, mode in modes:
            module.training = mode
    return {"loss": total / len(images), "accuracy": hits / len(images)}


@torch.no_grad()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor, *, batch_size: int = 500) -> float:
    """The share of images, in [0, 1], whose largest logit is the label, in whatever mode the model is.

    An image with a NaN among its logits counts as a miss. Arguments and errors: see `fit`.
    """
    return sum(hits for *_, hits in _answers(model, images, labels, batch_size)) / len(images)


def _answers(model: nn.Module, images: Tensor, labels: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor, int]]:
    """Logits, labels and the number of hits, batch by batch."""
    device, size = labeled.place(model), labeled.positive("batch_size", size)
    labeled.pairs(model, images, labels)
    for start in range(0, len(images), size):
        part = slice(start, start + size)
        logits, target = model(images[part].to(device)), labels[part].to(device)
        if start == 0:
            labeled.classes(logits, labels)
        yield logits, target, int(((logits.argmax(1) == target) & ~logits.isnan().any(1)).sum())
