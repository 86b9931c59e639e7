"""How much does each pixel count for one output unit?"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from cvbook.convolution.running import evaluating, first_line

__all__ = ["effective_receptive_field"]


def effective_receptive_field(module: nn.Module, images: Tensor | Sequence[int], *, seed: int = 0) -> Tensor:
    """How much each input pixel counts for the central unit of the output map.

    For each image, the gradient of the central unit with respect to the image, with output channels added under random
    signs; its absolute values, added over input channels, are averaged over the images and divided by their sum.

    Args:
        module: maps ``(B, C, H, W)`` to a map ``(B, C', h, w)``; runs in ``eval`` mode, which is restored afterwards.
        images: ``(B, C, H, W)`` float, or a shape ``(C, H, W)`` or ``(B, C, H, W)`` to be filled with normal noise.
        seed: of the signs and the noise.

    Returns:
        ``(H, W)``, non-negative, sum 1.

    Raises:
        TypeError: if ``module`` is no ``nn.Module``, or ``images`` neither a tensor nor a shape.
        ValueError: if the module does not take the images, the output is no map or has no gradient, or the gradient
            vanishes everywhere (a dead unit).

    Source: Luo, Li, Urtasun and Zemel (2016), Understanding the Effective Receptive Field in Deep Convolutional Neural
    Networks, section 3, https://arxiv.org/abs/1701.04128.

    >>> field = effective_receptive_field(nn.Sequential(nn.Conv2d(1, 1, 3), nn.Conv2d(1, 1, 3)), (1, 9, 9))
    >>> field.shape, int((field > 0).sum())
    (torch.Size([9, 9]), 25)
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"expected an nn.Module, got {type(module).__name__}; wrap functions in a module")
    generator = torch.Generator().manual_seed(seed)
    if not isinstance(images, Tensor):
        images = torch.randn(_shape(images), generator=generator)
    if images.ndim != 4 or not images.is_floating_point() or 0 in images.shape:
        raise ValueError(
            f"expected float images (B, C, H, W), got {images.dtype} {tuple(images.shape)}; "
            "use .float(), and images[None] for a single one"
        )
    example = next((p for p in module.parameters() if p.is_floating_point()), images)
    with evaluating(module), torch.inference_mode(False), torch.enable_grad():
        inputs = images.detach().clone().to(example.device, example.dtype).requires_grad_()
        try:
            outputs = module(inputs.clone())  # the first operation may write to its input
        except Exception as error:
            raise ValueError(
                f"expected a module that takes images {tuple(images.shape)}, got {first_line(error)}; "
                "check their channels and size"
            ) from error
        if not isinstance(outputs, Tensor) or outputs.ndim != 4 or 0 in outputs.shape:
            what = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
            raise ValueError(f"expected a map (B, C, h, w) from the module, got {what}; leave out its head")
        if not outputs.requires_grad:
            raise ValueError(
                "expected an output with a gradient to the image, got one without; remove no_grad, detach or rounding "
                "from the forward"
            )
        central = outputs[:, :, outputs.shape[2] // 2, outputs.shape[3] // 2]
        signs = torch.randint(0, 2, central.shape, generator=generator).to(central) * 2 - 1
        (gradient,) = torch.autograd.grad((signs * central).sum(), inputs, allow_unused=True)
    field = inputs.new_zeros(()) if gradient is None else gradient.abs().sum(1).mean(0)
    if not 0 < field.sum() < math.inf:
        got = "zero" if field.sum() == 0 else "nan or inf"
        raise ValueError(f"expected a unit that depends on the image, got a gradient of {got}; use other images")
    return field / field.sum()


def _shape(shape: Sequence[int]) -> tuple[int, ...]:
    wanted = "expected images, or a shape (C, H, W) or (B, C, H, W) of positive integers"
    if isinstance(shape, (str, np.ndarray)) or not isinstance(shape, Sequence):
        raise TypeError(f"{wanted}, got {type(shape).__name__}; use torch.as_tensor for images")
    try:
        sides = tuple(operator.index(n) for n in shape)
    except TypeError:
        sides = ()
    if len(sides) not in (3, 4) or min(sides) < 1:
        raise ValueError(f"{wanted}, got {tuple(shape)}; correct it")
    return sides if len(sides) == 4 else (1, *sides)
