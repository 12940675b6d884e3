"""Cases of reductions and of the operators that rearrange, join and choose elements."""

import torch
from torch.nn import functional

from support.cases import Case, Oracle, Tensor, one


def _normed(x: Tensor, axes: tuple[int, ...] | None, order: int, keepdim: bool = False) -> Tensor:
    result = torch.linalg.vector_norm(x, order, axes, keepdim)
    return result.reshape(1) if result.dim() == 0 else result


def reduction_cases() -> list[Case]:
    cases = []
    for name, oracle in (
        ("sum", torch.sum),
        ("mean", torch.mean),
        ("nansum", torch.nansum),
        ("max", torch.amax),
        ("min", torch.amin),
    ):
        cases += [
            one(name, (3, 4, 5), lambda x, f=oracle: f(x, dim=(0, 1, 2)).reshape(1)),
            one(name, (3, 4, 5), lambda x, f=oracle: f(x, dim=(1,)), axis=1),
            one(
                name,
                (3, 4, 5),
                lambda x, f=oracle: f(x, dim=(0, 2), keepdim=True),
                axis=(0, -1),
                keepdims=True,
            ),
            one(name, (3, 4, 5), lambda x, f=oracle: f(x, dim=(0, 2)), axis=1, exclude=True),
        ]
    cases += [
        one("prod", (3, 4), lambda x: x.prod(1), axis=1),
        one("prod", (3, 4), lambda x: x.prod().reshape(1)),
        one("nanprod", (3, 4), lambda x: x.prod(0, keepdim=True), axis=0, keepdims=True),
        one("norm", (3, 4, 5), lambda x: _normed(x, None, 2)),
        one("norm", (3, 4, 5), lambda x: _normed(x, (1,), 1, True), ord=1, axis=1, keepdims=True),
        Case("cumsum", {"a": (3, 7, 2)}, lambda x: x.cumsum(1), {"axis": 1}),
        Case("cumsum", {"a": (2, 16)}, lambda x: x.cumsum(1), {"axis": -1}),
        Case("cumsum", {"a": (4, 1)}, lambda x: x.cumsum(1), {"axis": 1}),
        Case("cumsum", {"a": (3, 5)}, lambda x: x.flatten().cumsum(0), symbolic=False),
        one("argmax", (3, 4), lambda x: x.argmax(1).double(), gradient=False, axis=1),
        one("argmax", (3, 4), lambda x: x.argmax().double().reshape(1), gradient=False),
        one("argmin", (3, 4), lambda x: x.argmin(0, True).double(), gradient=False, axis=0, keepdims=True),
        one("argmax_channel", (3, 4), lambda x: x.argmax(1).double(), gradient=False),
    ]
    return cases


def shaping_cases() -> list[Case]:
    def shaped(*shape: int) -> Oracle:
        return lambda x: x.reshape(shape)

    return [
        one("Reshape", (2, 3, 4), shaped(4, 6), symbolic=False, shape=(4, 6)),
        one("Reshape", (2, 3, 4), shaped(2, 12), shape=(0, -1)),
        one("Reshape", (2, 3, 4), shaped(2, 3, 4), shape=(-2,)),
        one("Reshape", (2, 3, 4), shaped(6, 4), shape=(-3, 0)),
        one("Reshape", (2, 12), shaped(2, 3, 4), shape=(0, -4, 3, -1)),
        one("Reshape", (2, 3, 4), shaped(1, 2, 3, 4), symbolic=False, shape=(-4, 1, 2, -2)),
        one("Reshape", (10, 5, 4), shaped(50, 4), shape=(-1, 0), reverse=True),
        one("Reshape", (8, 3, 4), shaped(8, 3, 2, 2), shape=(0, 0, -4, 2, 2), reverse=True),
        one("Flatten", (2, 3, 4), shaped(2, 12)),
        Case("reshape_like", {"lhs": (2, 6), "rhs": (2, 3, 2)}, lambda x, y: x.reshape(y.shape)),
        one("transpose", (2, 3, 4), lambda x: x.permute(2, 1, 0)),
        one("transpose", (2, 3, 4), lambda x: x.permute(1, 0, 2), axes=(1, 0, 2)),
        one("SwapAxis", (2, 3, 4), lambda x: x.transpose(0, 2), dim1=0, dim2=2),
        one("expand_dims", (2, 3), lambda x: x.unsqueeze(1), axis=1),
        one("expand_dims", (2, 3), lambda x: x.unsqueeze(-1), axis=-1),
        one("squeeze", (3, 1, 2, 1), lambda x: x.squeeze(), axis=None),
        one("squeeze", (3, 1, 2, 1), lambda x: x.squeeze(1), axis=1),
    ]


