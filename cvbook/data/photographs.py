"""Photographs that scikit-image and scikit-learn ship, as RGB tensors."""

from __future__ import annotations

import numpy as np
import torch

from cvbook._arguments import whole

__all__ = ["PHOTOGRAPHS", "photograph"]

PHOTOGRAPHS = ("astronaut", "cat", "china", "coffee", "flower", "motorcycle", "rocket")


def photograph(name: str, *, size: int | None = None, grey: bool = False) -> torch.Tensor:
    """A photograph.

    Args:
        name: one of `PHOTOGRAPHS`.
        size: if given, the central square is cut out and resized to ``size`` x ``size`` pixels (antialiased).
        grey: True for one channel, ITU-R BT.601 luma 0.299 R + 0.587 G + 0.114 B.

    Returns:
        ``(3, H, W)`` float32 in [0, 1], or ``(1, H, W)`` if ``grey``.

    Raises:
        TypeError: if the size is no whole number.
        ValueError: if the name is unknown or the size is not positive.

    >>> photograph("cat", size=64).shape
    torch.Size([3, 64, 64])
    """
    if name not in PHOTOGRAPHS:
        raise ValueError(f"expected one of {', '.join(PHOTOGRAPHS)}, got {name!r}")
    if size is not None:
        size = whole("size", size, "use one int, the picture is square")
        if size < 1:
            raise ValueError(f"expected size >= 1 or None, got {size}")
    image = torch.from_numpy(_pixels(name)).permute(2, 0, 1).float() / 255
    if size is not None:
        _, height, width = image.shape
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        image = image[:, top : top + side, left : left + side]
        image = torch.nn.functional.interpolate(
            image[None], (size, size), mode="bilinear", antialias=True, align_corners=False
        )[0].clamp(0, 1)
    if grey:
        image = (image * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(0, keepdim=True)
    return image


def _pixels(name: str) -> np.ndarray:
    if name in ("china", "flower"):
        from sklearn.datasets import load_sample_image

        return np.array(load_sample_image(f"{name}.jpg"))
    import skimage.data

    if name == "motorcycle":
        return np.array(skimage.data.stereo_motorcycle()[0])
    return np.array(getattr(skimage.data, name)())[..., :3]
