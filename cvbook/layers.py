"""Pooling, normalization and dropout: the layers between convolutions, written out.

Every function takes images ``(B, C, H, W)`` and equals its namesake in ``torch.nn.functional``, gradients included;
`local_response_norm` follows the paper instead, and its docstring says how to convert. Nothing here is faster than
torch: read these, then use torch's.

Normalizations and dropout return the shape they are given. Every function raises TypeError if ``x`` is no
floating-point tensor or a setting is of another kind, and ValueError if its shape or a setting does not fit.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from cvbook._arguments import epsilon, floating, images, number, tensor, whole

__all__ = [
    "adaptive_avg_pool2d", "avg_pool2d", "batch_norm", "dropout", "global_avg_pool", "group_norm", "layer_norm",
    "local_response_norm", "max_pool2d",
]  # fmt: skip


def max_pool2d(x: Tensor, kernel: int, *, stride: int | None = None, padding: int = 0) -> Tensor:
    """The largest value of each window, channel by channel.

    Windows overlap if ``stride < kernel``, as in AlexNet (Krizhevsky et al. 2012, §3.4: kernel 3, stride 2). Of
    several equal values in a window the first one gets the gradient.

    Args:
        x: ``(B, C, H, W)`` images.
        kernel: side of the window in pixels.
        stride: step between windows; the kernel's side if None.
        padding: border of minus infinity added on each side; at most half the kernel.

    Returns:
        ``(B, C, H', W')`` with ``H' = (H + 2 padding - kernel) // stride + 1``.

    >>> max_pool2d(torch.arange(16.0).view(1, 1, 4, 4), 2)
    tensor([[[[ 5.,  7.],
              [13., 15.]]]])
    """
    images(x)
    kernel = whole("kernel", kernel, "windows are square, use one int")
    padding = whole("padding", padding)
    if not 0 <= padding <= max(kernel, 0) // 2:
        raise ValueError(f"expected padding in 0..{kernel // 2} (half the kernel), got {padding}")
    padded = F.pad(x, (padding,) * 4, value=-torch.inf)
    return _windows(padded, kernel, stride).flatten(-2).max(-1).values


def avg_pool2d(x: Tensor, kernel: int, *, stride: int | None = None) -> Tensor:
    """The mean of each window, channel by channel. It is a convolution whose weights all equal ``1 / kernel**2``.

    Args:
        x, kernel, stride: as in `max_pool2d`.

    Returns:
        ``(B, C, H', W')`` with ``H' = (H - kernel) // stride + 1``.

    >>> avg_pool2d(torch.arange(16.0).view(1, 1, 4, 4), 2)
    tensor([[[[ 2.5000,  4.5000],
              [10.5000, 12.5000]]]])
    """
    images(x)
    return _windows(x, kernel, stride).mean((-2, -1))


def adaptive_avg_pool2d(x: Tensor, size: int) -> Tensor:
    """Means over ``size`` x ``size`` windows that cover the image, whatever its size.

    Window ``i`` of ``n`` along a side of ``H`` pixels runs from ``floor(i H / n)`` to ``ceil((i + 1) H / n)``, so
    windows have different sides, and overlap, when ``n`` does not divide ``H``.

    Args:
        x: ``(B, C, H, W)`` images.
        size: side of the result ``(B, C, size, size)``, at least 1.

    >>> adaptive_avg_pool2d(torch.arange(25.0).view(1, 1, 5, 5), 2)
    tensor([[[[ 6.,  8.],
              [16., 18.]]]])
    """
    _pixels(x)
    size = whole("size", size)
    if size < 1:
        raise ValueError(f"expected size >= 1, got {size}")
    tall, wide = ([slice(i * side // size, -(-(i + 1) * side // size)) for i in range(size)] for side in x.shape[-2:])
    rows = [torch.stack([x[..., i, j].mean((-2, -1)) for j in wide], dim=-1) for i in tall]
    return torch.stack(rows, dim=-2)


def global_avg_pool(x: Tensor) -> Tensor:
    """The mean of each channel: ``(B, C, H, W)`` becomes ``(B, C)`` (Lin et al. 2013, arXiv:1312.4400, §3.2).

    >>> global_avg_pool(torch.ones(2, 3, 5, 7)).shape
    torch.Size([2, 3])
    """
    _pixels(x)
    return x.mean((-2, -1))


def batch_norm(
    x: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    training: bool,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Batch normalization (Ioffe & Szegedy 2015, arXiv:1502.03167, Algorithms 1 and 2).

    In training, each channel is normalized by the mean and the *biased* variance of this batch, and the running
    statistics move, in place, by ``momentum`` towards this mean and the *unbiased* variance. Otherwise the running
    statistics normalize, and one image's result no longer depends on the others.

    Args:
        x: ``(B, C, H, W)`` or ``(B, C)``.
        running_mean, running_var: ``(C,)``; changed in place in training, unless an argument is refused.
        weight, bias: ``(C,)``, the learned scale (gamma) and shift (beta).
        training: which of the two.
        momentum: share of the new batch in the running statistics, in [0, 1]. (Elsewhere 1 - momentum.)
        eps: added to the variance under the root.

    >>> x = torch.tensor([[1.0], [3.0]])
    >>> mean, var = torch.zeros(1), torch.ones(1)
    >>> batch_norm(x, mean, var, torch.ones(1), torch.zeros(1), training=True, eps=0).flatten()
    tensor([-1.,  1.])
    >>> mean, var  # 0.9 * 0 + 0.1 * 2, 0.9 * 1 + 0.1 * 2 (the unbiased variance of 1 and 3 is 2)
    (tensor([0.2000]), tensor([1.1000]))
    """
    floating("x", x)
    if x.ndim not in (2, 4):
        raise ValueError(f"expected (B, C, H, W) or (B, C), got {tuple(x.shape)}")
    C = x.shape[1]
    statistics = {"running_mean": running_mean, "running_var": running_var}
    for name, vector in (*statistics.items(), ("weight", weight), ("bias", bias)):
        floating(name, _shaped(name, vector, (C,)))
    epsilon(eps)
    if not 0 <= number("momentum", momentum) <= 1:
        raise ValueError(f"expected momentum in [0, 1], got {momentum}")
    shape = (C, 1, 1) if x.ndim == 4 else (C,)
    mean, var = running_mean, running_var
    if training:
        axes = (0, 2, 3) if x.ndim == 4 else (0,)
        count = x[:, :1].numel()
        if count < 2:
            raise ValueError(f"expected more than one value per channel in training, got {tuple(x.shape)}; use eval")
        mean, var = x.mean(axes), x.var(axes, correction=0)
        with torch.no_grad():
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
            running_var.lerp_((var * count / (count - 1)).to(running_var.dtype), momentum)
    normal = (x - mean.view(shape)) / torch.sqrt(var.view(shape) + eps)
    return _affine(normal, weight, bias, (C,), shape)