def joining_cases() -> list[Case]:
    two = {"arg0": (2, 3, 4), "arg1": (2, 5, 4)}
    same = {"arg0": (2, 3), "arg1": (2, 3)}
    return [
        Case("Concat", two, lambda x, y: torch.cat((x, y), 1)),
        Case("Concat", same, lambda x, y: torch.cat((x, y), 0), {"dim": 0}),
        Case("Concat", {"arg0": (2, 3)}, torch.clone, {"dim": -1}),
        Case("stack", same, lambda x, y: torch.stack((x, y), 1), {"axis": 1}),
        Case("stack", same, lambda x, y: torch.stack((x, y), -1), {"axis": -1}),
        one("SliceChannel", (2, 6, 3), lambda x: x.split(2, 1), num_outputs=3),
        one("SliceChannel", (3, 2), lambda x: x.unbind(1), num_outputs=2, axis=-1, squeeze_axis=True),
        one("SliceChannel", (3, 2), torch.clone, num_outputs=1),
        one("slice", (4, 5, 3), lambda x: x[1:3, 0:4], symbolic=False, begin=(1, 0), end=(3, 4)),
        one("slice", (4, 6), lambda x: x[:, 1:-1], begin=(None, 1), end=(None, -1)),
        one("slice", (4, 7), lambda x: x[:, 1:7:3], begin=(None, 1), end=(None, None), step=(None, 3)),
        one("slice", (2, 7), lambda x: x.flip(1)[:, 1:6:2], begin=(None, 5), end=(None, 0), step=(None, -2)),
        one("slice", (2, 7), lambda x: x.flip(1), begin=(None, None), end=(None, None), step=(None, -1)),
        one("slice_axis", (2, 7), lambda x: x[:, 2:5], axis=1, begin=2, end=5),
        one("slice_axis", (2, 7), lambda x: x[:, -3:], axis=-1, begin=-3),
        Case("slice_like", {"data": (4, 5), "shape_like": (2, 3)}, lambda x, y: x[:2, :3], symbolic=False),
        Case("slice_like", {"data": (4, 5), "shape_like": (2, 3)}, lambda x, y: x[:, :3], {"axes": (1,)}),
        one("tile", (2, 3), lambda x: x.tile(2, 2), reps=(2, 2)),
        one("tile", (2, 3), lambda x: x.tile(3, 1, 2), reps=(3, 1, 2)),
        one("repeat", (2, 3), lambda x: x.repeat_interleave(2), repeats=2),
        one("repeat", (2, 3), lambda x: x.repeat_interleave(3, 1), repeats=3, axis=1),
        one("reverse", (2, 3), lambda x: x.flip(1), axis=1),
        one("broadcast_to", (2, 1, 3), lambda x: x.expand(2, 4, 3), shape=(0, 4, 3)),
        one("broadcast_axis", (2, 1, 3), lambda x: x.expand(2, 4, 3), axis=1, size=4),
        Case("broadcast_like", {"lhs": (2, 1), "rhs": (2, 3)}, lambda x, y: x.expand(2, 3)),
        one(
            "Pad",
            (2, 3),
            lambda x: functional.pad(x, (1, 2), value=0.5),
            mode="constant",
            pad_width=(0, 0, 1, 2),
            constant_value=0.5,
        ),
        one(
            "Pad",
            (2, 2, 4),
            lambda x: functional.pad(x, (2, 1), mode="replicate"),
            mode="edge",
            pad_width=(0, 0, 0, 0, 2, 1),
        ),
        one(
            "Pad",
            (2, 2, 4),
            lambda x: functional.pad(x, (2, 1), mode="reflect"),
            mode="reflect",
            pad_width=(0, 0, 0, 0, 2, 1),
        ),
    ]


def indexing_cases() -> list[Case]:
    def long(x: Tensor) -> Tensor:
        return x.long()

    rows, pairs = {"data": 3}, {"index": 4}
    return [
        Case(
            "Embedding",
            {"data": (2, 5), "weight": (3, 4)},
            lambda x, w: functional.embedding(long(x), w),
            {"input_dim": 3, "output_dim": 4},
            rows,
        ),
        Case(
            "take",
            {"a": (6, 2), "indices": (3, 2)},
            lambda x, i: x[long(i)],
            {},
            {"indices": 6},
            symbolic=False,
        ),
        Case(
            "take",
            {"a": (2, 3), "indices": (4,)},
            lambda x, i: x[:, long(i) % 3],
            {"axis": 1, "mode": "wrap"},
            {"indices": 9},
        ),
        Case(
            "pick",
            {"data": (3, 4), "index": (3,)},
            lambda x, i: x.gather(1, long(i)[:, None])[:, 0],
            {},
            pairs,
        ),
        Case(
            "pick",
            {"data": (4, 3), "index": (1, 3)},
            lambda x, i: x.gather(0, long(i)),
            {"axis": 0, "keepdims": True},
            pairs,
        ),
        Case(
            "pick",
            {"data": (3, 4), "index": (3,)},
            lambda x, i: x.gather(1, (long(i) % 4)[:, None])[:, 0],
            {"mode": "wrap"},
            {"index": 9},
        ),
        Case(
            "one_hot",
            {"indices": (2, 3)},
            lambda i: functional.one_hot(long(i), 5).double() * 3 - 1,
            {"depth": 5, "on_value": 2.0, "off_value": -1.0},
            {"indices": 5},
            gradient=False,
        ),
        Case(
            "where",
            {"condition": (3, 4), "x": (3, 4), "y": (3, 4)},
            lambda c, x, y: torch.where(c != 0, x, y),
            {},
            {"condition": 2},
        ),
        Case(
            "where",
            {"condition": (3,), "x": (3, 4), "y": (3, 4)},
            lambda c, x, y: torch.where(c[:, None] != 0, x, y),
            {},
            {"condition": 2},
        ),
    ]
