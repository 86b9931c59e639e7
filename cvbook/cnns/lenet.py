"""LeNet-5: convolution, pooling and full connections that read digits.

LeCun, Bottou, Bengio and Haffner (1998), Gradient-Based Learning Applied to Document Recognition,
https://doi.org/10.1109/5.726791, section II.B and figure 2.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from cvbook.cnns.images import check_counts, check_images

__all__ = ["LeNet5", "lenet5"]

SIDE = 32  # pixels; the paper centers digits of 28x28 (20x20 without their margin) in such a frame


class LeNet5(nn.Module):
    """Two convolutions and three fully connected layers; 61 706 parameters with one input channel and ten classes.

    With ``original=True``, average pooling and tanh, which is close to the paper. There, tanh is scaled, 2x2 sums also
    have a trainable scale and bias, C3 sees only some of the six maps, and the last layer measures distances to fixed
    patterns instead of being linear: 60 000 parameters. Otherwise max pooling and ReLU, as one would build it today.

    Weights start as torch draws them by default.

    Args:
        num_classes: how many logits.
        in_channels: of the images.
        original: tanh and average pooling instead of ReLU and max pooling.

    Raises:
        ValueError: from `forward`, if images have fewer than 28 or more than 32 rows or columns.

    >>> import torch
    >>> LeNet5()(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """

    def __init__(self, *, num_classes: int = 10, in_channels: int = 1, original: bool = False) -> None:
        super().__init__()
        check_counts(num_classes=num_classes, in_channels=in_channels)
        self.in_channels = in_channels
        activation = nn.Tanh if original else nn.ReLU
        pool = nn.AvgPool2d if original else nn.MaxPool2d
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, 6, 5), activation(),  # C1: (B, 6, 28, 28)
            pool(2),                                     # S2: (B, 6, 14, 14)
            nn.Conv2d(6, 16, 5), activation(),           # C3: (B, 16, 10, 10)
            pool(2),                                     # S4: (B, 16, 5, 5)
        )  # fmt: skip
        self.classifier = nn.Sequential(
            nn.Linear(16 * 5 * 5, 120), activation(),  # C5, a 5x5 convolution on a 5x5 map
            nn.Linear(120, 84), activation(),          # F6
            nn.Linear(84, num_classes),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """``(B, in_channels, H, W)`` with H and W from 28 to 32, padded to 32; returns logits ``(B, num_classes)``."""
        check_images(x, self.in_channels, 28, largest=SIDE, dtype=next(self.parameters()).dtype)
        H, W = x.shape[2:]
        left, top = (SIDE - W) // 2, (SIDE - H) // 2
        x = F.pad(x, (left, SIDE - W - left, top, SIDE - H - top))  # (B, C, 32, 32)
        x = self.features(x)  # (B, 16, 5, 5)
        x = x.flatten(1)  # (B, 400)
        return self.classifier(x)  # (B, num_classes)


def lenet5(*, num_classes: int = 10, in_channels: int = 1, original: bool = False) -> LeNet5:
    """LeNet-5; ``original=True`` brings back the tanh and the average pooling of 1998."""
    return LeNet5(num_classes=num_classes, in_channels=in_channels, original=original)
