"""Cases of layers, normalisations and creating operators."""

import math

import torch
from torch.nn import functional

from support.cases import Case, Oracle, Tensor, one


def linear_cases() -> list[Case]:
    linear = {"data": (2, 3, 4), "weight": (5, 12), "bias": (5,)}
    last = {"data": (2, 3, 4), "weight": (5, 4), "bias": (5,)}
    return [
        Case(
            "FullyConnected",
            linear,
            lambda x, w, b: functional.linear(x.flatten(1), w, b),
            {"num_hidden": 5},
        ),
        Case("FullyConnected", last, functional.linear, {"num_hidden": 5, "flatten": False}),
        Case(
            "FullyConnected",
            {"data": (3, 4), "weight": (1, 4)},
            functional.linear,
            {"num_hidden": 1, "no_bias": True},
        ),
        Case("dot", {"lhs": (3, 4), "rhs": (4, 2)}, torch.matmul),
        Case("dot", {"lhs": (4,), "rhs": (4,)}, lambda x, y: (x @ y).reshape(1), symbolic=False),
        Case("dot", {"lhs": (2, 3, 4), "rhs": (4, 5, 2)}, lambda x, y: torch.tensordot(x, y, 1)),
        Case("dot", {"lhs": (4, 3), "rhs": (4, 2)}, lambda x, y: x.T @ y, {"transpose_a": True}),
        Case("dot", {"lhs": (3, 4), "rhs": (2, 4)}, lambda x, y: x @ y.T, {"transpose_b": True}),
        Case("batch_dot", {"lhs": (2, 3, 4), "rhs": (2, 4, 5)}, torch.bmm),
        Case(
            "batch_dot",
            {"lhs": (2, 4, 3), "rhs": (2, 5, 4)},
            lambda x, y: x.mT @ y.mT,
            {"transpose_a": True, "transpose_b": True},
        ),
    ]


def spatial_cases() -> list[Case]:
    def image(*shape: int) -> dict[str, tuple[int, ...]]:
        return {"data": shape}

    return [
        Case(
            "Convolution",
            {**image(2, 3, 7, 8), "weight": (4, 3, 3, 2), "bias": (4,)},
            functional.conv2d,
            {"kernel": (3, 2), "num_filter": 4},
        ),
        Case(
            "Convolution",
            {**image(2, 4, 9, 9), "weight": (6, 2, 3, 3)},
            lambda x, w: functional.conv2d(x, w, None, 2, 1, 2, 2),
            {
                "kernel": (3, 3),
                "num_filter": 6,
                "stride": (2, 2),
                "pad": (1, 1),
                "dilate": (2, 2),
                "num_group": 2,
                "no_bias": True,
            },
        ),
        Case(
            "Convolution",
            {**image(2, 3, 9), "weight": (4, 3, 3), "bias": (4,)},
            lambda x, w, b: functional.conv1d(x, w, b, 2),
            {"kernel": 3, "num_filter": 4, "stride": 2},
        ),
        Case(
            "Convolution",
            {**image(1, 2, 4, 5, 4), "weight": (3, 2, 2, 2, 2), "bias": (3,)},
            functional.conv3d,
            {"kernel": (2, 2, 2), "num_filter": 3},
        ),
        Case(
            "Deconvolution",
            {**image(2, 4, 5, 5), "weight": (4, 3, 3, 3)},
            lambda x, w: functional.conv_transpose2d(x, w, None, 2, 1, 1),
            {"kernel": (3, 3), "num_filter": 3, "stride": (2, 2), "pad": (1, 1), "adj": (1, 1)},
        ),
        Case(
            "Deconvolution",
            {**image(2, 4, 5), "weight": (4, 2, 4), "bias": (4,)},
            lambda x, w, b: functional.conv_transpose1d(x, w, b, 2, 1, 0, 2),
            {
                "kernel": (4,),
                "num_filter": 4,
                "stride": (2,),
                "target_shape": (10,),
                "num_group": 2,
                "no_bias": False,
            },
        ),
        one("Pooling", (2, 3, 7, 7), lambda x: functional.max_pool2d(x, 2, 2), kernel=(2, 2), stride=(2, 2)),
        one(
            "Pooling",
            (2, 3, 7, 6),
            lambda x: functional.max_pool2d(x, 3, 2, 1, ceil_mode=True),
            kernel=(3, 3),
            stride=(2, 2),
            pad=(1, 1),
            pooling_convention="full",
        ),
        one(
            "Pooling",
            (2, 3, 8),
            lambda x: functional.max_pool1d(functional.pad(x, (0, 1), value=-math.inf), 3, 2),
            kernel=3,
            stride=2,
            pooling_convention="same",
        ),
        *(
            one(
                "Pooling",
                (2, 3, 7, 6),
                lambda x, f=full, c=counted: functional.avg_pool2d(x, 3, 2, 1, f, c),
                kernel=(3, 3),
                stride=(2, 2),
                pad=(1, 1),
                pool_type="avg",
                pooling_convention="full" if full else "valid",
                count_include_pad=counted,
            )
            for full in (False, True)
            for counted in (False, True)
        ),
        one(
            "Pooling",
            (2, 3, 4, 4),
            lambda x: 4 * functional.avg_pool2d(x, 2, 1),
            kernel=(2, 2),
            pool_type="sum",
        ),
        one(
            "Pooling",
            (2, 3, 4, 4),
            lambda x: functional.lp_pool2d(x, 2, 2),
            kernel=(2, 2),
            stride=(2, 2),
            pool_type="lp",
        ),
        one(
            "Pooling", (2, 3, 4, 5), lambda x: x.mean((2, 3), keepdim=True), global_pool=True, pool_type="avg"
        ),
        one(
            "UpSampling",
            (2, 3, 2, 3),
            lambda x: functional.interpolate(x, scale_factor=2),
            scale=2,
            sample_type="nearest",
        ),
        one("Pooling", (2, 3, 4, 5), lambda x: x.amax((2, 3), keepdim=True), global_pool=True),
        one(
            "Pooling", (2, 3, 4, 5), lambda x: x.sum((2, 3), keepdim=True), global_pool=True, pool_type="sum"
        ),
    ]


