"""Convolution as its definition reads: slide a window, multiply, sum. For reading, and to test faster ways against.

As everywhere in deep learning, "convolution" means cross-correlation: the kernel is not flipped.
"""

from __future__ import annotations

import operator
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["PADDING_MODES", "Geometry", "check_conv_input", "conv2d", "output_size", "pad"]

PADDING_MODES = ("zeros", "reflect", "replicate", "circular")
Pair = tuple[int, int]


class Geometry(NamedTuple):
    """The numbers that place the windows, each for height and width: what `check_conv_input` returns."""

    stride: Pair
    padding: Pair
    dilation: Pair
    output: Pair


def output_size(size: int, kernel: int, *, stride: int = 1, padding: int = 0, dilation: int = 1) -> int:
    r"""How many windows fit along one axis: :math:`\lfloor (n + 2p - d(k-1) - 1) / s \rfloor + 1`.

    Args:
        size: pixels of the input, n >= 1.
        kernel: taps of the kernel, k >= 1.
        stride: step from one window to the next, s >= 1.
        padding: pixels added at *each* end, p >= 0.
        dilation: distance between neighboring taps, d >= 1.

    Returns:
        The number of output pixels, >= 1.

    Raises:
        ValueError: if a number is out of range, or no window fits.
        TypeError: if one is no integer.

    Source: Dumoulin & Visin, "A guide to convolution arithmetic for deep learning", https://arxiv.org/abs/1603.07285.

    >>> output_size(224, 7, stride=2, padding=3)
    112
    >>> output_size(9, 3, dilation=2)
    5
    """
    n, k = _integer(size, "size", 1), _integer(kernel, "kernel", 1)
    s, p = _integer(stride, "stride", 1), _integer(padding, "padding", 0)
    d = _integer(dilation, "dilation", 1)
    span = d * (k - 1) + 1  # pixels from the first tap to the last, both included
    if span > n + 2 * p:
        raise ValueError(
            f"expected a kernel that fits into the padded input of {n + 2 * p} pixels, got {k} taps with dilation {d}, "
            f"which span {span}; add padding or use a smaller kernel"
        )
    return (n + 2 * p - span) // s + 1


def pad(x: Tensor, padding: int | Pair, mode: str = "zeros") -> Tensor:
    """Add a border of ``padding`` pixels on each side of the last two axes.

    Args:
        x: ``(..., H, W)``.
        padding: pixels at each side, for both axes or as ``(height, width)``.
        mode: what the border holds: ``"zeros"``; ``"reflect"``, the image mirrored at its edge pixel (``c b | a b c``);
            ``"replicate"``, the edge pixel repeated (``a a | a b c``); ``"circular"``, the opposite side
            (``b c | a b c``).

    Returns:
        ``(..., H + 2 padding, W + 2 padding)``.

    Raises:
        ValueError: if the mode is unknown, or the image is too small: reflect needs padding < size, circular <= size.
        TypeError: if x is no tensor, or padding no integer or pair.

    >>> pad(torch.tensor([[1.0, 2.0, 3.0]]), (0, 2), "reflect").tolist()
    [[3.0, 2.0, 1.0, 2.0, 3.0, 2.0, 1.0]]
    """
    amounts = _pair(padding, "padding", 0)
    _check_kind("x", x)
    if x.ndim < 2:
        raise ValueError(f"expected x (..., H, W), got {tuple(x.shape)}; add the missing axes")
    _check_padding(tuple(x.shape[-2:]), amounts, mode)
    if mode == "zeros":
        return torch.nn.functional.pad(x, (amounts[1], amounts[1], amounts[0], amounts[0]))
    for axis, p in zip((-2, -1), amounts, strict=True):
        n = x.shape[axis]
        wanted = torch.arange(-p, n + p, device=x.device)
        if mode == "reflect":
            source = (n - 1) - ((n - 1) - wanted.abs()).abs()  # fold at pixel 0, then at pixel n - 1
        elif mode == "replicate":
            source = wanted.clamp(0, n - 1)
        else:
            source = wanted % n
        x = x.index_select(axis, source)
    return x


