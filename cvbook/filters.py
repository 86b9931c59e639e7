"""Classic image filters as kernels, and the two loops that apply them: cross-correlation and convolution.

A kernel is a small float32 tensor ``(k, k)``. All kernels here are meant for `correlate2d`, which is what PyTorch's
``conv2d`` computes: the kernel is laid on the image as it is written, not flipped.
"""

from __future__ import annotations

import math

import torch

from cvbook._arguments import number, whole

__all__ = [
    "box", "classic", "convolve2d", "correlate2d", "edge4", "edge8", "emboss", "gaussian", "identity", "sharpen",
    "shift", "sobel_x", "sobel_y",
]  # fmt: skip


def correlate2d(image: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """Cross-correlation by loops: ``out[i, j] = sum over u, v of image[i + u, j + v] * kernel[u, v]``.

    Written to be read, not to be fast; equals ``torch.nn.functional.conv2d`` and
    ``scipy.signal.correlate2d(..., mode="valid")``.

    Args:
        image: ``(H, W)``, floating point, any range.
        kernel: ``(h, w)``, floating point, not larger than the image.

    Returns:
        ``(H - h + 1, W - w + 1)``: one number for each place where the kernel fits into the image.

    Raises:
        TypeError: if one is no floating-point tensor (bytes would overflow without a sound).
        ValueError: if one is not 2-D or empty, or the kernel does not fit into the image.

    >>> correlate2d(torch.tensor([[1.0, 2.0, 4.0]]), torch.tensor([[-1.0, 1.0]]))
    tensor([[1., 2.]])
    """
    _check(image, kernel)
    H, W = image.shape
    h, w = kernel.shape
    out = torch.empty(H - h + 1, W - w + 1, dtype=torch.result_type(image, kernel))
    for i in range(H - h + 1):
        for j in range(W - w + 1):
            window = image[i : i + h, j : j + w]
            out[i, j] = (window * kernel).sum()
    return out


def convolve2d(image: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """Convolution in the sense of mathematics: cross-correlation with the kernel turned by half a turn.

    Equals ``scipy.signal.convolve2d(..., mode="valid")``.

    Args:
        image: ``(H, W)``, floating point, any range.
        kernel: ``(h, w)``, floating point, not larger than the image.

    Returns:
        ``(H - h + 1, W - w + 1)``.

    Raises:
        TypeError, ValueError: as `correlate2d`.

    >>> convolve2d(torch.tensor([[1.0, 2.0, 4.0]]), torch.tensor([[-1.0, 1.0]]))
    tensor([[-1., -2.]])
    """
    _check(image, kernel)
    return correlate2d(image, kernel.flip(0, 1))


def identity(size: int = 3) -> torch.Tensor:
    """The kernel ``(size, size)`` that changes nothing: 1 in the center.

    Raises:
        ValueError: if the size is not odd and positive.

    >>> identity(3).tolist()
    [[0.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]
    """
    size = _check_size(size)
    kernel = torch.zeros(size, size)
    kernel[size // 2, size // 2] = 1
    return kernel


def shift(down: int, right: int) -> torch.Tensor:
    """The kernel that moves the picture ``down`` and ``right`` by whole pixels (negative: up and left).

    Returns:
        ``(2m + 1, 2m + 1)`` with m the larger distance; one 1, the rest 0. To move the picture right, the 1 sits
        *left* of the center: each output pixel fetches its left neighbor.

    Raises:
        TypeError: if a distance is not an integer.

    >>> shift(0, 1).tolist()
    [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    """
    down, right = (whole(name, value, "use whole pixels") for name, value in (("down", down), ("right", right)))
    m = max(abs(down), abs(right))
    kernel = torch.zeros(2 * m + 1, 2 * m + 1)
    kernel[m - down, m - right] = 1
    return kernel


def box(size: int = 3) -> torch.Tensor:
    """The mean of ``size * size`` pixels; sums to 1.

    Raises:
        ValueError: if the size is not odd and positive.

    >>> box(5).shape, round(box(5).sum().item(), 4)
    (torch.Size([5, 5]), 1.0)
    """
    size = _check_size(size)
    return torch.full((size, size), 1 / size**2)


def gaussian(size: int = 3, sigma: float = 0.85) -> torch.Tensor:
    """A weighted mean: weights ``exp(-r^2 / (2 sigma^2))`` at distance r from the center, divided by their sum.

    Args:
        size: odd; take at least ``6 * sigma`` to cut off less than half a percent.
        sigma: standard deviation in pixels. With 0.85, size 3 is close to the integers 1 2 1 / 2 4 2 / 1 2 1 over 16.

    Returns:
        ``(size, size)``, positive, sums to 1.

    Raises:
        TypeError: if sigma is no number.
        ValueError: if the size is not odd and positive, or sigma is not positive and finite.

    >>> (16 * gaussian(3)).round().int().tolist()
    [[1, 2, 1], [2, 4, 2], [1, 2, 1]]
    """
    size, sigma = _check_size(size), number("sigma", sigma)
    if not (sigma > 0 and math.isfinite(sigma)):
        raise ValueError(f"expected sigma > 0 in pixels, got {sigma}")
    distance = torch.arange(size, dtype=torch.float64) - size // 2
    line = torch.exp(-((distance / sigma) ** 2) / 2)  # sigma**2 itself may leave the range of floats
    line /= line.sum()
    return torch.outer(line, line).float()


def edge4() -> torch.Tensor:
    """Center minus its 4 neighbors, ``(3, 3)``: the negative discrete Laplacian; 0 where the image is flat.

    >>> edge4().sum().item()
    0.0
    """
    return torch.tensor([[0.0, -1.0, 0.0], [-1.0, 4.0, -1.0], [0.0, -1.0, 0.0]])


def edge8() -> torch.Tensor:
    """Center minus its 8 neighbors, ``(3, 3)``: as `edge4`, and answers to diagonal edges more strongly.

    >>> edge8()[1, 1].item()
    8.0
    """
    return torch.tensor([[-1.0, -1.0, -1.0], [-1.0, 8.0, -1.0], [-1.0, -1.0, -1.0]])


def sharpen() -> torch.Tensor:
    """The image plus its `edge4`, ``(3, 3)``: sums to 1, so flat parts stay; its output can leave [0, 1].

    >>> torch.equal(sharpen(), identity() + edge4())
    True
    """
    return identity() + edge4()


def sobel_x() -> torch.Tensor:
    """Sobel's horizontal derivative, ``(3, 3)``: positive where brightness rises to the right.

    The outer product of the smoothing 1 2 1 (down) and the difference -1 0 1 (across). A slope of 1 per pixel gives 8.
    Source: I. Sobel and G. Feldman, talk at the Stanford AI Project, 1968, as told in I. Sobel, *An Isotropic 3x3
    Image Gradient Operator* (2014).

    >>> correlate2d(torch.arange(3.0).repeat(3, 1), sobel_x()).item()
    8.0
    """
    return torch.outer(torch.tensor([1.0, 2.0, 1.0]), torch.tensor([-1.0, 0.0, 1.0]))


def sobel_y() -> torch.Tensor:
    """Sobel's vertical derivative, ``(3, 3)``: positive where brightness rises downwards; transpose of `sobel_x`.

    >>> torch.equal(sobel_y(), sobel_x().T)
    True
    """
    return sobel_x().T.contiguous()


def emboss() -> torch.Tensor:
    """A relief lit from the upper left, ``(3, 3)``: the image plus its derivative down the diagonal; sums to 1.

    >>> emboss().sum().item()
    1.0
    """
    return torch.tensor([[-2.0, -1.0, 0.0], [-1.0, 1.0, 1.0], [0.0, 1.0, 2.0]])


def classic() -> dict[str, torch.Tensor]:
    """The 3x3 kernels of this module by name, each ``(3, 3)``, in the order of the lesson.

    >>> list(classic())[:3]
    ['identity', 'shift left', 'box blur']
    """
    return {
        "identity": identity(),
        "shift left": shift(0, -1),
        "box blur": box(),
        "Gaussian blur": gaussian(),
        "sharpen": sharpen(),
        "edge 4": edge4(),
        "edge 8": edge8(),
        "Sobel x": sobel_x(),
        "Sobel y": sobel_y(),
        "emboss": emboss(),
    }


def _check(image: torch.Tensor, kernel: torch.Tensor) -> None:
    for name, value in (("image", image), ("kernel", kernel)):
        if not isinstance(value, torch.Tensor):
            raise TypeError(f"expected the {name} as a tensor, got {type(value).__name__}; use torch.tensor(...)")
        if not value.is_floating_point():
            raise TypeError(f"expected a floating-point {name}, got {value.dtype}; use {name}.float()")
        if value.ndim != 2 or value.numel() == 0:
            hint = "; take one channel: x[0]" if value.ndim == 3 else ""
            raise ValueError(f"expected the {name} (height, width), not empty, got {tuple(value.shape)}{hint}")
    if kernel.shape[0] > image.shape[0] or kernel.shape[1] > image.shape[1]:
        raise ValueError(
            f"expected a kernel that fits into the image {tuple(image.shape)}, got {tuple(kernel.shape)}; "
            "pad the image or take a smaller kernel"
        )


def _check_size(size: int) -> int:
    try:
        side = whole("size", size)
    except TypeError:
        side = 0
    if side < 1 or side % 2 == 0:
        raise ValueError(f"expected an odd size >= 1, so that the kernel has a center, got {size!r}")
    return side
