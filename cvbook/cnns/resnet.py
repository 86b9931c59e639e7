"""ResNet: blocks that learn what to add to their input; ResNeXt: the same with grouped convolutions.

He, Zhang, Ren and Sun (2015), Deep Residual Learning for Image Recognition, https://arxiv.org/abs/1512.03385, table 1.
For `resnext50_32x4d`: Xie, Girshick, Dollar, Tu and He (2016), Aggregated Residual Transformations for Deep Neural
Networks, https://arxiv.org/abs/1611.05431, table 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from cvbook.cnns.images import check_counts, check_images, check_stages

__all__ = [
    "BasicBlock", "Bottleneck", "ResNet", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152",
    "resnext50_32x4d",
]  # fmt: skip


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut, ``relu(F(x) + x)`` (figure 5, left).

    Args:
        in_channels: of the input.
        width: channels inside and of the output.
        stride: of the first convolution.
        residual: False leaves the shortcut out: a plain block, ``relu(F(x))``.

    >>> import torch
    >>> BasicBlock(64, 128, stride=2)(torch.zeros(1, 64, 56, 56)).shape
    torch.Size([1, 128, 28, 28])
    """

    def __init__(self, in_channels: int, width: int, *, stride: int = 1, residual: bool = True) -> None:
        super().__init__()
        self.residual, self.out_channels = residual, width
        self.conv1 = nn.Conv2d(in_channels, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _projection(in_channels, width, stride) if residual else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))  # (B, width, H / stride, W / stride)
        y = self.bn2(self.conv2(y))
        if self.residual:
            y += x if self.downsample is None else self.downsample(x)
        return self.relu(y)


class Bottleneck(nn.Module):
    """A 3x3 convolution between two of 1x1, which reduce and restore the channels, beside a shortcut (figure 5, right).

    The stride is at the 3x3 convolution, as in torchvision ("v1.5"); the paper has it at the first one.

    Args:
        in_channels: of the input.
        width: channels of the 3x3 convolution with one group; the output has four times as many.
        stride: of the 3x3 convolution.
        residual: False leaves the shortcut out.
        groups: of the 3x3 convolution; ResNeXt calls their number cardinality.
        group_width: channels of each group where ``width`` is 64; wider stages have proportionally more.

    >>> import torch
    >>> Bottleneck(256, 64, groups=32, group_width=4)(torch.zeros(1, 256, 56, 56)).shape
    torch.Size([1, 256, 56, 56])
    """

    expansion = 4

    def __init__(
        self,
        in_channels: int,
        width: int,
        *,
        stride: int = 1,
        residual: bool = True,
        groups: int = 1,
        group_width: int = 64,
    ) -> None:
        super().__init__()
        self.residual, self.out_channels = residual, self.expansion * width
        inner = width * group_width // 64 * groups
        self.conv1 = nn.Conv2d(in_channels, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride=stride, padding=1, groups=groups, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, self.out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(self.out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _projection(in_channels, self.out_channels, stride) if residual else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))  # (B, inner, H, W)
        y = self.relu(self.bn2(self.conv2(y)))  # (B, inner, H / stride, W / stride)
        y = self.bn3(self.conv3(y))  # (B, 4 width, H / stride, W / stride)
        if self.residual:
            y += x if self.downsample is None else self.downsample(x)
        return self.relu(y)


def _projection(in_channels: int, out_channels: int, stride: int) -> nn.Module | None:
    """What the shortcut needs where the shape changes: a strided 1x1 convolution (section 3.3, option B)."""
    if stride == 1 and in_channels == out_channels:
        return None
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False), nn.BatchNorm2d(out_channels)
    )


