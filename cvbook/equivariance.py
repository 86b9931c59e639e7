"""Shifts: what moves with them, what ignores them, and what breaks them; blur pooling as the repair.

Zhang 2019, *Making Convolutional Networks Shift-Invariant Again* (https://arxiv.org/abs/1904.11486).
"""

from __future__ import annotations

from collections.abc import Callable
from math import comb
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvbook._arguments import floating, tensor, whole

__all__ = ["SHRINKS", "ShiftNet", "blur_kernel", "blur_pool", "equivariance_error", "on_canvas", "translate"]

Mode = Literal["circular", "zeros"]
MODES: tuple[Mode, ...] = ("circular", "zeros")
SHRINKS = ("stride", "max", "blur", "maxblur")


def translate(x: Tensor, dy: int, dx: int, *, mode: str = "circular") -> Tensor:
    """Move positions: what was at row ``i``, column ``j`` goes to row ``i + dy``, column ``j + dx``.

    Pixel values are not changed, only where they are.

    Args:
        x: ``(..., H, W)``, any dtype.
        dy: pixels down (negative: up).
        dx: pixels to the right (negative: left).
        mode: ``"circular"``: what leaves on one side enters on the other, as on a torus; ``"zeros"``: it is lost,
            and zeros enter.

    Returns:
        A tensor of the same shape.

    Raises:
        ValueError: if ``x`` has fewer than two axes or the mode is unknown.
        TypeError: if ``x`` is no tensor or a shift is not a whole number.

    >>> translate(torch.tensor([[1, 2, 3]]), 0, 1)
    tensor([[3, 1, 2]])
    >>> translate(torch.tensor([[1, 2, 3]]), 0, 1, mode="zeros")
    tensor([[0, 1, 2]])
    """
    if tensor("x", x).ndim < 2:
        raise ValueError(f"expected an image (..., H, W), got shape {tuple(x.shape)}; add an axis: x[None]")
    if mode not in MODES:
        raise ValueError(f"expected mode 'circular' or 'zeros', got {mode!r}")
    dy, dx = (whole(name, shift, "shift by whole pixels") for name, shift in (("dy", dy), ("dx", dx)))
    moved = x.roll((dy, dx), dims=(-2, -1))
    if mode == "zeros":
        height, width = x.shape[-2:]
        rows, columns = torch.arange(height, device=x.device), torch.arange(width, device=x.device)
        stayed = ((rows >= dy) & (rows < height + dy))[:, None] & ((columns >= dx) & (columns < width + dx))
        moved = torch.where(stayed, moved, torch.zeros_like(moved))
    return moved