def _local_response(x: Tensor) -> Tensor:
    return functional.local_response_norm(x, 3, 0.3, 0.5, 1.5)


def normalization_cases() -> list[Case]:
    vectors = {"gamma": (5,), "beta": (5,)}
    channels = {"gamma": (3,), "beta": (3,)}
    return [
        Case(
            "LayerNorm",
            {"data": (3, 4, 5), **vectors},
            lambda x, g, b: functional.layer_norm(x, (5,), g, b, 1e-5),
        ),
        Case(
            "LayerNorm",
            {"data": (2, 3, 4), **channels},
            lambda x, g, b: functional.layer_norm(x.mT, (3,), g, b, 0.1).mT,
            {"axis": 1, "eps": 0.1},
        ),
        Case(
            "InstanceNorm",
            {"data": (2, 3, 4, 5), **channels},
            lambda x, g, b: functional.instance_norm(x, None, None, g, b, eps=1e-3),
        ),
        Case(
            "GroupNorm",
            {"data": (2, 6, 4, 5), "gamma": (6,), "beta": (6,)},
            lambda x, g, b: functional.group_norm(x, 3, g, b, 1e-3),
            {"num_groups": 3, "eps": 1e-3},
        ),
        Case(
            "GroupNorm",
            {"data": (2, 3, 7), "gamma": (3,), "beta": (3,)},
            lambda x, g, b: functional.group_norm(x, 1, g, b, 1e-5),
        ),
        one("L2Normalization", (2, 3, 4), lambda x: x / x.square().sum((1, 2), True).add(1e-10).sqrt()),
        one(
            "L2Normalization",
            (2, 3, 4),
            lambda x: x / x.square().sum(1, True).add(1e-10).sqrt(),
            mode="channel",
        ),
        one(
            "L2Normalization",
            (2, 3, 4),
            lambda x: x / x.square().sum(2, True).add(1e-10).sqrt(),
            mode="spatial",
        ),
        one("LRN", (2, 5, 3, 3), _local_response, nsize=3, alpha=0.3, beta=0.5, knorm=1.5),
        one(
            "LRN",
            (2, 6, 3, 2),
            lambda x: functional.local_response_norm(x, 5, alpha=0.4, beta=0.75, k=1.0),
            nsize=5,
            alpha=0.4,
            knorm=1.0,
        ),
        one("softmax", (3, 4), lambda x: x.softmax(-1)),
        one("softmax", (3, 4, 2), lambda x: (x / 2.5).softmax(1), axis=1, temperature=2.5),
        one("softmin", (3, 4), lambda x: (-x).softmax(-1)),
        one("log_softmax", (3, 4), lambda x: x.log_softmax(-1)),
        one("log_softmax", (3, 4), lambda x: x.log_softmax(0), axis=0),
        one("SoftmaxActivation", (3, 4, 2), lambda x: x.flatten(1).softmax(1).reshape(x.shape)),
        one("SoftmaxActivation", (3, 4, 2), lambda x: x.softmax(1), mode="channel"),
        Case(
            "softmax_cross_entropy",
            {"data": (3, 4), "label": (3,)},
            lambda x, y: functional.cross_entropy(x, y.long(), reduction="sum").reshape(1),
            {},
            {"label": 4},
        ),
    ]


def creation_cases() -> list[Case]:
    def numbers(*arguments: float) -> Oracle:
        return lambda: torch.arange(*arguments, dtype=torch.float64)

    return [
        Case("_zeros", {}, lambda: torch.zeros(2, 3), {"shape": (2, 3)}),
        Case("_ones", {}, lambda: torch.ones(2, 3), {"shape": (2, 3)}),
        Case("_full", {}, lambda: torch.full((2, 3), 1.5), {"shape": (2, 3), "value": 1.5}),
        Case("_arange", {}, numbers(5), {"start": 5}),
        Case("_arange", {}, numbers(1, 4, 0.5), {"start": 1, "stop": 4, "step": 0.5}),
        Case("_arange", {}, numbers(4, 0, -1.5), {"start": 4, "stop": 0, "step": -1.5}),
        Case("_arange", {}, lambda: torch.arange(3).repeat_interleave(2), {"start": 3, "repeat": 2}),
    ]
