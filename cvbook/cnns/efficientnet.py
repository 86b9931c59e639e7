"""EfficientNet: depth, width and resolution grow together (Tan & Le 2019, https://arxiv.org/abs/1905.11946).

B0 came out of an architecture search. The others are B0 made deeper, wider and fed with larger images, in fixed
proportions: depth by 1.2, width by 1.1 and resolution by 1.15 a step, which about doubles the cost (§3.3). The released
networks round these numbers.
"""

from __future__ import annotations

import math

from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from cvbook.cnns.images import check_counts, check_images
from cvbook.cnns.mobilenet_v1 import ConvNorm, init_convolutions, scaled
from cvbook.cnns.squeeze_excitation import SqueezeExcitation

__all__ = [
    "STAGES", "EfficientNet", "MBConv", "efficientnet_b0", "efficientnet_b1", "efficientnet_b2", "efficientnet_b3",
    "efficientnet_b4", "efficientnet_b5", "efficientnet_b6", "efficientnet_b7",
]  # fmt: skip

# Expansion, kernel, stride of the first block, output channels, number of blocks (Table 1).
STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)


class MBConv(nn.Module):
    """MobileNetV2's inverted residual with SiLU, a kernel of 3 or 5 pixels, and squeeze-and-excitation inside.

    Args:
        c_in, c_out: channels of the narrow ends.
        expand: the middle is this many times as wide as the input; the squeeze is a quarter of the input.
        kernel, stride: of the depthwise convolution.
        drop: probability that training skips the block for an image (stochastic depth).

    >>> import torch
    >>> MBConv(8, 16, expand=6, kernel=5, stride=2, drop=0.0)(torch.zeros(1, 8, 32, 32)).shape
    torch.Size([1, 16, 16, 16])
    """

    def __init__(self, c_in: int, c_out: int, *, expand: int, kernel: int, stride: int, drop: float) -> None:
        super().__init__()
        wide = c_in * expand
        self.skip = stride == 1 and c_in == c_out
        self.expand = nn.Identity() if expand == 1 else ConvNorm(c_in, wide, 1, activation=nn.SiLU)
        self.depthwise = ConvNorm(wide, wide, kernel, stride=stride, groups=wide, activation=nn.SiLU)
        self.excite = SqueezeExcitation(wide, c_in // 4, activation=nn.SiLU)
        self.project = ConvNorm(wide, c_out, 1, activation=None)
        self.drop = StochasticDepth(drop, "row")

    def forward(self, x: Tensor) -> Tensor:
        """``(B, c_in, H, W)`` becomes ``(B, c_out, H / stride, W / stride)``, rounded up."""
        y = self.expand(x)  # (B, wide, H, W)
        y = self.excite(self.depthwise(y))  # (B, wide, H / stride, W / stride)
        y = self.project(y)  # (B, c_out, H / stride, W / stride)
        return x + self.drop(y) if self.skip else y


class EfficientNet(nn.Module):
    """A stem, seven stages of `MBConv`, a 1x1 convolution, the mean over space, one linear layer.

    Args:
        width, depth: multiply the channels of each layer and the blocks of each stage of B0.
        dropout: probability to drop a feature before the linear layer.
        eps, momentum: of every batch normalization.
        num_classes, in_channels: logits, and 3 for color or 1 for grey.

    Raises:
        ValueError: when called, if the input is not ``(B, in_channels, H, W)``.
    """

    def __init__(
        self,
        *,
        width: float,
        depth: float,
        dropout: float,
        num_classes: int,
        in_channels: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
    ) -> None:
        super().__init__()
        check_counts(num_classes=num_classes, in_channels=in_channels)
        self.in_channels = in_channels
        channels, last = scaled(32, width), scaled(1280, width)
        layers: list[nn.Module] = [ConvNorm(in_channels, channels, 3, stride=2, activation=nn.SiLU)]
        repeats = [math.ceil(depth * blocks) for *_, blocks in STAGES]
        for (expand, kernel, stride, c_out, _), blocks in zip(STAGES, repeats, strict=True):
            c_out = scaled(c_out, width)
            for i in range(blocks):
                drop = 0.2 * (len(layers) - 1) / sum(repeats)  # from 0 in the first block, later blocks drop more
                step = stride if i == 0 else 1
                layers.append(MBConv(channels, c_out, expand=expand, kernel=kernel, stride=step, drop=drop))
                channels = c_out
        self.features = nn.Sequential(*layers, ConvNorm(channels, last, 1, activation=nn.SiLU))
        linear = nn.Linear(last, num_classes)
        self.classifier = nn.Sequential(nn.Dropout(dropout), linear)
        init_convolutions(self)
        nn.init.uniform_(linear.weight, -1 / math.sqrt(num_classes), 1 / math.sqrt(num_classes))
        nn.init.zeros_(linear.bias)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps, module.momentum = eps, momentum

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(B, num_classes)`` of images ``(B, in_channels, H, W)``."""
        check_images(x, self.in_channels, 1, dtype=next(self.parameters()).dtype)
        x = self.features(x)  # (B, last, H / 32, W / 32), rounded up
        x = x.mean((2, 3))  # (B, last)
        return self.classifier(x)


def efficientnet_b0(*, num_classes: int = 1000, in_channels: int = 3) -> EfficientNet:
    """B0, made for images of 224 px.

    >>> import torch
    >>> efficientnet_b0(num_classes=10)(torch.zeros(2, 3, 64, 64)).shape
    torch.Size([2, 10])
    """
    return EfficientNet(width=1.0, depth=1.0, dropout=0.2, num_classes=num_classes, in_channels=in_channels)


def efficientnet_b1(*, num_classes: int = 1000, in_channels: int = 3) -> EfficientNet:
    """B1, made for images of 240 px: deeper than B0, as wide."""
    return EfficientNet(width=1.0, depth=1.1, dropout=0.2, num_classes=num_classes, in_channels=in_channels)


def efficientnet_b2(*, num_classes: int = 1000, in_channels: int = 3) -> EfficientNet:
    """B2, made for images of 260 px."""
    return EfficientNet(width=1.1, depth=1.2, dropout=0.3, num_classes=num_classes, in_channels=in_channels)


def efficientnet_b3(*, num_classes: int = 1000, in_channels: int = 3) -> EfficientNet:
    """B3, made for images of 300 px."""
    return EfficientNet(width=1.2, depth=1.4, dropout=0.3, num_classes=num_classes, in_channels=in_channels)


def efficientnet_b4(*, num_classes: int = 1000, in_channels: int = 3) -> EfficientNet:
    """B4, made for images of 380 px."""
    return EfficientNet(width=1.4, depth=1.8, dropout=0.4, num_classes=num_classes, in_channels=in_channels)


# The weights that torchvision offers for B5 to B7 were trained with these settings of the normalization.
OFFICIAL = {"eps": 1e-3, "momentum": 0.01}


def efficientnet_b5(*, num_classes: int = 1000, in_channels: int = 3) -> EfficientNet:
    """B5, made for images of 456 px."""
    return EfficientNet(width=1.6, depth=2.2, dropout=0.4, num_classes=num_classes, in_channels=in_channels, **OFFICIAL)


def efficientnet_b6(*, num_classes: int = 1000, in_channels: int = 3) -> EfficientNet:
    """B6, made for images of 528 px."""
    return EfficientNet(width=1.8, depth=2.6, dropout=0.5, num_classes=num_classes, in_channels=in_channels, **OFFICIAL)


def efficientnet_b7(*, num_classes: int = 1000, in_channels: int = 3) -> EfficientNet:
    """B7, made for images of 600 px: twice as wide and 3.1 times as deep as B0."""
    return EfficientNet(width=2.0, depth=3.1, dropout=0.5, num_classes=num_classes, in_channels=in_channels, **OFFICIAL)