def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: int | Pair = 1,
    padding: int | Pair = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
) -> Tensor:
    r"""Two-dimensional convolution of a batch of images, one kernel tap after the other.

    .. math:: y_{b,o,i,j} = \beta_o + \sum_{c,u,v} w_{o,c,u,v} \, \tilde x_{b,c,\; s i + d u,\; s j + d v}

    where :math:`\tilde x` is the padded input and c runs over the input channels of the group of o. Means what
    ``torch.nn.Conv2d`` means; differentiable any number of times.

    Args:
        x: images ``(B, C_in, H, W)``, any floating dtype.
        weight: ``(C_out, C_in // groups, k_H, k_W)``.
        bias: ``(C_out,)`` or None.
        stride: step of the window, as are padding and dilation an int or a pair ``(height, width)``.
        padding: pixels added at each side.
        dilation: distance between neighboring taps.
        groups: the channels are split into this many parts that do not see each other.
        padding_mode: what the border holds, see `pad`.

    Returns:
        ``(B, C_out, H_out, W_out)``, sizes as `output_size` says.

    Raises:
        ValueError, TypeError: see `check_conv_input`.

    >>> conv2d(torch.ones(1, 3, 8, 8), torch.ones(4, 3, 3, 3), stride=2, padding=1).shape
    torch.Size([1, 4, 4, 4])
    """
    geometry = check_conv_input(
        x, weight, bias, stride=stride, padding=padding, dilation=dilation, groups=groups, padding_mode=padding_mode
    )
    (s_h, s_w), (d_h, d_w), (out_h, out_w) = geometry.stride, geometry.dilation, geometry.output
    groups = operator.index(groups)
    B, C_in, _, _ = x.shape
    C_out, _, k_h, k_w = weight.shape
    padded = pad(x, geometry.padding, padding_mode).unflatten(1, (groups, C_in // groups))
    kernels = weight.unflatten(0, (groups, C_out // groups))
    y = x.new_zeros(B, groups, C_out // groups, out_h, out_w)
    for u in range(k_h):
        for v in range(k_w):
            top, left = u * d_h, v * d_w  # what tap (u, v) sees: one pixel of every window
            seen = padded[..., top : top + s_h * (out_h - 1) + 1 : s_h, left : left + s_w * (out_w - 1) + 1 : s_w]
            y = y + torch.einsum("bgcij,goc->bgoij", seen, kernels[..., u, v])
    y = y.flatten(1, 2)
    return y if bias is None else y + bias[:, None, None]


def check_conv_input(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: int | Pair = 1,
    padding: int | Pair = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
) -> Geometry:
    """Say in one sentence what is wrong with the arguments of a convolution, or return its numbers as pairs.

    Returns:
        A `Geometry`: stride, padding, dilation and output size, each ``(height, width)``.

    Raises:
        ValueError: a shape, size or mode that does not fit.
        TypeError: something that is no tensor, no integer, or of another dtype.

    >>> check_conv_input(torch.zeros(1, 1, 9, 7), torch.zeros(1, 1, 3, 3), stride=2).output
    (4, 3)
    """
    _check_tensors(x, weight, bias)
    groups = _integer(groups, "groups", 1)
    C_in, (C_out, C_group) = x.shape[1], weight.shape[:2]
    if C_in % groups or C_out % groups:
        raise ValueError(
            f"expected groups to divide both channel counts, got groups={groups} for {C_in} input and {C_out} output "
            f"channels; choose a common divisor"
        )
    if C_group * groups != C_in:
        raise ValueError(
            f"expected weight (C_out, {C_in // groups}, k, k) for {C_in} input channels in {groups} "
            f"group{'s' if groups > 1 else ''}, got {tuple(weight.shape)}; make weight.shape[1] equal {C_in // groups}"
        )
    if bias is not None and bias.shape != (C_out,):
        raise ValueError(
            f"expected bias ({C_out},), one number for each output channel, got {tuple(bias.shape)}; reshape it"
        )
    s, p, d = _pair(stride, "stride", 1), _pair(padding, "padding", 0), _pair(dilation, "dilation", 1)
    _check_padding((x.shape[2], x.shape[3]), p, padding_mode)
    sizes = [
        output_size(x.shape[axis + 2], weight.shape[axis + 2], stride=s[axis], padding=p[axis], dilation=d[axis])
        for axis in (0, 1)
    ]
    return Geometry(s, p, d, (sizes[0], sizes[1]))


def _check_kind(name: str, value: object) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(f"expected {name} to be a tensor, got {type(value).__name__}; use torch.as_tensor({name})")


def _check_tensors(x: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    for name, value in (("x", x), ("weight", weight), *([] if bias is None else [("bias", bias)])):
        _check_kind(name, value)
        if not value.is_floating_point():
            raise TypeError(f"expected {name} of a floating dtype, got {value.dtype}; use {name}.float()")
        if value.dtype != x.dtype or value.device != x.device:
            raise TypeError(
                f"expected {name} to have the dtype and device of x, {x.dtype} on {x.device}, got {value.dtype} on "
                f"{value.device}; use {name}.to(x)"
            )
    if x.ndim != 4:
        cure = {2: "add a batch and a channel axis: x[None, None]", 3: "add a batch axis: x[None]"}
        raise ValueError(
            f"expected images (B, C, H, W), got {tuple(x.shape)}; {cure.get(x.ndim, 'bring it to four axes')}"
        )
    if weight.ndim != 4:
        cure = {2: ": weight[None, None]", 3: ": weight[:, None] or weight[None]"}
        raise ValueError(
            f"expected weight (C_out, C_in, k, k), got {tuple(weight.shape)}; bring it to four axes"
            f"{cure.get(weight.ndim, '')}"
        )
    for name, value in (("x", x), ("weight", weight)):
        if 0 in value.shape[(name == "x") :]:  # an empty batch is fine
            raise ValueError(
                f"expected {name} without an axis of length 0, got {tuple(value.shape)}; check how it was cut"
            )


def _check_padding(size: tuple[int, ...], padding: Pair, mode: str) -> None:
    if mode not in PADDING_MODES:
        raise ValueError(f"expected padding_mode to be one of {', '.join(PADDING_MODES)}, got {mode!r}; correct it")
    for n, p in zip(size, padding, strict=True):
        if n < 1 and p and mode != "zeros":
            raise ValueError(f"expected a pixel to fill the border from, got {size}; use padding_mode='zeros'")
        if (mode == "reflect" and p >= n) or (mode == "circular" and p > n):
            least = "<" if mode == "reflect" else "<="
            raise ValueError(
                f"expected padding {least} size for padding_mode={mode!r}, got padding {p} for {n} pixels; "
                f"pad less or use padding_mode='replicate'"
            )


def _integer(value: int, name: str, least: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"expected {name} to be an integer, got {value!r}; give a whole number") from None
    if number < least:
        raise ValueError(f"expected {name} >= {least}, got {number}; give a larger number")
    return number


def _pair(value: int | Pair, name: str, least: int) -> Pair:
    if isinstance(value, str):
        raise TypeError(f"expected {name} to be an integer or a pair, got {value!r}; compute the number of pixels")
    if isinstance(value, (tuple, list)):
        if len(value) != 2:
            raise ValueError(f"expected {name} to be an integer or a pair (height, width), got {value!r}; give two")
        return _integer(value[0], name, least), _integer(value[1], name, least)
    return (_integer(value, name, least),) * 2
