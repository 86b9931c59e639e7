"""The checks at the door of every network: can it be built like this, and are these images that it can take?"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cvbook._arguments import whole

__all__ = ["check_counts", "check_images", "check_stages"]


def check_counts(**counts: int) -> None:
    """Refuse numbers of classes, channels or layers that are no whole number from 1 on.

    Raises:
        TypeError: if one is no whole number; True is none either.
        ValueError: if one is less than 1.

    >>> check_counts(num_classes=10, in_channels=0)
    Traceback (most recent call last):
    ...
    ValueError: expected in_channels >= 1, got 0; pass a positive whole number
    """
    for name, count in counts.items():
        if isinstance(count, bool):
            raise TypeError(f"expected {name} as a whole number, got {count}; use one int")
        if whole(name, count) < 1:
            raise ValueError(f"expected {name} >= 1, got {count}; pass a positive whole number")


def check_stages(depths: Sequence[int], widths: Sequence[int]) -> None:
    """Refuse stages that do not match: each needs its number of layers or blocks, and its number of channels.

    Raises:
        TypeError, ValueError: as `check_counts`, and ValueError if there are not as many depths as widths.

    >>> check_stages((2, 2), (64, 128, 256))
    Traceback (most recent call last):
    ...
    ValueError: expected a width for each depth, got depths (2, 2) and widths (64, 128, 256); give one of both per stage
    """
    if not depths or len(depths) != len(widths):
        raise ValueError(
            f"expected a width for each depth, got depths {tuple(depths)} and widths {tuple(widths)}; give one of both "
            "per stage"
        )
    for depth, width in zip(depths, widths, strict=True):
        check_counts(depth=depth, width=width)


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
        ValueError: if its shape does not fit, or there is no image in it.

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
        raise ValueError(f"expected images (B, {in_channels}, H, W), got {tuple(x.shape)}; {_advice(x, in_channels)}")
    if x.shape[0] == 0:
        raise ValueError(f"expected at least one image, got an empty batch {tuple(x.shape)}; leave such batches out")
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
    shape = tuple(x.shape)
    if len(shape) == 2 and in_channels == 1:
        return "add the batch and the channel axis: x[None, None]"
    if len(shape) == 2:
        return f"repeat the grey image for each channel: x.expand(1, {in_channels}, -1, -1)"
    if len(shape) == 3 and shape[0] == in_channels:
        return "add the batch axis: x[None]"
    if len(shape) == 3 and shape[2] == in_channels:
        return "put the channels first and add the batch axis: x.permute(2, 0, 1)[None]"
    if len(shape) == 3 and in_channels == 1:
        return "add the channel axis: x[:, None]"
    if len(shape) == 4 and shape[3] == in_channels:
        return "put the channels second: x.permute(0, 3, 1, 2)"
    if len(shape) == 4 and shape[1] > 0:
        return f"or build the network with in_channels={shape[1]}"
    return "bring them into four axes: images, channels, rows, columns"
