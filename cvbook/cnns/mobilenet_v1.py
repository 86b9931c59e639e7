"""MobileNet: depthwise separable convolutions (Howard et al. 2017, https://arxiv.org/abs/1704.04861).

A 3x3 convolution does two things at once: it looks around in space and it mixes channels. MobileNet takes them apart,
and pays 8 to 9 times less. Its two knobs are the width multiplier (the paper's alpha), an argument here, and the
resolution multiplier (rho), which is the size of the images you feed: it changes no parameter.
"""

from __future__ import annotations

import math

from torch import Tensor, nn

from cvbook._arguments import number
from cvbook.cnns.images import check_counts, check_images

__all__ = ["ConvNorm", "DepthwiseSeparable", "MobileNetV1", "init_convolutions", "mobilenet_v1", "scaled"]

# Output channels and stride of the 13 depthwise separable convolutions (Table 1; its last stride, printed as 2, is 1:
# the size stays 7x7).
BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))


class ConvNorm(nn.Sequential):
    """Convolution, batch normalization, activation.

    Args:
        c_in, c_out: channels.
        kernel: odd side of the window.
        stride, groups: as in ``nn.Conv2d``.
        padding: by default what keeps the size at stride 1.
        activation: a class such as ``nn.ReLU``; None for a linear layer.

    >>> import torch
    >>> ConvNorm(3, 8, 3, stride=2)(torch.zeros(1, 3, 32, 32)).shape
    torch.Size([1, 8, 16, 16])
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel: int,
        *,
        stride: int = 1,
        groups: int = 1,
        padding: int | None = None,
        activation: type[nn.Module] | None = nn.ReLU,
    ) -> None:
        padding = kernel // 2 if padding is None else padding
        super().__init__(
            # No bias: the normalization would subtract it again, and has a shift of its own.
            nn.Conv2d(c_in, c_out, kernel, stride=stride, padding=padding, groups=groups, bias=False),
            nn.BatchNorm2d(c_out),
        )
        if activation is not None:
            self.append(activation(inplace=True))


class DepthwiseSeparable(nn.Sequential):
    """A convolution in two steps: one 3x3 kernel for each channel, then a 1x1 convolution that mixes channels (§3.1).

    Cost of an output pixel, in multiply-adds: ``9 c_in + c_in c_out``, instead of ``9 c_in c_out``. The ratio is
    ``1 / c_out + 1 / 9``. Weights are counted the same way.

    Args:
        c_in, c_out: channels.
        stride: of the depthwise step.

    >>> import torch
    >>> DepthwiseSeparable(8, 16, stride=2)(torch.zeros(1, 8, 32, 32)).shape
    torch.Size([1, 16, 16, 16])
    """

    def __init__(self, c_in: int, c_out: int, *, stride: int = 1) -> None:
        super().__init__(
            ConvNorm(c_in, c_in, 3, stride=stride, groups=c_in),  # depthwise: (B, c_in, H / stride, W / stride)
            ConvNorm(c_in, c_out, 1),  # pointwise: (B, c_out, H / stride, W / stride)
        )


class MobileNetV1(nn.Module):
    """A stem, 13 depthwise separable convolutions, the mean over space, one linear layer. See `mobilenet_v1`."""

    def __init__(self, *, width: float, num_classes: int, in_channels: int) -> None:
        super().__init__()
        check_counts(num_classes=num_classes, in_channels=in_channels)
        self.in_channels = in_channels
        channels = scaled(32, width)
        layers: list[nn.Module] = [ConvNorm(in_channels, channels, 3, stride=2)]
        for c_out, stride in BLOCKS:
            layers.append(DepthwiseSeparable(channels, scaled(c_out, width), stride=stride))
            channels = scaled(c_out, width)
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels, num_classes)
        init_convolutions(self)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(B, num_classes)`` of images ``(B, in_channels, H, W)``."""
        check_images(x, self.in_channels, 1, dtype=next(self.parameters()).dtype)
        x = self.features(x)  # (B, C, H / 32, W / 32), rounded up
        x = x.mean((2, 3))  # (B, C)
        return self.classifier(x)


def mobilenet_v1(*, width: float = 1.0, num_classes: int = 1000, in_channels: int = 3) -> MobileNetV1:
    """MobileNet with 4.2 million parameters at ``width=1.0`` (Table 6).

    Args:
        width: multiplies the channels of every layer (alpha, §3.3); the paper uses 1, 0.75, 0.5 and 0.25.
        num_classes: how many logits.
        in_channels: 3 for color, 1 for grey.

    Raises:
        ValueError: if width is not positive; when called, if the input is not ``(B, in_channels, H, W)``.

    >>> import torch
    >>> mobilenet_v1(width=0.25, num_classes=10)(torch.zeros(2, 3, 64, 64)).shape
    torch.Size([2, 10])
    """
    return MobileNetV1(width=width, num_classes=num_classes, in_channels=in_channels)


def scaled(channels: int, width: float) -> int:
    """``channels * width``, rounded to a multiple of 8 (at least 8), but never down by more than 10 %.

    Multiples of 8 suit the hardware; this is the rule of the official MobileNetV2 and EfficientNets.

    >>> scaled(32, 0.25), scaled(24, 1.1), scaled(24, 0.5)
    (8, 24, 16)
    """
    if not 0 < number("width", width) < math.inf:
        raise ValueError(f"expected a width multiplier > 0, got {width}; 1 is the full network")
    exact = channels * width
    rounded = max(8, int(exact + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * exact else rounded


def init_convolutions(model: nn.Module) -> None:
    """Draw the weights of all convolutions from a normal distribution of variance 2 / fan-out; biases become 0.

    Source: He et al. 2015, §2.2, https://arxiv.org/abs/1502.01852.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