def layer_norm(
    x: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    eps: float = 1e-5,
) -> Tensor:
    """Layer normalization over the last axes (Ba et al. 2016, arXiv:1607.06450).

    Args:
        x: any shape that ends in ``normalized_shape``: ``(B, C, H, W)`` with ``(C, H, W)`` normalizes each image,
            ``(B, N, D)`` with ``(D,)`` each token.
        normalized_shape: the last axes, which share one mean and one (biased) variance.
        weight, bias: of shape ``normalized_shape``; 1 and 0 if None.
        eps: added to the variance under the root.

    >>> layer_norm(torch.tensor([[1.0, 3.0], [10.0, 30.0]]), (2,), eps=0)
    tensor([[-1.,  1.],
            [-1.,  1.]])
    """
    floating("x", x)
    if not isinstance(normalized_shape, Sequence) or isinstance(normalized_shape, str):
        raise TypeError(f"expected normalized_shape as a tuple, such as (8,), got {normalized_shape!r}; name the end")
    tail = tuple(normalized_shape)
    if not tail or tuple(x.shape[-len(tail) :]) != tail:
        raise ValueError(f"expected a shape that ends in {tail}, got {tuple(x.shape)}; normalized_shape names the end")
    return _affine(_normal(x, tuple(range(-len(tail), 0)), eps), weight, bias, tail, tail)


