"""Augmentation: random changes of training images that should not change their label.

Each function maps a batch ``(B, C, H, W)`` and a `torch.Generator` to a batch, the form that `cvbook.train.fit` takes
as ``augment``. Each image draws for itself; the same generator state gives the same result.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cvbook._arguments import whole

__all__ = ["half_turn", "horizontal_flip", "invert", "quarter_turns", "shift", "vertical_flip"]

TOLERANCE = 1e-3  # what interpolation may leave [0, 1] by


def horizontal_flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror each image left to right with probability one half.

    Args:
        images: ``(B, C, H, W)``.
        generator: source of the randomness.

    Returns:
        as ``images``.

    Raises:
        TypeError: if an argument is of another kind.
        ValueError: if the images are not 4-D.

    >>> images = torch.tensor([1.0, 2.0]).expand(100, 1, 1, 2)
    >>> horizontal_flip(images, torch.Generator()).unique(dim=0)
    tensor([[[[1., 2.]]],
    <BLANKLINE>
    <BLANKLINE>
            [[[2., 1.]]]])
    """
    _check(images, generator)
    return _half_of_them(images, images.flip(-1), generator)


def vertical_flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror each image top to bottom with probability one half. Arguments and errors as `horizontal_flip`.

    >>> vertical_flip(torch.zeros(2, 3, 8, 6), torch.Generator()).shape
    torch.Size([2, 3, 8, 6])
    """
    _check(images, generator)
    return _half_of_them(images, images.flip(-2), generator)


def half_turn(images: Tensor, generator: torch.Generator) -> Tensor:
    """Turn each image upside down, by 180 degrees, with probability one half. Otherwise as `horizontal_flip`.

    >>> half_turn(torch.zeros(2, 3, 8, 6), torch.Generator()).shape
    torch.Size([2, 3, 8, 6])
    """
    _check(images, generator)
    return _half_of_them(images, images.flip(-2, -1), generator)


def quarter_turns(images: Tensor, generator: torch.Generator) -> Tensor:
    """Turn each image by 0, 90, 180 or 270 degrees, each equally likely. Otherwise as `horizontal_flip`.

    Raises:
        ValueError: also if the images are not square.

    >>> quarter_turns(torch.zeros(2, 3, 8, 8), torch.Generator()).shape
    torch.Size([2, 3, 8, 8])
    """
    _check(images, generator)
    if images.shape[-1] != images.shape[-2]:
        raise ValueError(f"expected square images, got {tuple(images.shape)}; a quarter turn changes their shape")
    turns = _draw(torch.randint(4, (len(images),), generator=generator, device=generator.device), images)
    turned = torch.stack([images.rot90(n, (-2, -1)) for n in range(4)])
    return turned[turns, torch.arange(len(images), device=images.device)]


def shift(images: Tensor, generator: torch.Generator, *, pixels: int = 2) -> Tensor:
    """Move each image by up to ``pixels`` in each direction; zeros enter, what leaves the frame is lost.

    Args:
        images: ``(B, C, H, W)``.
        generator: source of the randomness.
        pixels: the largest shift; every whole shift from ``-pixels`` to ``pixels`` is equally likely on both axes.

    Returns:
        as ``images``.

    Raises:
        TypeError: if an argument is of another kind.
        ValueError: if the images are not 4-D or ``pixels`` is negative.

    >>> shift(torch.tensor([[[[1.0, 2.0]]]]).expand(100, 1, 1, 2), torch.Generator(), pixels=1)[:, 0, 0].unique(dim=0)
    tensor([[0., 0.],
            [0., 1.],
            [1., 2.],
            [2., 0.]])
    """
    _check(images, generator)
    pixels = whole("pixels", pixels)
    if pixels < 0:
        raise ValueError(f"expected pixels >= 0, got {pixels}")
    B, _, H, W = images.shape
    padded = torch.nn.functional.pad(images, (pixels,) * 4)
    start = _draw(torch.randint(2 * pixels + 1, (2, B, 1), generator=generator, device=generator.device), images)
    rows = start[0] + torch.arange(H, device=images.device)  # (B, H)
    columns = start[1] + torch.arange(W, device=images.device)  # (B, W)
    batch = torch.arange(B, device=images.device)[:, None, None]
    return padded[batch, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def invert(images: Tensor, generator: torch.Generator) -> Tensor:
    """Replace x by 1 - x, black by white, with probability one half. Otherwise as `horizontal_flip`.

    Raises:
        TypeError: also if the images are not floating point.
        ValueError: also if a value lies outside [0, 1], where 1 - x is not the negative.

    >>> invert(torch.zeros(100, 1, 1, 1), torch.Generator()).unique()
    tensor([0., 1.])
    """
    _check(images, generator)
    if not images.is_floating_point():
        raise TypeError(f"expected floating-point images in [0, 1], got {images.dtype}; use images.float() / 255")
    low, high = (images.min().item(), images.max().item()) if images.numel() else (0.0, 1.0)
    if low < -TOLERANCE or high > 1 + TOLERANCE:
        raise ValueError(
            f"expected images in [0, 1], got {low:g} to {high:g}; scale them before: bytes by images / 255"
        )
    return _half_of_them(images, 1 - images, generator)


def _half_of_them(images: Tensor, changed: Tensor, generator: torch.Generator) -> Tensor:
    coin = _draw(torch.rand(len(images), generator=generator, device=generator.device) < 0.5, images)
    return torch.where(coin[:, None, None, None], changed, images)


def _draw(values: Tensor, images: Tensor) -> Tensor:
    """Random numbers are drawn where the generator lives, then moved to the images."""
    return values.to(images.device)


def _check(images: Tensor, generator: torch.Generator) -> None:
    if not isinstance(images, Tensor):
        raise TypeError(f"expected a tensor of images, got {type(images).__name__}; convert with torch.as_tensor")
    if not isinstance(generator, torch.Generator):
        raise TypeError(f"expected a torch.Generator, got {type(generator).__name__}; make one: torch.Generator()")
    if images.ndim != 4:
        raise ValueError(f"expected a batch (B, C, H, W), got {tuple(images.shape)}; for one image use image[None]")