def equivariance_error(
    f: Callable[[Tensor], Tensor], x: Tensor, shift: tuple[int, int], *, stride: int = 1, mode: str = "circular"
) -> float:
    """How far ``f`` is from commuting with a shift ``T``: ``|f(Tx) - T'f(x)| / |f(x)|``, in Euclidean norm.

    ``T'`` moves the output by ``shift / stride`` of its own pixels. A fraction of a pixel is a phase in the Fourier
    transform of the map: the only way to move samples between the grid points that loses nothing.

    Args:
        f: maps ``(..., H, W)`` to ``(..., H', W')``.
        x: the image or batch that is shifted.
        shift: ``(dy, dx)`` in pixels of ``x``.
        stride: pixels of ``x`` in one pixel of ``f(x)``.
        mode: how ``T`` treats the border, see `translate`; a fraction of a pixel needs ``"circular"``.

    Returns:
        0.0 if ``f`` is equivariant to this shift; rounding errors stay below 1e-6 in float32, 1e-14 in float64.

    Raises:
        ValueError: if ``stride < 1``, the output is no map, or a fraction of a pixel meets ``mode="zeros"``.

    >>> equivariance_error(torch.relu, torch.randn(1, 1, 8, 8), (1, 2))
    0.0
    """
    if stride < 1:
        raise ValueError(f"expected stride >= 1, got {stride}")
    output, of_shifted = f(x), f(translate(x, *shift, mode=mode))
    if output.ndim < 2:
        raise ValueError(f"expected f to return a map (..., H, W), got shape {tuple(output.shape)}")
    if all(s % stride == 0 for s in shift):
        moved = translate(output, shift[0] // stride, shift[1] // stride, mode=mode)
    elif mode == "zeros":
        raise ValueError(
            f"expected a shift divisible by stride {stride} with mode 'zeros', got {shift}; use 'circular'"
        )
    else:
        moved = _fourier_shift(_fourier_shift(output, shift[0] / stride, -2), shift[1] / stride, -1)
    return ((of_shifted - moved).norm() / output.norm().clamp_min(torch.finfo(output.dtype).tiny)).item()


def _fourier_shift(x: Tensor, shift: float, dim: int) -> Tensor:
    """Move a real map on the torus by a fraction of a pixel along one axis."""
    size = [1] * x.ndim
    size[dim] = -1
    frequency = torch.fft.fftfreq(x.shape[dim], dtype=x.dtype, device=x.device).view(size)
    return torch.fft.ifft(torch.fft.fft(x, dim=dim) * torch.exp(-2j * torch.pi * shift * frequency), dim=dim).real


def blur_kernel(width: int) -> Tensor:
    """The binomial kernel ``(width, width)`` with sum 1: outer product of a row of Pascal's triangle with itself.

    Raises:
        TypeError: if ``width`` is not a whole number.
        ValueError: if ``width < 1``.

    >>> blur_kernel(3) * 16
    tensor([[1., 2., 1.],
            [2., 4., 2.],
            [1., 2., 1.]])
    """
    width = whole("width", width)
    if width < 1:
        raise ValueError(f"expected a blur of width >= 1, got {width}")
    shares = [comb(width - 1, i) / 2 ** (width - 1) for i in range(width)]  # of exact integers, however large
    row = torch.tensor(shares, dtype=torch.float64)
    return torch.outer(row, row).float()


def blur_pool(x: Tensor, *, stride: int = 2, width: int = 3, padding_mode: str = "reflect") -> Tensor:
    """Blur each channel with a binomial kernel, then keep every ``stride``-th pixel (Zhang 2019, section 3.3).

    Args:
        x: ``(B, C, H, W)``.
        stride: of the subsampling.
        width: of the blur; 1 is no blur, hence plain subsampling.
        padding_mode: ``"reflect"``, ``"circular"`` or ``"zeros"``.

    Returns:
        ``(B, C, ceil(H / stride), ceil(W / stride))``.

    Raises:
        TypeError: if ``x`` is no floating-point tensor, or stride or width are not whole numbers.
        ValueError: if ``x`` is no batch of images, the images are too small to be padded for this width, or stride,
            width or mode are out of range.

    >>> blur_pool(torch.ones(1, 3, 8, 8)).shape
    torch.Size([1, 3, 4, 4])
    """
    if floating("x", x).ndim != 4:
        raise ValueError(f"expected images (B, C, H, W), got {tuple(x.shape)}; add axes: x[None]")
    stride, width = whole("stride", stride), whole("width", width)
    if stride < 1:
        raise ValueError(f"expected stride >= 1, got {stride}")
    if padding_mode not in ("reflect", "circular", "zeros"):
        raise ValueError(f"expected padding_mode 'reflect', 'circular' or 'zeros', got {padding_mode!r}")
    channels = x.shape[1]
    kernel = blur_kernel(width).to(x).expand(channels, 1, width, width)
    before, after = (width - 1) // 2, width // 2
    least = max(1, {"reflect": after + 1, "circular": after, "zeros": 1}[padding_mode])
    if min(x.shape[-2:]) < least or channels < 1:
        raise ValueError(
            f"expected a channel or more of at least {least}x{least} pixels for width {width} and padding_mode "
            f"{padding_mode!r}, got {tuple(x.shape)}; blur less or pad with 'zeros'"
        )
    mode = "constant" if padding_mode == "zeros" else padding_mode
    return F.conv2d(F.pad(x, (before, after, before, after), mode=mode), kernel, stride=stride, groups=channels)


class ShiftNet(nn.Module):
    """A small classifier: four convolutions, a global average, one linear layer. It halves its maps twice.

    Its total stride is therefore 4. The four variants have the same parameters and differ in how a map is halved.

    Args:
        shrink: ``"stride"``: the first two convolutions have stride 2; ``"max"``: maximum of 2x2 pixels after them;
            ``"blur"``: `blur_pool` after them; ``"maxblur"``: maximum of 2x2 pixels at every position, then
            `blur_pool`, as Zhang 2019 repairs max-pooling.
        width: channels of the first layer; the others have 2, 4 and 4 times as many.
        padding_mode: of the convolutions, ``"circular"`` or ``"zeros"``; with zeros, the blur reflects.

    Raises:
        ValueError: if ``shrink`` or ``padding_mode`` is unknown.

    >>> ShiftNet("blur")(torch.zeros(2, 1, 40, 40)).shape
    torch.Size([2, 10])
    """

    def __init__(self, shrink: str = "stride", *, width: int = 8, padding_mode: Mode = "circular") -> None:
        super().__init__()
        if shrink not in SHRINKS:
            raise ValueError(f"expected shrink among {', '.join(SHRINKS)}, got {shrink!r}")
        if padding_mode not in MODES:
            raise ValueError(f"expected padding_mode 'circular' or 'zeros', got {padding_mode!r}")
        self.shrink = shrink
        self.padding_mode: Mode = padding_mode
        sizes = [1, width, 2 * width, 4 * width, 4 * width]
        self.convs, self.norms = nn.ModuleList(), nn.ModuleList()
        for i in range(4):
            stride = 2 if shrink == "stride" and i < 2 else 1
            conv = nn.Conv2d(sizes[i], sizes[i + 1], 3, stride, padding=1, padding_mode=padding_mode, bias=False)
            self.convs.append(conv)
            self.norms.append(nn.BatchNorm2d(sizes[i + 1]))
        self.head = nn.Linear(sizes[-1], 10)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(B, 10)`` of images ``(B, 1, H, W)``."""
        return self.head(self.features(x).mean((2, 3)))

    def features(self, x: Tensor) -> Tensor:
        """The last maps ``(B, 4 * width, H / 4, W / 4)``, nowhere negative."""
        border = "circular" if self.padding_mode == "circular" else "reflect"
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            x = F.relu(norm(conv(x)))
            if i < 2 and self.shrink == "max":
                x = F.max_pool2d(x, 2)
            if i < 2 and self.shrink == "maxblur":
                x = F.pad(x, (0, 1, 0, 1), mode=border)
                x = torch.maximum(x[..., :-1, :], x[..., 1:, :])  # F.max_pool2d(x, 2, stride=1), many times faster
                x = torch.maximum(x[..., :-1], x[..., 1:])
            if i < 2 and self.shrink in ("blur", "maxblur"):
                x = blur_pool(x, padding_mode=border)
        return x


def on_canvas(images: Tensor, *, size: int = 40) -> Tensor:
    """Put images in the middle of a larger black canvas, so that a shift moves them without cutting them off.

    Args:
        images: ``(N, 1, H, W)``.
        size: height and width of the canvas.

    Raises:
        ValueError: if the images do not fit.

    >>> on_canvas(torch.ones(5, 1, 28, 28)).shape
    torch.Size([5, 1, 40, 40])
    """
    height, width = images.shape[-2:]
    top, left = (size - height) // 2, (size - width) // 2
    if min(top, left) < 0:
        raise ValueError(f"expected images of at most {size} x {size} pixels, got {height} x {width}; enlarge size")
    return F.pad(images, (left, size - width - left, top, size - height - top))
