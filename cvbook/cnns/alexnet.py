"""AlexNet: the network that won the ImageNet challenge of 2012, and its successor in one tower.

Krizhevsky, Sutskever and Hinton (2012), ImageNet Classification with Deep Convolutional Neural Networks,
https://doi.org/10.1145/3065386 (the reprint of 2017; sections are numbered here as in 2012); Krizhevsky (2014), One
weird trick for parallelizing convolutional neural networks, https://arxiv.org/abs/1404.5997.
"""

from __future__ import annotations

from torch import Tensor, nn

from cvbook.cnns.images import check_counts, check_images

__all__ = ["AlexNet", "AlexNet2012", "alexnet"]

SMALLEST = 63  # pixels; below, nothing is left for the third pooling


class AlexNet(nn.Module):
    """Five convolutions and three fully connected layers in one tower; this is torchvision's AlexNet.

    One tower of 64, 192, 384, 256 and 256 channels, as in the configuration that the author of the paper of 2014
    released (the paper, footnote 1, writes 384 for the fourth), but without its response normalization; 61 100 840
    parameters. Weights start as torch draws them by default, which torchvision does too.

    Args:
        num_classes: how many logits.
        in_channels: of the images.

    >>> import torch
    >>> AlexNet(num_classes=10)(torch.zeros(1, 3, 64, 64)).shape
    torch.Size([1, 10])
    """

    def __init__(self, *, num_classes: int = 1000, in_channels: int = 3) -> None:
        super().__init__()
        check_counts(num_classes=num_classes, in_channels=in_channels)
        self.in_channels = in_channels
        self.features = nn.Sequential(  # shapes for images of 224x224
            nn.Conv2d(in_channels, 64, 11, stride=4, padding=2), nn.ReLU(inplace=True),  # (B, 64, 55, 55)
            nn.MaxPool2d(3, stride=2),                                                   # (B, 64, 27, 27)
            nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(inplace=True),                     # (B, 192, 27, 27)
            nn.MaxPool2d(3, stride=2),                                                   # (B, 192, 13, 13)
            nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(inplace=True),
            nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(inplace=True),
            nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(inplace=True),                    # (B, 256, 13, 13)
            nn.MaxPool2d(3, stride=2),                                                   # (B, 256, 6, 6)
        )  # fmt: skip
        self.avgpool = nn.AdaptiveAvgPool2d(6)  # changes nothing at 224x224, and lets in other sizes
        self.classifier = nn.Sequential(
            nn.Dropout(), nn.Linear(256 * 6 * 6, 4096), nn.ReLU(inplace=True),
            nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU(inplace=True),
            nn.Linear(4096, num_classes),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """``(B, in_channels, H, W)``, at least 63x63, normalized; returns logits ``(B, num_classes)``."""
        check_images(x, self.in_channels, SMALLEST, dtype=next(self.parameters()).dtype)
        x = self.features(x)  # (B, 256, h, w)
        x = self.avgpool(x)  # (B, 256, 6, 6)
        x = x.flatten(1)  # (B, 9216)
        return self.classifier(x)  # (B, num_classes)


class AlexNet2012(nn.Module):
    """The network of 2012: two towers, one on each graphics card; 60 965 224 parameters.

    The towers are the two groups of the second, fourth and fifth convolution; the third one sees both. Responses are
    normalized after the first two (§3.3, with the paper's constants). The paper speaks of images of 224x224 and of no
    padding, but its first map of 55x55 needs 227x227, or 2 pixels of padding around 224x224, as here.

    Weights start as torch draws them by default. (The paper, §5: normal with standard deviation 0.01, and bias 1 in
    the second, fourth and fifth convolution and in the hidden fully connected layers.)

    Args:
        num_classes: how many logits.
        in_channels: of the images.

    >>> sum(p.numel() for p in AlexNet2012().parameters())
    60965224
    """

    def __init__(self, *, num_classes: int = 1000, in_channels: int = 3) -> None:
        super().__init__()
        check_counts(num_classes=num_classes, in_channels=in_channels)
        self.in_channels = in_channels
        self.features = nn.Sequential(  # shapes for images of 224x224
            nn.Conv2d(in_channels, 96, 11, stride=4, padding=2), nn.ReLU(inplace=True),  # (B, 96, 55, 55)
            _response_norm(), nn.MaxPool2d(3, stride=2),                                 # (B, 96, 27, 27)
            nn.Conv2d(96, 256, 5, padding=2, groups=2), nn.ReLU(inplace=True),           # (B, 256, 27, 27)
            _response_norm(), nn.MaxPool2d(3, stride=2),                                 # (B, 256, 13, 13)
            nn.Conv2d(256, 384, 3, padding=1), nn.ReLU(inplace=True),                    # the towers meet
            nn.Conv2d(384, 384, 3, padding=1, groups=2), nn.ReLU(inplace=True),
            nn.Conv2d(384, 256, 3, padding=1, groups=2), nn.ReLU(inplace=True),          # (B, 256, 13, 13)
            nn.MaxPool2d(3, stride=2),                                                   # (B, 256, 6, 6)
        )  # fmt: skip
        self.avgpool = nn.AdaptiveAvgPool2d(6)  # changes nothing at 224x224, and lets in other sizes
        self.classifier = nn.Sequential(  # dropout on the outputs of the hidden layers (§4.2)
            nn.Linear(256 * 6 * 6, 4096), nn.ReLU(inplace=True), nn.Dropout(),
            nn.Linear(4096, 4096), nn.ReLU(inplace=True), nn.Dropout(),
            nn.Linear(4096, num_classes),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """``(B, in_channels, H, W)``, at least 63x63, normalized; returns logits ``(B, num_classes)``."""
        check_images(x, self.in_channels, SMALLEST, dtype=next(self.parameters()).dtype)
        x = self.features(x)  # (B, 256, h, w)
        x = self.avgpool(x)  # (B, 256, 6, 6)
        x = x.flatten(1)  # (B, 9216)
        return self.classifier(x)  # (B, num_classes)


def _response_norm() -> nn.LocalResponseNorm:
    """§3.3: n = 5, k = 2, alpha = 1e-4, beta = 0.75; torch divides alpha by n, the paper does not."""
    return nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)


def alexnet(*, num_classes: int = 1000, in_channels: int = 3, original: bool = False) -> AlexNet | AlexNet2012:
    """AlexNet as torchvision has it; ``original=True`` builds the two towers of 2012."""
    if original:
        return AlexNet2012(num_classes=num_classes, in_channels=in_channels)
    return AlexNet(num_classes=num_classes, in_channels=in_channels)