class ResNet(nn.Module):
    """A stem, stages of blocks, global average pooling and one fully connected layer.

    Each stage but the first halves the map. Weights start as torchvision draws them: convolutions normal after He et
    al. (fan_out), the fully connected layer as torch draws it.

    Args:
        block: `BasicBlock` or `Bottleneck`, or anything that is called like them and has ``out_channels``.
        depths: how many blocks each stage has.
        widths: the width of each stage's blocks.
        small_images: a 3x3 stem at stride 1 without pooling, as section 4.2 has it for images of 32x32.
        residual: False builds the plain network with the same layers and no shortcuts.
        num_classes: how many logits.
        in_channels: of the images.

    Here is the network of 20 layers for small images (section 4.2, n = 3), with projection shortcuts:

    >>> import torch
    >>> model = ResNet(BasicBlock, (3, 3, 3), widths=(16, 32, 64), small_images=True, num_classes=10)
    >>> model(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        block: Callable[..., nn.Module],
        depths: Sequence[int],
        *,
        widths: Sequence[int] = (64, 128, 256, 512),
        small_images: bool = False,
        residual: bool = True,
        num_classes: int = 1000,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        check_counts(num_classes=num_classes, in_channels=in_channels)
        check_stages(depths, widths)
        self.in_channels = in_channels
        kernel, stride = (3, 1) if small_images else (7, 2)
        self.conv1 = nn.Conv2d(in_channels, widths[0], kernel, stride=stride, padding=kernel // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.Identity() if small_images else nn.MaxPool2d(3, stride=2, padding=1)
        self.stages = nn.Sequential()
        channels: int = widths[0]
        for depth, width in zip(depths, widths, strict=True):
            blocks: list[Any] = []
            for i in range(depth):
                stride = 2 if len(self.stages) > 0 and i == 0 else 1
                blocks.append(block(channels, width, stride=stride, residual=residual))
                channels = blocks[-1].out_channels
            self.stages.append(nn.Sequential(*blocks))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes)
        self.apply(_initialize)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, in_channels, H, W)`` of any size, normalized; returns logits ``(B, num_classes)``."""
        check_images(x, self.in_channels, 1, dtype=self.conv1.weight.dtype)
        x = self.relu(self.bn1(self.conv1(x)))  # (B, 64, H / 2, W / 2); for small images (B, 64, H, W)
        x = self.maxpool(x)  # (B, 64, H / 4, W / 4); for small images (B, 64, H, W)
        x = self.stages(x)  # (B, channels, H / 32, W / 32); for small images 8 times as many
        x = self.avgpool(x).flatten(1)  # (B, channels)
        return self.fc(x)  # (B, num_classes)


def _initialize(layer: nn.Module) -> None:
    if isinstance(layer, nn.Conv2d):
        nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")


def resnet18(*, num_classes: int = 1000, in_channels: int = 3) -> ResNet:
    """ResNet-18: 11 689 512 parameters."""
    return ResNet(BasicBlock, (2, 2, 2, 2), num_classes=num_classes, in_channels=in_channels)


def resnet34(*, num_classes: int = 1000, in_channels: int = 3) -> ResNet:
    """ResNet-34: 21 797 672 parameters."""
    return ResNet(BasicBlock, (3, 4, 6, 3), num_classes=num_classes, in_channels=in_channels)


def resnet50(*, num_classes: int = 1000, in_channels: int = 3) -> ResNet:
    """ResNet-50: 25 557 032 parameters."""
    return ResNet(Bottleneck, (3, 4, 6, 3), num_classes=num_classes, in_channels=in_channels)


def resnet101(*, num_classes: int = 1000, in_channels: int = 3) -> ResNet:
    """ResNet-101: 44 549 160 parameters."""
    return ResNet(Bottleneck, (3, 4, 23, 3), num_classes=num_classes, in_channels=in_channels)


def resnet152(*, num_classes: int = 1000, in_channels: int = 3) -> ResNet:
    """ResNet-152: 60 192 808 parameters."""
    return ResNet(Bottleneck, (3, 8, 36, 3), num_classes=num_classes, in_channels=in_channels)


def resnext50_32x4d(*, num_classes: int = 1000, in_channels: int = 3) -> ResNet:
    """ResNeXt-50 with 32 groups, 4 channels wide in the first stage: 25 028 904 parameters."""
    block = partial(Bottleneck, groups=32, group_width=4)
    return ResNet(block, (3, 4, 6, 3), num_classes=num_classes, in_channels=in_channels)
