"""Squeeze-and-excitation: weigh channels by what the whole image holds (Hu et al. 2018, https://arxiv.org/abs/1709.01507).

A convolution sees a small window. This block lets all of the image decide which channels count, for next to nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cvbook.cnns.images import check_counts, check_images

__all__ = ["SqueezeExcitation"]


class SqueezeExcitation(nn.Module):
    """Multiply each channel by a number in (0, 1) that is computed from the means of all channels (§3).

    The two linear layers are 1x1 convolutions, which is the same on one pixel. Cost: about ``2 channels squeeze``
    weights, and as many multiply-adds whatever the size of the image; besides one pass to average and one to scale.

    Args:
        channels: of input and output.
        squeeze: width between the two linear layers. The paper takes ``channels // 16``.
        activation: class of the nonlinearity between them.

    Raises:
        ValueError: when called, if the input is not ``(B, channels, H, W)``.

    >>> SqueezeExcitation(32, 2)(torch.zeros(1, 32, 8, 8)).shape
    torch.Size([1, 32, 8, 8])
    """

    def __init__(self, channels: int, squeeze: int, *, activation: type[nn.Module] = nn.ReLU) -> None:
        super().__init__()
        check_counts(channels=channels, squeeze=squeeze)
        self.channels = channels
        self.fc1 = nn.Conv2d(channels, squeeze, 1)
        self.fc2 = nn.Conv2d(squeeze, channels, 1)
        self.activation = activation(inplace=True)

    def gates(self, x: Tensor) -> Tensor:
        """The weights of the channels, ``(B, C, 1, 1)`` in (0, 1)."""
        s = x.mean((2, 3), keepdim=True)  # squeeze: (B, C, 1, 1)
        s = self.activation(self.fc1(s))  # (B, squeeze, 1, 1)
        return torch.sigmoid(self.fc2(s))  # excite: (B, C, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` to the same shape."""
        check_images(x, self.channels, 1, dtype=self.fc1.weight.dtype)
        return x * self.gates(x)
