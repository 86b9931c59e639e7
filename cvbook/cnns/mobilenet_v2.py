"""MobileNetV2: inverted residuals and linear bottlenecks (Sandler et al. 2018, https://arxiv.org/abs/1801.04381).

A ResNet bottleneck is narrow inside and wide where the skip connection runs. Here it is the other way round: the skip
connection runs between narrow layers, and the cheap depthwise convolution works in a space 6 times as wide.
"""

from __future__ import annotations

from torch import Tensor, nn

from cvbook.cnns.images import check_counts, check_images
from cvbook.cnns.mobilenet_v1 import ConvNorm, init_convolutions, scaled

__all__ = ["InvertedResidual", "MobileNetV2", "mobilenet_v2"]

# Expansion, output channels, number of blocks, stride of the first block (Table 2).
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


class InvertedResidual(nn.Module):
    """Expand with 1x1, filter with a depthwise 3x3, project with 1x1 (§3.3), plus the input where shapes allow.

    No activation follows the projection: in few channels a ReLU would destroy information (§3.2).

    Multiply-adds, at stride 1 and with ``t = expand``: ``H W c_in t (c_in + 9 + c_out)``.

    Args:
        c_in, c_out: channels of the narrow ends.
        expand: the middle is this many times as wide as the input.
        stride: of the depthwise convolution.

    >>> import torch
    >>> InvertedResidual(8, 16, expand=6, stride=2)(torch.zeros(1, 8, 32, 32)).shape
    torch.Size([1, 16, 16, 16])
    """

    def __init__(self, c_in: int, c_out: int, *, expand: int, stride: int) -> None:
        super().__init__()
        wide = c_in * expand
        self.skip = stride == 1 and c_in == c_out
        self.expand = nn.Identity() if expand == 1 else ConvNorm(c_in, wide, 1, activation=nn.ReLU6)
        self.depthwise = ConvNorm(wide, wide, 3, stride=stride, groups=wide, activation=nn.ReLU6)
        self.project = ConvNorm(wide, c_out, 1, activation=None)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, c_in, H, W)`` becomes ``(B, c_out, H / stride, W / stride)``, rounded up."""
        y = self.expand(x)  # (B, wide, H, W)
        y = self.depthwise(y)  # (B, wide, H / stride, W / stride)
        y = self.project(y)  # (B, c_out, H / stride, W / stride)
        return x + y if self.skip else y


class MobileNetV2(nn.Module):
    """A stem, 17 inverted residuals, a 1x1 convolution, the mean over space, one linear layer. See `mobilenet_v2`."""

    def __init__(self, *, width: float, num_classes: int, in_channels: int) -> None:
        super().__init__()
        check_counts(num_classes=num_classes, in_channels=in_channels)
        self.in_channels = in_channels
        channels, last = scaled(32, width), scaled(1280, max(1.0, width))  # thin networks keep the last layer (§4)
        layers: list[nn.Module] = [ConvNorm(in_channels, channels, 3, stride=2, activation=nn.ReLU6)]
        for expand, c_out, blocks, stride in STAGES:
            c_out = scaled(c_out, width)
            for i in range(blocks):
                layers.append(InvertedResidual(channels, c_out, expand=expand, stride=stride if i == 0 else 1))
                channels = c_out
        self.features = nn.Sequential(*layers, ConvNorm(channels, last, 1, activation=nn.ReLU6))
        linear = nn.Linear(last, num_classes)
        self.classifier = nn.Sequential(nn.Dropout(0.2), linear)
        init_convolutions(self)
        nn.init.normal_(linear.weight, std=0.01)
        nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(B, num_classes)`` of images ``(B, in_channels, H, W)``."""
        check_images(x, self.in_channels, 1, dtype=next(self.parameters()).dtype)
        x = self.features(x)  # (B, last, H / 32, W / 32), rounded up
        x = x.mean((2, 3))  # (B, last)
        return self.classifier(x)


def mobilenet_v2(*, width: float = 1.0, num_classes: int = 1000, in_channels: int = 3) -> MobileNetV2:
    """MobileNetV2; with 3.5 million parameters at ``width=1.0``. Equal to torchvision's.

    Args:
        width: multiplies the channels of every layer; below 1 the last convolution keeps its 1280.
        num_classes: how many logits.
        in_channels: 3 for color, 1 for grey.

    Raises:
        ValueError: if width is not positive; when called, if the input is not ``(B, in_channels, H, W)``.

    >>> import torch
    >>> mobilenet_v2(width=0.25, num_classes=10)(torch.zeros(2, 3, 64, 64)).shape
    torch.Size([2, 10])
    """
    return MobileNetV2(width=width, num_classes=num_classes, in_channels=in_channels)
