"""Faster ways to the same convolution: one matrix product, fewer multiplications, or the Fourier transform.

Each function takes what `cvbook.convolution.conv2d` takes and returns the same numbers up to rounding; autograd works
through all of them. They show how the libraries do it, and are far from the libraries' speed.
"""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor

from cvbook.convolution.direct import _check_kind, _integer, _pair, check_conv_input, conv2d, output_size, pad

__all__ = ["col2im", "conv2d_fft", "conv2d_im2col", "conv2d_winograd", "fast_length", "im2col"]

Pair = int | tuple[int, int]
Index = tuple[slice, slice, slice, slice]


def im2col(x: Tensor, kernel_size: Pair, *, stride: Pair = 1, padding: Pair = 0, dilation: Pair = 1) -> Tensor:
    """Write every patch that a kernel visits as one column. Equals ``torch.nn.functional.unfold``.

    Args:
        x: ``(B, C, H, W)``.
        kernel_size, stride, dilation: a number, or one for rows and one for columns.
        padding: zeros on each side.

    Returns:
        ``(B, C k_h k_w, P)``: P output positions row by row; in a column all of channel 0's patch, then channel 1's.

    Raises:
        ValueError: if x is not 4-D, or the kernel does not fit into the padded image.
        TypeError: if x is no tensor, or a size no integer or pair.

    >>> im2col(torch.arange(9.0).view(1, 1, 3, 3), 2)[0, :, 0]  # the patch at the top left
    tensor([0., 1., 3., 4.])
    """
    _check_kind("x", x)
    if x.dim() != 4:
        raise ValueError(f"expected x (B, C, H, W), got {tuple(x.shape)}; add the missing axes")
    taps = _taps((x.shape[2], x.shape[3]), kernel_size, stride, padding, dilation)
    x = pad(x, padding)
    columns = torch.stack([x[tap] for tap in taps], dim=2)  # (B, C, k_h k_w, H_out, W_out)
    return columns.flatten(1, 2).flatten(2)


def col2im(
    columns: Tensor, size: Pair, kernel_size: Pair, *, stride: Pair = 1, padding: Pair = 0, dilation: Pair = 1
) -> Tensor:
    """Add every column back to the patch it came from: the adjoint of `im2col`. Equals ``torch.nn.functional.fold``.

    It is not the inverse: a pixel that lies in n patches receives the sum of n values.

    Args:
        columns: ``(B, C k_h k_w, P)``, in the order of `im2col`.
        size: ``(H, W)`` of the image.
        kernel_size, stride, padding, dilation: as given to `im2col`.

    Returns:
        ``(B, C, H, W)``.

    Raises:
        ValueError: if the columns cannot come from such an image.
        TypeError: if columns is no tensor, or a size no integer or pair.

    >>> col2im(torch.ones(1, 4, 4), (3, 3), 2)[0, 0]  # in how many 2x2 patches does each pixel lie?
    tensor([[1., 2., 1.],
            [2., 4., 2.],
            [1., 2., 1.]])
    """
    _check_kind("columns", columns)
    taps = _taps(size, kernel_size, stride, padding, dilation)
    (height, width), (pad_h, pad_w) = _pair(size, "size", 1), _pair(padding, "padding", 0)
    canvas = columns.new_zeros(1, 1, height + 2 * pad_h, width + 2 * pad_w)
    positions = canvas[taps[0]].shape[2:]
    if columns.dim() != 3 or columns.shape[1] % len(taps) or columns.shape[2] != positions.numel():
        raise ValueError(
            f"expected columns (B, C*{len(taps)}, {positions.numel()}) for an image of {height}x{width}, "
            f"got {tuple(columns.shape)}; pass the settings that im2col was called with"
        )
    patches = columns.unflatten(2, positions).unflatten(1, (-1, len(taps)))  # (B, C, k_h k_w, H_out, W_out)
    canvas = canvas.repeat(patches.shape[0], patches.shape[1], 1, 1)
    for number, tap in enumerate(taps):
        canvas[tap] += patches[:, :, number]
    return canvas[:, :, pad_h : pad_h + height, pad_w : pad_w + width]