def group_norm(
    x: Tensor, groups: int, weight: Tensor | None = None, bias: Tensor | None = None, *, eps: float = 1e-5
) -> Tensor:
    """Group normalization (Wu & He 2018, arXiv:1803.08494): one mean per image and group of neighboring channels.

    With ``groups=1`` all of an image shares one mean; with ``groups=C`` each channel of each image has its own
    (instance normalization).

    Args:
        x: ``(B, C, H, W)``.
        groups: divides C.
        weight, bias: ``(C,)``; 1 and 0 if None.
        eps: added to the variance under the root.

    >>> x = torch.randn(2, 6, 4, 4)
    >>> group_norm(x, 3).view(2, 3, -1).mean(-1).abs().max() < 1e-6
    tensor(True)
    """
    B, C, H, W = images(x)
    groups = whole("groups", groups)
    if groups < 1 or C % groups:
        raise ValueError(f"expected groups that divide the {C} channels, got {groups}")
    y = _normal(x.reshape(B, groups, C // groups, H, W), (2, 3, 4), eps).reshape(B, C, H, W)
    return _affine(y, weight, bias, (C,), (C, 1, 1))


def local_response_norm(x: Tensor, *, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 2.0) -> Tensor:
    """Local response normalization as AlexNet's paper defines it (Krizhevsky et al. 2012, §3.3).

    ``b_i = a_i / (k + alpha * sum of a_j**2 over the size channels around i) ** beta``. torch divides alpha by
    ``size``: this function equals ``F.local_response_norm(x, size, alpha=alpha * size, beta=beta, k=k)``.

    Args:
        x: ``(B, C, H, W)``.
        size: how many channels are summed, odd; fewer at the first and last channels.
        alpha, beta, k: the paper's constants.

    >>> local_response_norm(torch.ones(1, 1, 1, 1), alpha=2.0, beta=1.0)  # 1 / (2 + 2)
    tensor([[[[0.2500]]]])
    """
    images(x)
    size, alpha, beta, k = whole("size", size), number("alpha", alpha), number("beta", beta), number("k", k)
    if size < 1 or size % 2 == 0:
        raise ValueError(f"expected an odd size >= 1 (as many channels before as after), got {size}")
    squares = F.pad(x**2, (0, 0, 0, 0, size // 2, size // 2))
    return x / (k + alpha * squares.unfold(1, size, 1).sum(-1)) ** beta


def dropout(x: Tensor, p: float, *, training: bool, generator: torch.Generator | None = None) -> Tensor:
    """Inverted dropout: in training, drop each number with probability p and divide the kept ones by 1 - p.

    The mean is kept, so nothing is left to do at test time. (Srivastava et al. 2014, §10, mention this variant; their
    p is the probability to *keep*.)

    Args:
        x: any shape.
        p: probability to drop, in [0, 1].
        training: False returns ``x`` itself.
        generator: source of the randomness; torch's global one if None.

    >>> dropout(torch.ones(1000), 0.5, training=True).unique()  # dropped, or doubled
    tensor([0., 2.])
    """
    floating("x", x)
    if not 0 <= number("p", p) <= 1:
        raise ValueError(f"expected a drop probability in [0, 1], got {p}")
    if not training or p == 0:
        return x
    if p == 1:
        return x * 0.0
    keep = torch.empty_like(x).bernoulli_(1 - p, generator=generator)
    return x * keep / (1 - p)


def _normal(x: Tensor, axes: tuple[int, ...], eps: float) -> Tensor:
    epsilon(eps)
    mean, var = x.mean(axes, keepdim=True), x.var(axes, keepdim=True, correction=0)
    return (x - mean) / torch.sqrt(var + eps)


def _windows(x: Tensor, kernel: int, stride: int | None) -> Tensor:
    """All windows, ``(B, C, H', W', kernel, kernel)``: a view, nothing is copied."""
    kernel = whole("kernel", kernel, "windows are square, use one int")
    stride = kernel if stride is None else whole("stride", stride)
    if kernel < 1 or stride < 1:
        raise ValueError(f"expected kernel and stride >= 1, got {kernel} and {stride}")
    if min(x.shape[-2:]) < kernel:
        raise ValueError(f"expected images of at least {kernel}x{kernel}, got {tuple(x.shape)}; use a smaller kernel")
    return x.unfold(2, kernel, stride).unfold(3, kernel, stride)


def _pixels(x: Tensor) -> None:
    if 0 in images(x)[-2:]:
        raise ValueError(f"expected images of at least one pixel, got {tuple(x.shape)}: nothing has no mean")


def _affine(y: Tensor, weight: Tensor | None, bias: Tensor | None, shape: tuple, view: tuple) -> Tensor:
    if weight is not None:
        y = y * _shaped("weight", weight, shape).view(view)
    if bias is not None:
        y = y + _shaped("bias", bias, shape).view(view)
    return y


def _shaped(name: str, vector: Tensor, shape: tuple) -> Tensor:
    if tuple(tensor(name, vector).shape) != shape:
        raise ValueError(f"expected {name} of shape {shape}, got {tuple(vector.shape)}")
    return vector
