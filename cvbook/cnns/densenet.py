"""DenseNet: every layer sees the maps of all layers before it, and adds a few of its own.

Huang, Liu, van der Maaten and Weinberger (2016), Densely Connected Convolutional Networks,
https://arxiv.org/abs/1608.06993, section 3 and table 1 (DenseNet-BC).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvbook.cnns.images import check_counts, check_images, check_stages

__all__ = ["DenseLayer", "DenseNet", "Transition", "densenet121", "densenet169", "densenet201"]


class DenseLayer(nn.Module):
    """Computes ``growth`` new maps from all maps so far, through a 1x1 bottleneck of four times as many.

    Args:
        in_channels: how many maps there are so far.
        growth: how many maps the layer adds; the paper's k.

    >>> DenseLayer(64, 32)(torch.zeros(1, 64, 56, 56)).shape
    torch.Size([1, 96, 56, 56])
    """

    def __init__(self, in_channels: int, growth: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv1 = nn.Conv2d(in_channels, 4 * growth, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(4 * growth)
        self.relu2 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        new = self.conv1(self.relu1(self.norm1(x)))  # (B, 4 growth, H, W)
        new = self.conv2(self.relu2(self.norm2(new)))  # (B, growth, H, W)
        return torch.cat([x, new], 1)  # (B, in_channels + growth, H, W)


class Transition(nn.Sequential):
    """Between blocks: halve the channels by a 1x1 convolution, and the map by average pooling (the paper's θ = 0.5)."""

    def __init__(self, in_channels: int) -> None:
        super().__init__(
            nn.BatchNorm2d(in_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(in_channels, in_channels // 2, 1, bias=False),  # (B, in_channels / 2, H, W)
            nn.AvgPool2d(2),  # (B, in_channels / 2, H / 2, W / 2)
        )


class DenseNet(nn.Module):
    """A stem, dense blocks with transitions between them, global average pooling and one fully connected layer.

    Weights start as torchvision draws them: convolutions normal after He et al. (fan_in), the bias of the fully
    connected layer zero.

    Args:
        depths: how many layers each block has.
        growth: how many maps each layer adds.
        small_images: a 3x3 stem at stride 1 without pooling, as section 3 has it for images of 32x32.
        num_classes: how many logits.
        in_channels: of the images.

    >>> DenseNet((3, 3, 3), growth=12, small_images=True, num_classes=10)(torch.zeros(1, 3, 32, 32)).shape
    torch.Size([1, 10])
    """

    def __init__(
        self,
        depths: Sequence[int],
        *,
        growth: int = 32,
        small_images: bool = False,
        num_classes: int = 1000,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        check_counts(num_classes=num_classes, in_channels=in_channels)
        check_stages(depths, [growth] * len(depths))
        self.in_channels = in_channels
        halvings = len(depths) - 1
        self.smallest = 2**halvings if small_images else 2 ** (halvings + 2) - 3  # the stem rounds up, pooling down
        channels = 2 * growth
        layers: list[nn.Module] = [_stem(in_channels, channels, small_images)]
        for i, depth in enumerate(depths):
            if i > 0:
                layers.append(Transition(channels))
                channels //= 2
            layers.append(nn.Sequential(*(DenseLayer(channels + j * growth, growth) for j in range(depth))))
            channels += depth * growth
        layers.append(nn.BatchNorm2d(channels))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels, num_classes)
        self.apply(_initialize)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, in_channels, H, W)``, at least 29x29 with four blocks; returns logits ``(B, num_classes)``."""
        check_images(x, self.in_channels, self.smallest, dtype=self.classifier.weight.dtype)
        x = self.features(x)  # (B, channels, H / 32, W / 32); for small images and three blocks (.., H / 4, W / 4)
        x = F.relu(x, inplace=True)
        x = F.adaptive_avg_pool2d(x, 1).flatten(1)  # (B, channels)
        return self.classifier(x)  # (B, num_classes)


def _stem(in_channels: int, out_channels: int, small_images: bool) -> nn.Module:
    if small_images:
        return nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)  # (B, out_channels, H, W)
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 7, stride=2, padding=3, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, stride=2, padding=1),  # (B, out_channels, H / 4, W / 4)
    )


def _initialize(layer: nn.Module) -> None:
    if isinstance(layer, nn.Conv2d):
        nn.init.kaiming_normal_(layer.weight)
    elif isinstance(layer, nn.Linear):
        nn.init.zeros_(layer.bias)


def densenet121(*, num_classes: int = 1000, in_channels: int = 3) -> DenseNet:
    """DenseNet-121: 7 978 856 parameters."""
    return DenseNet((6, 12, 24, 16), num_classes=num_classes, in_channels=in_channels)


def densenet169(*, num_classes: int = 1000, in_channels: int = 3) -> DenseNet:
    """DenseNet-169: 14 149 480 parameters."""
    return DenseNet((6, 12, 32, 32), num_classes=num_classes, in_channels=in_channels)


def densenet201(*, num_classes: int = 1000, in_channels: int = 3) -> DenseNet:
    """DenseNet-201: 20 013 928 parameters."""
    return DenseNet((6, 12, 48, 32), num_classes=num_classes, in_channels=in_channels)