def conv2d_im2col(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
) -> Tensor:
    """Convolution as one matrix product: kernels as rows times patches as columns (Chellapilla et al. 2006).

    Args and errors are those of `cvbook.convolution.conv2d`.

    Returns:
        ``(B, C_out, H_out, W_out)``.

    >>> conv2d_im2col(torch.ones(1, 2, 5, 5), torch.ones(3, 2, 3, 3), stride=2).shape
    torch.Size([1, 3, 2, 2])
    """
    geometry = check_conv_input(
        x, weight, bias, stride=stride, padding=padding, dilation=dilation, groups=groups, padding_mode=padding_mode
    )
    groups = _integer(groups, "groups", 1)
    k_h, k_w = weight.shape[2:]
    columns = im2col(pad(x, padding, padding_mode), (k_h, k_w), stride=stride, dilation=dilation)
    columns = columns.unflatten(1, (groups, -1))  # (B, G, C_in/G k_h k_w, P)
    rows = weight.flatten(1).unflatten(0, (groups, -1))  # (G, C_out/G, C_in/G k_h k_w)
    y = (rows @ columns).flatten(1, 2).unflatten(2, geometry.output)
    return y if bias is None else y + bias[:, None, None]


# F(2, 3): two neighboring outputs of a 3-tap filter from four multiplications instead of six.
INPUT = ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1))  # B^T
KERNEL = ((1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1))  # G
OUTPUT = ((1, 1, 1, 0), (0, 1, -1, -1))  # A^T


def conv2d_winograd(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    padding: Pair = 0,
    groups: int = 1,
    padding_mode: str = "zeros",
) -> Tensor:
    """Winograd's F(2x2, 3x3): each 2x2 block of outputs takes 16 multiplications per channel pair instead of 36.

    Lavin & Gray 2016, https://arxiv.org/abs/1509.09308, section 4.1. Only for 3x3 kernels at stride and dilation 1.

    Args:
        x, bias, padding, groups, padding_mode: as in `cvbook.convolution.conv2d`.
        weight: ``(C_out, C_in / groups, 3, 3)``.

    Returns:
        ``(B, C_out, H_out, W_out)``.

    Raises:
        ValueError: if the kernel is not 3x3; otherwise as in `cvbook.convolution.conv2d`.

    >>> conv2d_winograd(torch.ones(1, 2, 5, 5), torch.ones(3, 2, 3, 3), padding=1).shape
    torch.Size([1, 3, 5, 5])
    """
    geometry = check_conv_input(x, weight, bias, padding=padding, groups=groups, padding_mode=padding_mode)
    groups = _integer(groups, "groups", 1)
    if weight.shape[2:] != (3, 3):
        k_h, k_w = weight.shape[2:]
        raise ValueError(f"expected a 3x3 kernel for F(2x2, 3x3), got {k_h}x{k_w}; use conv2d_im2col")
    height, width = geometry.output
    x = pad(x, padding, padding_mode)
    x = F.pad(x, (0, width % 2, 0, height % 2))  # a tile makes two outputs a side; an odd last one is cut off below
    b, g, a = (weight.new_tensor(matrix) for matrix in (INPUT, KERNEL, OUTPUT))
    tiles = x.unfold(2, 4, 2).unfold(3, 4, 2)  # (B, C_in, T_h, T_w, 4, 4): 4x4 tiles, two pixels apart
    tiles = (b @ tiles @ b.T).unflatten(1, (groups, -1))
    kernels = (g @ weight @ g.T).unflatten(0, (groups, -1))  # (G, C_out/G, C_in/G, 4, 4)
    products = torch.einsum("bgcyxij,gocij->bgoyxij", tiles, kernels)  # the 16 multiplications
    y = (a @ products @ a.T).flatten(1, 2)  # (B, C_out, T_h, T_w, 2, 2)
    y = y.permute(0, 1, 2, 4, 3, 5).flatten(4, 5).flatten(2, 3)
    y = y[:, :, :height, :width]
    return y if bias is None else y + bias[:, None, None]


