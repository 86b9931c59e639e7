"""Checks for `cvbook.train`: of a model, labeled images, settings and functions, and of what becomes of them."""

from __future__ import annotations

import functools
import hashlib
import math
import os
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvbook._arguments import number, tensor, whole

__all__ = [
    "augmented", "classes", "digest", "finite_losses", "finite_weights", "is_cross_entropy", "pairs", "place",
    "positive", "settings", "validation",
]  # fmt: skip

SAMPLE = 64 * 2**20  # bytes: of images that are larger, `digest` reads every k-th number


def place(model: Any) -> torch.device:
    """The device of a network's first parameter.

    Raises:
        TypeError: if it is no module.
        ValueError: if it has no parameters.

    >>> place(nn.Linear(2, 3))
    device(type='cpu')
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"expected a model as a torch.nn.Module, got {type(model).__name__}; pass the network itself")
    first = next(model.parameters(), None)
    if first is None:
        raise ValueError(f"expected a model with parameters, got none in {type(model).__name__}; add a layer to train")
    return first.device


def pairs(
    model: nn.Module, images: Any, labels: Any, *, whole_labels: bool = True, mixed: bool = False, planes: bool = False
) -> None:
    """Images ``(N, ...)`` of the model's type, all finite, and one label for each.

    Args:
        model: whose parameters say the type.
        images, labels: as in `cvbook.train.fit`.
        whole_labels: labels are ``(N,)`` int64; else a loss decides what they are.
        mixed: the type is converted later.
        planes: images must be ``(N, C, H, W)``.

    Raises:
        ValueError, TypeError: if something else came.
    """
    if not tensor("images", images).is_floating_point():
        raise TypeError(f"expected floating-point images, got {images.dtype}; use images.float() / 255")
    if images.ndim < 2 or (planes and images.ndim != 4):
        raise ValueError(f"expected images (N, C, H, W), got shape {tuple(images.shape)}; give each image its own axes")
    shape = tuple(tensor("labels", labels).shape)
    if not shape or (whole_labels and len(shape) != 1):
        hint = "argmax(1)" if len(shape) == 2 and shape[1] > 1 else "flatten()"
        raise ValueError(f"expected labels (N,), got shape {shape}; use labels.{hint}")
    if whole_labels and labels.dtype != torch.int64:
        raise TypeError(f"expected labels of type torch.int64, got {labels.dtype}; use labels.long()")
    if len(images) != len(labels):
        raise ValueError(
            f"expected one label for each image, got {len(images)} images and {len(labels)} labels; select both alike"
        )
    if not len(images):
        raise ValueError("expected images, got none; look at how they were selected")
    kind = next((p.dtype for p in model.parameters() if p.is_floating_point()), images.dtype)
    if images.dtype != kind and not (mixed or torch.is_autocast_enabled(images.device.type)):
        raise TypeError(f"expected images of the model's type {kind}, got {images.dtype}; use images.to({kind})")
    if images.numel() and not all(end.isfinite() for end in images.detach().aminmax()):
        raise ValueError("expected finite images, but the images contain NaN or infinite values; look at their source")


def validation(model: nn.Module, value: Any) -> None:
    """A pair of images and labels to evaluate on, or None.

    Raises:
        ValueError, TypeError: as `pairs`, and if it is no pair.
    """
    if value is None:
        return
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise TypeError(f"expected validation as a pair, got {type(value).__name__}; write validation=(images, labels)")
    try:
        pairs(model, *value)
    except (TypeError, ValueError) as error:
        raise type(error)(f"validation: {error}") from None


def positive(name: str, value: object) -> int:
    """A whole number of at least 1.

    Raises:
        TypeError: if it is not whole, or True.
        ValueError: if it is below 1.

    >>> positive("epochs", 3)
    3
    """
    if isinstance(value, bool):
        raise TypeError(f"expected {name} as a whole number, got {value}; use one int")
    if (count := whole(name, value)) < 1:
        raise ValueError(f"expected {name} >= 1, got {count}; use a positive int")
    return count


def settings(
    images: Tensor, world: int, checkpoint: Any, optimizer: Any, functions: dict[str, Any], *, epochs: Any,
    batch_size: Any, seed: Any, lr: Any, ema: Any,
) -> tuple[int, int, int, float, float | None]:  # fmt: skip
    """The arguments of `cvbook.train.fit` besides model and data; ``world`` is the number of processes.

    Returns:
        Epochs, batch size and seed as ints, lr and ema as floats (a checkpoint holds no NumPy numbers).

    Raises:
        ValueError, TypeError: if one is of another kind or out of its range.
    """
    if not -(2**63) <= whole("seed", seed) < 2**64:
        raise ValueError(f"expected a seed of 64 bits, got {seed}; torch's generators take no other")
    if not 0 <= number("lr", lr) < math.inf:
        raise ValueError(f"expected lr >= 0 and finite, got {lr}; 0.003 is a start for AdamW")
    if ema is not None and not 0 < number("ema", ema) < 1:
        raise ValueError(f"expected 0 < ema < 1, got {ema}; ema=None trains without an average")
    if (size := positive("batch_size", batch_size)) > len(images):
        raise ValueError(f"expected at least batch_size={size} images, got {len(images)}; lower batch_size")
    if size % world:
        raise ValueError(f"expected a batch_size that {world} processes can share, got {size}; use a multiple")
    if checkpoint is not None and not isinstance(checkpoint, (str, os.PathLike)):
        raise TypeError(f"expected checkpoint as a path, got {type(checkpoint).__name__}; use a string")
    if optimizer is not None and not callable(optimizer):
        raise TypeError(
            f"expected optimizer as a function that makes one, got {type(optimizer).__name__}; for example "
            "functools.partial(torch.optim.SGD, lr=0.1)"
        )
    for name, function in functions.items():
        if not callable(function) and (function is not None or name != "augment"):
            raise TypeError(f"expected {name} as a function, got {type(function).__name__}; pass it without calling it")
    decay = None if ema is None else number("ema", ema)
    return positive("epochs", epochs), size, whole("seed", seed), number("lr", lr), decay


def is_cross_entropy(loss: Any) -> bool:
    """Whether a loss is torch's cross-entropy, whose labels are ``(N,)`` int64 classes.

    >>> is_cross_entropy(functools.partial(F.cross_entropy, label_smoothing=0.1)), is_cross_entropy(F.mse_loss)
    (True, False)
    """
    while isinstance(loss, functools.partial):
        loss = loss.func
    return loss is F.cross_entropy or isinstance(loss, nn.CrossEntropyLoss)


def augmented(batch: Any, count: int) -> None:
    """What an augmentation returned: as many images as it was given.

    Raises:
        TypeError: if it is no tensor.
        ValueError: if the number of images has changed.
    """
    if not isinstance(batch, Tensor):
        raise TypeError(f"expected augment to return the batch, got {type(batch).__name__}; end it with return batch")
    if not batch.ndim or len(batch) != count:
        raise ValueError(f"expected augment to return {count} images, got shape {tuple(batch.shape)}; keep all of them")


def classes(output: Any, *labels: Tensor) -> None:
    """Logits ``(B, classes)``, and labels in ``0..classes-1``.

    Raises:
        ValueError: if the output has another form, or a label is out of this range.
    """
    for some in labels:
        if not isinstance(output, Tensor) or output.ndim != 2:
            what = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise ValueError(f"expected logits (B, classes) from the model, got {what}; end it with a linear layer")
        low, high, top = int(some.min()), int(some.max()), output.shape[1] - 1
        if low < 0 or high > top:
            raise ValueError(f"expected labels in 0..{top}, got {low} to {high}; correct the labels or num_classes")


def digest(images: Tensor, labels: Tensor) -> str:
    """A short fingerprint of images and labels: shapes, types, and every k-th number of each image.

    k is 1 for up to 64 MB of images; larger sets are sampled, so that it takes well below a second.

    >>> a, b = torch.zeros(2, 1, 3, 3), torch.tensor([0, 1])
    >>> digest(a, b) == digest(a.clone(), b), digest(a, b) == digest(a + 1, b)
    (True, False)
    """
    found = hashlib.sha256()
    for values in (images, labels):
        found.update(f"{tuple(values.shape)} {values.dtype}".encode())
        k = max(1, math.ceil(values.numel() * values.element_size() / SAMPLE))
        for part in values.detach().split(1000):  # never a copy of them all
            rows = part.reshape(len(part), -1)[:, ::k]
            packed = torch.empty(rows.shape, dtype=rows.dtype).copy_(rows)
            found.update(packed.view(torch.uint8).numpy().tobytes())
    return found.hexdigest()[:16]


def finite_losses(losses: Tensor, epoch: int, checkpoint: Any) -> None:
    """The losses of an epoch so far.

    Raises:
        FloatingPointError: if one is NaN or infinite.
    """
    if not losses.isfinite().all():
        step = int((~losses.isfinite()).nonzero()[0])
        what = f"loss, got {losses[step].item()} in epoch {epoch}, step {step}"
        raise FloatingPointError(f"expected a finite {what}; {_advice(epoch, checkpoint)}")


def finite_weights(model: nn.Module, epoch: int, checkpoint: Any) -> None:
    """The trained weights after an epoch: its last loss is still that of the weights before the last step.

    Raises:
        FloatingPointError: if one is NaN or infinite.
    """
    for name, weights in model.named_parameters():
        if weights.requires_grad and not weights.isfinite().all():
            what = f"weights, got NaN or infinite ones in {name} after epoch {epoch}"
            raise FloatingPointError(f"expected finite {what}; {_advice(epoch, checkpoint)}")


def _advice(epoch: int, checkpoint: Any) -> str:
    return f"the last good weights are in {checkpoint}" if checkpoint and epoch else "lower lr and start again"
