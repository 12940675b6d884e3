"""Torch twins of the networks for pictures; attributes are named so that `exchange` finds graphc's layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn
from torch.nn import functional

Tensor = torch.Tensor


class AlexNet(nn.Module):
    """Of 2012, on one device, with local response normalisation."""

    def __init__(self, classes: int = 1000, pixels: int = 6 * 6) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 96, 11, stride=4)
        self.conv2 = nn.Conv2d(96, 256, 5, padding=2)
        self.conv3 = nn.Conv2d(256, 384, 3, padding=1)
        self.conv4 = nn.Conv2d(384, 384, 3, padding=1)
        self.conv5 = nn.Conv2d(384, 256, 3, padding=1)
        self.fc1 = nn.Linear(256 * pixels, 4096)
        self.fc2 = nn.Linear(4096, 4096)
        self.fc3 = nn.Linear(4096, classes)

    def forward(self, data: Tensor) -> Tensor:
        def pool(x: Tensor) -> Tensor:
            return functional.max_pool2d(x, 3, 2, ceil_mode=True)

        def normalize(x: Tensor) -> Tensor:
            return functional.local_response_norm(x, 5, alpha=1e-4, beta=0.75, k=1.0)

        x = normalize(pool(functional.relu(self.conv1(data))))
        x = normalize(pool(functional.relu(self.conv2(x))))
        x = functional.relu(self.conv4(functional.relu(self.conv3(x))))
        x = pool(functional.relu(self.conv5(x))).flatten(1)
        x = functional.dropout(functional.relu(self.fc1(x)), 0.5, self.training)
        x = functional.dropout(functional.relu(self.fc2(x)), 0.5, self.training)
        return torch.softmax(self.fc3(x), dim=1)


class VGG(nn.Module):
    """Groups of 3x3 convolutions, each ended by a pooling."""

    def __init__(self, groups: Sequence[Sequence[int]], classes: int = 1000, pixels: int = 7 * 7) -> None:
        super().__init__()
        self.groups = [
            [f"conv{group}_{number}" for number in range(1, len(filters) + 1)]
            for group, filters in enumerate(groups, 1)
        ]
        channels = 3
        for names, filters in zip(self.groups, groups, strict=True):
            for name, count in zip(names, filters, strict=True):
                self.add_module(name, nn.Conv2d(channels, count, 3, padding=1))
                channels = count
        self.fc6 = nn.Linear(channels * pixels, 4096)
        self.fc7 = nn.Linear(4096, 4096)
        self.fc8 = nn.Linear(4096, classes)

    def forward(self, data: Tensor) -> Tensor:
        x = data
        for names in self.groups:
            for name in names:
                x = functional.relu(self.get_submodule(name)(x))
            x = functional.max_pool2d(x, 2, 2, ceil_mode=True)
        x = x.flatten(1)
        for layer in (self.fc6, self.fc7):
            x = functional.dropout(functional.relu(layer(x)), 0.5, self.training)
        return torch.softmax(self.fc8(x), dim=1)


class InceptionBN(nn.Module):
    """Inception with batch normalisation whose gamma is held at 1; `blocks` as in examples/zoo/inception_bn.py."""

    def __init__(self, blocks: Mapping[str, Sequence[int]], classes: int = 1000) -> None:
        super().__init__()
        self.blocks = dict(blocks)
        self.conv = nn.ModuleDict()
        self.bn = nn.ModuleDict()
        self.stride: dict[str, int] = {}
        self._layer("conv1", 3, 64, 7, stride=2)
        self._layer("conv2_reduce", 64, 64, 1)
        self._layer("conv2", 64, 192, 3)
        channels = 192
        for block, (one, reduce3, three, reduce_double, double, projection) in self.blocks.items():
            stride = 1 if one else 2
            if one:
                self._layer(f"{block}_1x1", channels, one, 1)
                self._layer(f"{block}_proj", channels, projection, 1)
            self._layer(f"{block}_3x3_reduce", channels, reduce3, 1)
            self._layer(f"{block}_3x3", reduce3, three, 3, stride)
            self._layer(f"{block}_double_3x3_reduce", channels, reduce_double, 1)
            self._layer(f"{block}_double_3x3_0", reduce_double, double, 3)
            self._layer(f"{block}_double_3x3_1", double, double, 3, stride)
            channels = one + three + double + (projection if one else channels)
        self.fc1 = nn.Linear(channels, classes)

    def _layer(self, name: str, channels: int, filters: int, kernel: int, stride: int = 1) -> None:
        self.conv[name] = nn.Conv2d(channels, filters, kernel, stride, kernel // 2)
        self.bn[name] = nn.BatchNorm2d(filters, eps=1e-3)

    def _apply_layer(self, x: Tensor, name: str) -> Tensor:
        return functional.relu(self.bn[name](self.conv[name](x)))

    def _inception(self, x: Tensor, block: str) -> Tensor:
        whole = bool(self.blocks[block][0])
        ways = [self._apply_layer(x, f"{block}_1x1")] if whole else []
        narrow = self._apply_layer(x, f"{block}_3x3_reduce")
        ways.append(self._apply_layer(narrow, f"{block}_3x3"))
        narrow = self._apply_layer(x, f"{block}_double_3x3_reduce")
        narrow = self._apply_layer(narrow, f"{block}_double_3x3_0")
        ways.append(self._apply_layer(narrow, f"{block}_double_3x3_1"))
        if not whole:
            ways.append(functional.max_pool2d(x, 3, 2, ceil_mode=True))
        else:
            pool = functional.max_pool2d if block == "5b" else functional.avg_pool2d
            ways.append(self._apply_layer(pool(x, 3, 1, 1), f"{block}_proj"))
        return torch.cat(ways, dim=1)

    def forward(self, data: Tensor) -> Tensor:
        x = functional.max_pool2d(self._apply_layer(data, "conv1"), 3, 2, ceil_mode=True)
        x = self._apply_layer(self._apply_layer(x, "conv2_reduce"), "conv2")
        x = functional.max_pool2d(x, 3, 2, ceil_mode=True)
        for block in self.blocks:
            x = self._inception(x, block)
        x = functional.avg_pool2d(x, 7, 1).flatten(1)
        return torch.softmax(self.fc1(x), dim=1)


class ConvolutionNorm(nn.Module):
    """Convolution and batch normalisation."""

    def __init__(self, channels: int, filters: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, filters, kernel, stride, kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(filters)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.bn(self.conv(x))
        return result


class ResidualUnit(nn.Module):
    """Two or three convolutions and what they add to."""

    def __init__(self, channels: int, filters: int, stride: int, bottleneck: bool, project: bool) -> None:
        super().__init__()
        outer = 4 * filters if bottleneck else filters
        if bottleneck:
            sizes = ((channels, filters, 1, 1), (filters, filters, 3, stride), (filters, outer, 1, 1))
        else:
            sizes = ((channels, filters, 3, stride), (filters, filters, 3, 1))
        self.count = len(sizes)
        for number, size in enumerate(sizes, 1):
            self.add_module(str(number), ConvolutionNorm(*size))
        self.shortcut = ConvolutionNorm(channels, outer, 1, stride) if project else None

    def forward(self, data: Tensor) -> Tensor:
        x = data
        for number in range(1, self.count + 1):
            x = self.get_submodule(str(number))(x)
            if number < self.count:
                x = functional.relu(x)
        return functional.relu(x + (data if self.shortcut is None else self.shortcut(data)))


class ResNet(nn.Module):
    """v1b, as examples/zoo/resnet.py; logits in training, probabilities otherwise."""

    def __init__(
        self,
        units: Sequence[int] = (3, 4, 6, 3),
        bottleneck: bool = True,
        classes: int = 1000,
        small: bool = False,
        widths: Sequence[int] = (64, 128, 256, 512),
    ) -> None:
        super().__init__()
        self.small = small
        self.stem = ConvolutionNorm(3, widths[0], 3 if small else 7, 1 if small else 2)
        self.names: list[str] = []
        channels = widths[0]
        for stage, (count, filters) in enumerate(zip(units, widths, strict=True), 1):
            for number in range(1, count + 1):
                stride = 2 if stage > 1 and number == 1 else 1
                project = number == 1 and (bottleneck or stage > 1)
                self.names.append(f"stage{stage}_unit{number}")
                unit = ResidualUnit(channels, filters, stride, bottleneck, project)
                self.add_module(self.names[-1], unit)
                channels = 4 * filters if bottleneck else filters
        self.fc = nn.Linear(channels, classes)

    def forward(self, data: Tensor) -> Tensor:
        x = functional.relu(self.stem(data))
        if not self.small:
            x = functional.max_pool2d(x, 3, 2, 1)
        for name in self.names:
            x = self.get_submodule(name)(x)
        x = self.fc(x.mean((2, 3)))
        return x if self.training else torch.softmax(x, dim=1)
