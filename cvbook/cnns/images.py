"""The check at the door of every network: are these images that it can take?"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["check_images"]


def check_images(
    x: Tensor, in_channels: int, smallest: int, *, largest: int | None = None, dtype: torch.dtype | None = None
) -> None:
    """Refuse what is no batch of images ``(B, in_channels, H, W)`` and say in one sentence what to do about it.

    Looks only at the shape and the type, so it costs microseconds and also works on the meta device, under autocast
    and in ``torch.compile``.

    Args:
        x: what was given to the network.
        in_channels: how many channels its first layer takes.
        smallest: the smallest H and W in pixels for which every layer still has something to compute.
        largest: the largest H and W in pixels, for a network that flattens a map of fixed size.
        dtype: of the network's parameters; None accepts any floating-point type.

    Raises:
        TypeError: if ``x`` is no tensor, or of another type than the parameters.
        ValueError: if its shape does not fit.

    >>> check_images(torch.zeros(3, 64, 64), 3, 32)
    Traceback (most recent call last):
    ...
    ValueError: expected images (B, 3, H, W), got (3, 64, 64); add the batch axis: x[None]
    """
    if not isinstance(x, Tensor):
        raise TypeError(
            f"expected images (B, {in_channels}, H, W) as a torch tensor, got {type(x).__name__}; "
            "convert with torch.as_tensor"
        )
    if x.ndim != 4 or x.shape[1] != in_channels:
        raise ValueError(f"expected images (B, {in_channels}, H, W), got {tuple(x.shape)}{_advice(x, in_channels)}")
    if x.shape[2] < smallest or x.shape[3] < smallest:
        raise ValueError(
            f"expected images of at least {smallest}x{smallest} pixels, got {x.shape[2]}x{x.shape[3]}; enlarge them "
            "with F.interpolate"
        )
    if largest is not None and (x.shape[2] > largest or x.shape[3] > largest):
        raise ValueError(
            f"expected images of at most {largest}x{largest} pixels, got {x.shape[2]}x{x.shape[3]}; shrink them with "
            "F.interpolate"
        )
    if not x.is_floating_point():
        raise TypeError(f"expected floating-point images, got {x.dtype}; convert with x.float() / 255")
    # Autocast converts by itself; on the meta device nothing is computed.
    if dtype not in (None, x.dtype) and not x.is_meta and not torch.is_autocast_enabled(x.device.type):
        raise TypeError(f"expected images of the parameters' type {dtype}, got {x.dtype}; convert with x.to({dtype})")


def _advice(x: Tensor, in_channels: int) -> str:
    """What to do about a wrong number of axes or channels."""
    if x.ndim == 2:
        return "; add the batch and the channel axis: x[None, None]"
    if x.ndim == 3 and in_channels == 1 and x.shape[0] != 1:
        return "; add the channel axis: x[:, None]"
    if x.ndim == 3:
        return "; add the batch axis: x[None]"
    if x.ndim == 4 and x.shape[3] == in_channels:
        return "; put the channels second: x.permute(0, 3, 1, 2)"
    return f"; or build the network with in_channels={x.shape[1]}" if x.ndim == 4 else ""