def conv2d_fft(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
) -> Tensor:
    """Convolution as a product of spectra; the cost hardly depends on the kernel's size (Mathieu et al. 2014).

    The discrete transform convolves in a circle. The outputs that are kept never reach around it, because the
    transform is as long as the padded image. A stride computes every output and keeps some.

    Args and errors are those of `cvbook.convolution.conv2d`; https://arxiv.org/abs/1312.5851.

    Returns:
        ``(B, C_out, H_out, W_out)``.

    >>> conv2d_fft(torch.ones(1, 2, 9, 9), torch.ones(3, 2, 7, 7), padding=3).shape
    torch.Size([1, 3, 9, 9])
    """
    geometry = check_conv_input(
        x, weight, bias, stride=stride, padding=padding, dilation=dilation, groups=groups, padding_mode=padding_mode
    )
    groups = _integer(groups, "groups", 1)
    if len(x) == 0:  # MKL transforms no empty tensor
        return conv2d(
            x, weight, bias, stride=stride, padding=padding, dilation=dilation, groups=groups, padding_mode=padding_mode
        )
    dtype = torch.promote_types(x.dtype, torch.float32)  # there is no transform in half precision on a CPU
    (step_h, step_w), (k_h, k_w) = geometry.dilation, weight.shape[2:]
    kernel = weight.new_zeros(*weight.shape[:2], (k_h - 1) * step_h + 1, (k_w - 1) * step_w + 1, dtype=dtype)
    kernel[:, :, ::step_h, ::step_w] = weight
    padded = pad(x.to(dtype), padding, padding_mode)
    length = (fast_length(padded.shape[2]), fast_length(padded.shape[3]))
    spectra = torch.fft.rfft2(padded, length).unflatten(1, (groups, -1))  # (B, G, C_in/G, N_h, N_w/2 + 1)
    kernels = torch.fft.rfft2(kernel, length).unflatten(0, (groups, -1))  # (G, C_out/G, C_in/G, …)
    # The conjugate makes it a cross-correlation; without it the kernel would be flipped.
    products = torch.einsum("bgcuv,gocuv->bgouv", spectra, kernels.conj()).flatten(1, 2)
    y = torch.fft.irfft2(products, length)
    y = y[_reach((0, 0), geometry.output, geometry.stride)].to(x.dtype)
    return y if bias is None else y + bias[:, None, None]


def fast_length(length: int) -> int:
    """The next length with no prime factor above 5: transforms of such lengths are fast.

    Raises:
        ValueError: if length < 1.
        TypeError: if it is no integer.

    >>> fast_length(74)  # 74 = 2 * 37
    75
    """
    length = _integer(length, "length", 1)
    while True:
        rest = length
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return length
        length += 1


def _taps(size: Pair, kernel_size: Pair, stride: Pair, padding: Pair, dilation: Pair) -> list[Index]:
    """For each weight of a kernel, row by row: the index of all padded pixels that it multiplies."""
    rows, columns = _pair(kernel_size, "kernel_size", 1)
    step, border, spread = _pair(stride, "stride", 1), _pair(padding, "padding", 0), _pair(dilation, "dilation", 1)
    h, w = (
        output_size(n, k, stride=s, padding=p, dilation=d)
        for n, k, s, p, d in zip(_pair(size, "size", 1), (rows, columns), step, border, spread, strict=True)
    )
    starts = itertools.product(range(rows), range(columns))
    return [_reach((row * spread[0], column * spread[1]), (h, w), step) for row, column in starts]


def _reach(start: tuple[int, int], count: tuple[int, int], step: tuple[int, int]) -> Index:
    """The index of ``count`` pixels of each channel, ``step`` apart, from ``start`` on."""
    rows, columns = (slice(a, a + (n - 1) * s + 1, s) for a, n, s in zip(start, count, step, strict=True))
    return slice(None), slice(None), rows, columns
