"""The torch twins at the sizes of the tables, by the key of their network; needs torch only."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import nn

from networks.catalog import BY_KEY
from networks.exchange import fill
from networks.torch_language import Bert, LstmModel, Transformer
from networks.torch_vision import VGG, AlexNet, InceptionBN, ResNet

VGG16 = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
INCEPTION_BLOCKS = {
    "3a": (64, 64, 64, 64, 96, 32),
    "3b": (64, 64, 96, 64, 96, 64),
    "3c": (0, 128, 160, 64, 96, 0),
    "4a": (224, 64, 96, 96, 128, 128),
    "4b": (192, 96, 128, 96, 128, 128),
    "4c": (160, 128, 160, 128, 160, 128),
    "4d": (96, 128, 192, 160, 192, 128),
    "4e": (0, 128, 192, 192, 256, 0),
    "5a": (352, 192, 320, 160, 224, 128),
    "5b": (352, 192, 320, 192, 224, 128),
}

MODULES: Mapping[str, Callable[[], nn.Module]] = {
    "alexnet": AlexNet,
    "vgg16": lambda: VGG(VGG16),
    "inception_bn": lambda: InceptionBN(INCEPTION_BLOCKS),
    "resnet50": ResNet,
    "bert": Bert,
    "gpt2": lambda: Transformer(12, 768, 12, 50257, 1024, "tanh"),
    "lstm": LstmModel,
}


def network(key: str) -> nn.Module:
    """The twin for inference, with the values of the catalog."""
    return fill(MODULES[key](), BY_KEY[key].value).eval()
