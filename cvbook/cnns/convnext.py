"""ConvNeXt: a ResNet with the design of a vision transformer (Liu et al. 2022, https://arxiv.org/abs/2201.03545).

Patches as the stem, a 7x7 depthwise convolution where a transformer has attention, a two-layer perceptron for each
pixel, one LayerNorm and one GELU for each block: as good as a Swin transformer, and a convolutional network throughout.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from cvbook.cnns.images import check_counts, check_images, check_stages

__all__ = ["Block", "ChannelNorm", "ConvNeXt", "convnext_base", "convnext_large", "convnext_small", "convnext_tiny"]


class ChannelNorm(nn.LayerNorm):
    """Layer normalization over the channels of each pixel, for ``(B, C, H, W)``.

    >>> ChannelNorm(8)(torch.randn(1, 8, 4, 4)).mean(1).abs().max() < 1e-6
    tensor(True)
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)  # (B, H, W, C): torch normalizes the last axes
        x = F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)  # (B, C, H, W)


class Block(nn.Module):
    """Look around with a depthwise 7x7, then a perceptron for each pixel, four times as wide inside (Figure 4).

    Multiply-adds of an input pixel: ``49 channels + 8 channels**2``.

    Args:
        channels: of input and output.
        drop: probability that training skips the block for an image (stochastic depth).

    >>> Block(8, drop=0.0)(torch.zeros(1, 8, 7, 7)).shape
    torch.Size([1, 8, 7, 7])
    """

    def __init__(self, channels: int, *, drop: float) -> None:
        super().__init__()
        # Each channel of the branch starts tiny, so that a new block is almost the identity (layer scale).
        self.layer_scale = nn.Parameter(torch.full((channels, 1, 1), 1e-6))
        self.depthwise = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.perceptron = nn.Sequential(
            nn.LayerNorm(channels, eps=1e-6),
            nn.Linear(channels, 4 * channels),
            nn.GELU(),
            nn.Linear(4 * channels, channels),
        )
        self.drop = StochasticDepth(drop, "row")

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` to the same shape."""
        y = self.depthwise(x).permute(0, 2, 3, 1)  # (B, H, W, C)
        y = self.perceptron(y).permute(0, 3, 1, 2)  # (B, C, H, W)
        return x + self.drop(self.layer_scale * y)


class ConvNeXt(nn.Module):
    """A stem of 4x4 patches, four stages of `Block`, the mean over space, one linear layer.

    Args:
        blocks: how many in each stage.
        widths: channels of each stage.
        drop: of the last block; it grows linearly from 0 in the first.
        num_classes, in_channels: logits, and 3 for color or 1 for grey.

    Raises:
        ValueError: when called, if the input is not ``(B, in_channels, H, W)``, with sides of at least 32 pixels for
            four stages.
    """

    def __init__(
        self, *, blocks: tuple[int, ...], widths: tuple[int, ...], drop: float, num_classes: int, in_channels: int
    ) -> None:
        super().__init__()
        check_counts(num_classes=num_classes, in_channels=in_channels)
        check_stages(blocks, widths)
        self.in_channels, self.smallest = in_channels, 4 * 2 ** (len(blocks) - 1)
        layers: list[nn.Module] = [nn.Conv2d(in_channels, widths[0], 4, stride=4), ChannelNorm(widths[0])]
        done = 0
        for stage, (count, width) in enumerate(zip(blocks, widths, strict=True)):
            if stage > 0:  # halve the side
                layers += [ChannelNorm(widths[stage - 1]), nn.Conv2d(widths[stage - 1], width, 2, stride=2)]
            for _ in range(count):
                layers.append(Block(width, drop=drop * done / max(sum(blocks) - 1, 1)))
                done += 1
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.LayerNorm(widths[-1], eps=1e-6), nn.Linear(widths[-1], num_classes))
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(B, num_classes)`` of images ``(B, in_channels, H, W)``."""
        check_images(x, self.in_channels, self.smallest, dtype=next(self.parameters()).dtype)
        x = self.features(x)  # (B, C, H / 32, W / 32), rounded down
        x = x.mean((2, 3))  # (B, C)
        return self.classifier(x)


# The sizes of §3, with torchvision's rates of stochastic depth.
def convnext_tiny(*, num_classes: int = 1000, in_channels: int = 3) -> ConvNeXt:
    """ConvNeXt-T, 29 million parameters: about the cost of a ResNet-50.

    >>> convnext_tiny(num_classes=10)(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """
    return ConvNeXt(
        blocks=(3, 3, 9, 3), widths=(96, 192, 384, 768), drop=0.1, num_classes=num_classes, in_channels=in_channels
    )


def convnext_small(*, num_classes: int = 1000, in_channels: int = 3) -> ConvNeXt:
    """ConvNeXt-S, 50 million parameters."""
    return ConvNeXt(
        blocks=(3, 3, 27, 3), widths=(96, 192, 384, 768), drop=0.4, num_classes=num_classes, in_channels=in_channels
    )


def convnext_base(*, num_classes: int = 1000, in_channels: int = 3) -> ConvNeXt:
    """ConvNeXt-B, 89 million parameters."""
    return ConvNeXt(
        blocks=(3, 3, 27, 3), widths=(128, 256, 512, 1024), drop=0.5, num_classes=num_classes, in_channels=in_channels
    )


def convnext_large(*, num_classes: int = 1000, in_channels: int = 3) -> ConvNeXt:
    """ConvNeXt-L, 198 million parameters."""
    return ConvNeXt(
        blocks=(3, 3, 27, 3), widths=(192, 384, 768, 1536), drop=0.5, num_classes=num_classes, in_channels=in_channels
    )
