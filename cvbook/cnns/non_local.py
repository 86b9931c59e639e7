"""Non-local block: every pixel looks at every other (Wang et al. 2018, https://arxiv.org/abs/1711.07971).

Convolutions reach far only by stacking. This block relates any two positions in one step: it is self-attention over
the pixels of a feature map, with one head.
"""

from __future__ import annotations

from torch import Tensor, nn

from cvbook.cnns.images import check_counts, check_images

__all__ = ["NonLocal"]


class NonLocal(nn.Module):
    """The embedded-Gaussian block of §3.2 and §3.3: ``x + norm(out(softmax(theta(x)^T phi(x)) g(x)))``.

    Position i gets a mean of ``g`` over all N = H W positions j, with weights proportional to
    ``exp(theta_i . phi_j)``. Unlike in a transformer, the product is not divided by the root of the width. The
    normalization starts with scale 0 (§4.1), so a new block changes nothing: you can put it into a trained network.

    Cost in multiply-adds: ``N**2 channels`` for the two products, which dominates in large maps, plus
    ``2 N channels**2`` for the four 1x1 convolutions.

    Args:
        channels: of input and output, even; the embeddings have half as many.

    Raises:
        ValueError: if channels is odd or less than 2; when called, if the input is not ``(B, channels, H, W)``.

    >>> import torch
    >>> block, x = NonLocal(8), torch.randn(1, 8, 5, 6)
    >>> torch.equal(block(x), x)
    True
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        check_counts(channels=channels)
        if channels % 2:
            raise ValueError(f"expected an even number of channels, got {channels}; the embeddings have half as many")
        self.channels = channels
        self.theta = nn.Conv2d(channels, channels // 2, 1)
        self.phi = nn.Conv2d(channels, channels // 2, 1)
        self.g = nn.Conv2d(channels, channels // 2, 1)
        self.out = nn.Conv2d(channels // 2, channels, 1)
        self.norm = nn.BatchNorm2d(channels)
        nn.init.zeros_(self.norm.weight)

    def attention(self, x: Tensor) -> Tensor:
        """Who looks at whom: ``(B, N, N)``; each row sums to 1. Position i of N is pixel ``(i // W, i % W)``."""
        theta = self.theta(x).flatten(2).transpose(1, 2)  # (B, N, C / 2)
        phi = self.phi(x).flatten(2)  # (B, C / 2, N)
        return (theta @ phi).softmax(-1)  # (B, N, N)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` to the same shape."""
        check_images(x, self.channels, 1, dtype=self.theta.weight.dtype)
        B, C, H, W = x.shape
        attention = self.attention(x)  # (B, N, N)
        g = self.g(x).flatten(2).transpose(1, 2)  # (B, N, C / 2)
        y = attention @ g  # (B, N, C / 2)
        y = y.transpose(1, 2).reshape(B, C // 2, H, W)
        return x + self.norm(self.out(y))  # (B, C, H, W)
