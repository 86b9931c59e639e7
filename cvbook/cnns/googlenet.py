"""GoogLeNet: branches of several kernel sizes side by side, and 1x1 convolutions that make them affordable.

Szegedy et al. (2014), Going Deeper with Convolutions, https://arxiv.org/abs/1409.4842, sections 4 and 5, table 1.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvbook.cnns.images import check_counts, check_images

__all__ = ["Auxiliary", "ConvNorm", "GoogLeNet", "Inception", "googlenet"]

SMALLEST = 15  # pixels; below, nothing is left for the third max pooling


class ConvNorm(nn.Module):
    """Convolution, batch normalization, ReLU; the size of the map stays at stride 1.

    The paper is older than batch normalization; torchvision adds it, with eps 0.001 from TensorFlow, where its
    weights come from.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, *, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride=stride, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(out_channels, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)), inplace=True)  # (B, out_channels, H / stride, W / stride)


class Inception(nn.Module):
    """Four branches on one input, concatenated (figure 2b).

    Args:
        in_channels: of the input.
        one: channels of the 1x1 branch.
        three: channels of the 3x3 branch, before (1x1, the bottleneck) and after the 3x3 convolution.
        five: the same for the branch of 5x5 convolutions.
        pool: channels of the branch that pools.
        kernel: of the third branch, 5 in the paper, 3 in torchvision.

    >>> Inception(192, 64, (96, 128), (16, 32), 32, kernel=5)(torch.zeros(1, 192, 28, 28)).shape
    torch.Size([1, 256, 28, 28])
    """

    def __init__(
        self, in_channels: int, one: int, three: tuple[int, int], five: tuple[int, int], pool: int, *, kernel: int
    ) -> None:
        super().__init__()
        self.branch1 = ConvNorm(in_channels, one, 1)
        self.branch2 = nn.Sequential(ConvNorm(in_channels, three[0], 1), ConvNorm(*three, 3))
        self.branch3 = nn.Sequential(ConvNorm(in_channels, five[0], 1), ConvNorm(*five, kernel))
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), ConvNorm(in_channels, pool, 1))

    def forward(self, x: Tensor) -> Tensor:
        branches = [self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)]
        return torch.cat(branches, 1)  # (B, one + three[1] + five[1] + pool, H, W)


class Auxiliary(nn.Module):
    """A classifier on a map halfway up, which brings gradient to the lower layers (section 5).

    It pools to 4x4 from any size; at 224x224, the paper's 5x5 windows at stride 3 give 4x4, too.
    """

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.conv = ConvNorm(in_channels, 128, 1)
        self.fc1 = nn.Linear(128 * 4 * 4, 1024)
        self.fc2 = nn.Linear(1024, num_classes)
        self.dropout = nn.Dropout(0.7)

    def forward(self, x: Tensor) -> Tensor:
        x = F.adaptive_avg_pool2d(x, 4)  # (B, in_channels, 4, 4)
        x = self.conv(x).flatten(1)  # (B, 2048)
        x = self.dropout(F.relu(self.fc1(x), inplace=True))  # (B, 1024)
        return self.fc2(x)  # (B, num_classes)


class GoogLeNet(nn.Module):
    """Nine Inception modules, then global average pooling and one fully connected layer.

    Weights start as torchvision draws them: normal with standard deviation 0.01, biases as torch draws them.

    Args:
        num_classes: how many logits.
        in_channels: of the images.
        aux: add the two auxiliary classifiers. In ``train`` mode the network then returns
            ``(logits, aux1, aux2)``; the paper adds the losses of both with weight 0.3 and discards them afterwards.
        five: kernels of 5x5 in the third branch, as in the paper. torchvision has 3x3 there.

    >>> GoogLeNet(num_classes=10)(torch.zeros(2, 3, 64, 64)).shape
    torch.Size([2, 10])
    """

    def __init__(self, *, num_classes: int = 1000, in_channels: int = 3, aux: bool = False, five: bool = False) -> None:
        super().__init__()
        check_counts(num_classes=num_classes, in_channels=in_channels)
        self.in_channels = in_channels
        k = 5 if five else 3
        self.conv1 = ConvNorm(in_channels, 64, 7, stride=2)
        self.maxpool1 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.conv2 = ConvNorm(64, 64, 1)
        self.conv3 = ConvNorm(64, 192, 3)
        self.maxpool2 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.inception3a = Inception(192, 64, (96, 128), (16, 32), 32, kernel=k)
        self.inception3b = Inception(256, 128, (128, 192), (32, 96), 64, kernel=k)
        self.maxpool3 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.inception4a = Inception(480, 192, (96, 208), (16, 48), 64, kernel=k)
        self.inception4b = Inception(512, 160, (112, 224), (24, 64), 64, kernel=k)
        self.inception4c = Inception(512, 128, (128, 256), (24, 64), 64, kernel=k)
        self.inception4d = Inception(512, 112, (144, 288), (32, 64), 64, kernel=k)
        self.inception4e = Inception(528, 256, (160, 320), (32, 128), 128, kernel=k)
        self.maxpool4 = nn.MaxPool2d(2, stride=2, ceil_mode=True)  # 3x3 in the paper
        self.inception5a = Inception(832, 256, (160, 320), (32, 128), 128, kernel=k)
        self.inception5b = Inception(832, 384, (192, 384), (48, 128), 128, kernel=k)
        self.aux1 = Auxiliary(512, num_classes) if aux else None
        self.aux2 = Auxiliary(528, num_classes) if aux else None
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(0.2)  # the paper writes 40 % dropped
        self.fc = nn.Linear(1024, num_classes)
        self.apply(_initialize)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor, Tensor]:
        """``(B, in_channels, H, W)``, at least 15x15, normalized; returns logits ``(B, num_classes)``, see ``aux``."""
        check_images(x, self.in_channels, SMALLEST, dtype=self.conv1.conv.weight.dtype)
        x = self.maxpool1(self.conv1(x))  # (B, 64, 56, 56) for images of 224x224
        x = self.maxpool2(self.conv3(self.conv2(x)))  # (B, 192, 28, 28)
        x = self.inception3b(self.inception3a(x))  # (B, 480, 28, 28)
        x = self.inception4a(self.maxpool3(x))  # (B, 512, 14, 14)
        aux1 = self.aux1(x) if self.training and self.aux1 else None
        x = self.inception4d(self.inception4c(self.inception4b(x)))  # (B, 528, 14, 14)
        aux2 = self.aux2(x) if self.training and self.aux2 else None
        x = self.inception4e(x)  # (B, 832, 14, 14)
        x = self.inception5b(self.inception5a(self.maxpool4(x)))  # (B, 1024, 7, 7)
        x = self.avgpool(x).flatten(1)  # (B, 1024)
        logits = self.fc(self.dropout(x))  # (B, num_classes)
        return logits if aux1 is None or aux2 is None else (logits, aux1, aux2)


def _initialize(layer: nn.Module) -> None:
    if isinstance(layer, (nn.Conv2d, nn.Linear)):
        nn.init.normal_(layer.weight, 0, 0.01)


def googlenet(*, num_classes: int = 1000, in_channels: int = 3, aux: bool = False, five: bool = False) -> GoogLeNet:
    """GoogLeNet as torchvision has it, 6 624 904 parameters; ``five=True`` gives the third branch its 5x5 back.

    torchvision's trained weights expect images normalized with mean 0.5 and standard deviation 0.5 per channel.
    """
    return GoogLeNet(num_classes=num_classes, in_channels=in_channels, aux=aux, five=five)
