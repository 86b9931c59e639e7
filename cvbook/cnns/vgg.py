"""VGG: nothing but 3x3 convolutions, many of them.

Simonyan and Zisserman (2014), Very Deep Convolutional Networks for Large-Scale Image Recognition,
https://arxiv.org/abs/1409.1556, table 1.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from cvbook.cnns.images import check_counts, check_images, check_stages

__all__ = ["VGG", "vgg11", "vgg13", "vgg16", "vgg19"]


class VGG(nn.Module):
    """Stages of 3x3 convolutions, each halving the image by max pooling, then three fully connected layers.

    Weights start as torchvision draws them: convolutions normal after He et al. (fan_out), fully connected layers
    normal with standard deviation 0.01, biases zero.

    Args:
        depths: how many convolutions each stage has.
        widths: how many channels each stage has.
        hidden: width of the two hidden fully connected layers.
        batch_norm: put batch normalization, which is younger than the paper, after each convolution.
        num_classes: how many logits.
        in_channels: of the images.

    >>> import torch
    >>> VGG((1, 2), widths=(8, 16), hidden=32, num_classes=10)(torch.zeros(1, 3, 28, 28)).shape
    torch.Size([1, 10])
    """

    def __init__(
        self,
        depths: Sequence[int],
        *,
        widths: Sequence[int] = (64, 128, 256, 512, 512),
        hidden: int = 4096,
        batch_norm: bool = False,
        num_classes: int = 1000,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        check_counts(num_classes=num_classes, in_channels=in_channels, hidden=hidden)
        check_stages(depths, widths)
        self.in_channels, self.smallest = in_channels, 2 ** len(depths)
        layers: list[nn.Module] = []
        channels = in_channels
        for depth, width in zip(depths, widths, strict=True):
            for _ in range(depth):
                layers.append(nn.Conv2d(channels, width, 3, padding=1))
                if batch_norm:
                    layers.append(nn.BatchNorm2d(width))
                layers.append(nn.ReLU(inplace=True))
                channels = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(7)  # changes nothing at 224x224, and lets in other sizes
        self.classifier = nn.Sequential(
            nn.Linear(channels * 7 * 7, hidden), nn.ReLU(inplace=True), nn.Dropout(),
            nn.Linear(hidden, hidden), nn.ReLU(inplace=True), nn.Dropout(),
            nn.Linear(hidden, num_classes),
        )  # fmt: skip
        self.apply(_initialize)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, in_channels, H, W)``, at least 32x32 with five stages; returns logits ``(B, num_classes)``."""
        check_images(x, self.in_channels, self.smallest, dtype=next(self.parameters()).dtype)
        x = self.features(x)  # (B, 512, H / 32, W / 32) with five stages
        x = self.avgpool(x)  # (B, 512, 7, 7)
        x = x.flatten(1)  # (B, 25088)
        return self.classifier(x)  # (B, num_classes)


def _initialize(layer: nn.Module) -> None:
    if isinstance(layer, nn.Conv2d):
        nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    elif isinstance(layer, nn.Linear):
        nn.init.normal_(layer.weight, 0, 0.01)
    if isinstance(layer, (nn.Conv2d, nn.Linear)) and layer.bias is not None:
        nn.init.zeros_(layer.bias)


def vgg11(*, num_classes: int = 1000, in_channels: int = 3, batch_norm: bool = False) -> VGG:
    """Configuration A: 8 convolutions, 132 863 336 parameters."""
    return VGG((1, 1, 2, 2, 2), num_classes=num_classes, in_channels=in_channels, batch_norm=batch_norm)


def vgg13(*, num_classes: int = 1000, in_channels: int = 3, batch_norm: bool = False) -> VGG:
    """Configuration B: 10 convolutions, 133 047 848 parameters."""
    return VGG((2, 2, 2, 2, 2), num_classes=num_classes, in_channels=in_channels, batch_norm=batch_norm)


def vgg16(*, num_classes: int = 1000, in_channels: int = 3, batch_norm: bool = False) -> VGG:
    """Configuration D: 13 convolutions, 138 357 544 parameters."""
    return VGG((2, 2, 3, 3, 3), num_classes=num_classes, in_channels=in_channels, batch_norm=batch_norm)


def vgg19(*, num_classes: int = 1000, in_channels: int = 3, batch_norm: bool = False) -> VGG:
    """Configuration E: 16 convolutions, 143 667 240 parameters."""
    return VGG((2, 2, 4, 4, 4), num_classes=num_classes, in_channels=in_channels, batch_norm=batch_norm)
