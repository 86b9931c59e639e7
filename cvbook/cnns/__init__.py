"""Convolutional networks, one paper per file: read the file from top to bottom, smallest part first.

Every builder takes ``num_classes`` and ``in_channels`` and returns a module that maps images ``(B, in_channels, H, W)``
to logits ``(B, num_classes)``. `cvbook.transfer.load_torchvision` fills those that torchvision also has with its
weights.
"""

from cvbook.cnns.alexnet import alexnet
from cvbook.cnns.convnext import convnext_base, convnext_large, convnext_small, convnext_tiny
from cvbook.cnns.densenet import densenet121, densenet169, densenet201
from cvbook.cnns.efficientnet import (
    efficientnet_b0,
    efficientnet_b1,
    efficientnet_b2,
    efficientnet_b3,
    efficientnet_b4,
    efficientnet_b5,
    efficientnet_b6,
    efficientnet_b7,
)
from cvbook.cnns.efficientnet_lite import efficientnet_lite0
from cvbook.cnns.googlenet import googlenet
from cvbook.cnns.lenet import lenet5
from cvbook.cnns.mobilenet_v1 import mobilenet_v1
from cvbook.cnns.mobilenet_v2 import mobilenet_v2
from cvbook.cnns.resnet import resnet18, resnet34, resnet50, resnet101, resnet152, resnext50_32x4d
from cvbook.cnns.vgg import vgg11, vgg13, vgg16, vgg19

__all__ = [
    "alexnet", "convnext_base", "convnext_large", "convnext_small", "convnext_tiny", "densenet121", "densenet169",
    "densenet201", "efficientnet_b0", "efficientnet_b1", "efficientnet_b2", "efficientnet_b3", "efficientnet_b4",
    "efficientnet_b5", "efficientnet_b6", "efficientnet_b7", "efficientnet_lite0", "googlenet", "lenet5",
    "mobilenet_v1", "mobilenet_v2", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnext50_32x4d",
    "vgg11", "vgg13", "vgg16", "vgg19",
]  # fmt: skip
