"""Kernels as fusion makes them, by hand and for any sizes, with what they must compute."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.ir.graph import Attributes
from graphc.ir.kernel import Affine, AnchorOperation, Guard
from graphc.types import DType, TensorType, dimension
from support.kernels import NestBuilder, make_kernel, types
from support.native_programs import Arrays, Case

Size = Any


def affine(offset: Size = 0, **terms: Size) -> Affine:
    return Affine.make(dimension(offset), [(name, dimension(stride)) for name, stride in terms.items()])


def gelu_residual(rows: Size, columns: Size, name: str = "gelu") -> Case:
    ts = types(
        x=f"f32[{rows},{columns}]",
        bias=f"f32[{columns}]",
        r=f"f32[{rows},{columns}]",
        y=f"f32[{rows},{columns}]",
    )
    b = NestBuilder(ts, i=dimension(rows), j=dimension(columns)).at("gelu", "LeakyReLU", 3)
    z = b.compute("add", b.load("x", "i", "j"), b.load("bias", "j"))
    cubic = b.compute("mul", b.compute("mul", z, z), z)
    t = b.compute(
        "tanh", b.compute("mul", b.compute("add", z, b.compute("mul", cubic, 0.044715)), 0.7978845608)
    )
    half = b.compute("mul", z, 0.5)
    b.store(
        "y",
        ["i", "j"],
        b.compute("add", b.compute("mul", half, b.compute("add", t, 1.0)), b.load("r", "i", "j")),
    )

    def expected(a: Arrays) -> Arrays:
        z = a["x"] + a["bias"]
        return {"y": 0.5 * z * (1 + np.tanh(0.7978845608 * (z + 0.044715 * z**3))) + a["r"]}

    return Case(make_kernel(name, ts, [b], outputs=["y"]), expected)


def softmax(rows: Size, columns: Size, name: str = "softmax") -> Case:
    ts = types(x=f"f32[{rows},{columns}]", y=f"f32[{rows},{columns}]")
    b = NestBuilder(ts, i=dimension(rows), j=("reduce", dimension(columns))).at("softmax0", "softmax", 7)
    x = b.load("x", "i", "j")
    e = b.compute("exp", b.compute("sub", x, b.reduce("max", x)), name="e")
    b.store("y", ["i", "j"], b.compute("div", e, b.reduce("sum", e)))

    def expected(a: Arrays) -> Arrays:
        e = np.exp(a["x"] - a["x"].max(1, keepdims=True))
        return {"y": e / e.sum(1, keepdims=True)}

    return Case(make_kernel(name, ts, [b], outputs=["y"]), expected)


def channel_softmax(batch: Size, channels: Size, width: Size, name: str = "channel_softmax") -> Case:
    """softmax over axis 1 of three: columns, several passes."""
    shape = f"f32[{batch},{channels},{width}]"
    ts = types(x=shape, y=shape)
    b = NestBuilder(ts, i=dimension(batch), k=dimension(width), j=("reduce", dimension(channels)))
    x = b.load("x", "i", "j", "k")
    e = b.compute("exp", b.compute("sub", x, b.reduce("max", x)), name="e")
    b.store("y", ["i", "j", "k"], b.compute("div", e, b.reduce("sum", e)))

    def expected(a: Arrays) -> Arrays:
        e = np.exp(a["x"] - a["x"].max(1, keepdims=True))
        return {"y": e / e.sum(1, keepdims=True)}

    return Case(make_kernel(name, ts, [b], outputs=["y"]), expected)


def layer_norm(rows: Size, columns: Size, name: str = "layer_norm") -> Case:
    shape = f"f32[{rows},{columns}]"
    ts = types(
        x=shape, r=shape, gamma=f"f32[{columns}]", beta=f"f32[{columns}]", y=shape, mean=f"f32[{rows}]"
    )
    b = NestBuilder(ts, i=dimension(rows), j=("reduce", dimension(columns)))
    x = b.compute("add", b.load("x", "i", "j"), b.load("r", "i", "j"))
    count = b.position(affine(columns), DType.F32)
    mean = b.compute("div", b.reduce("sum", x), count, name="mean")
    centred = b.compute("sub", x, mean)
    variance = b.compute("div", b.reduce("sum", b.compute("mul", centred, centred)), count)
    scale = b.compute("rsqrt", b.compute("add", variance, 1e-5))
    y = b.compute("mul", b.compute("mul", centred, scale), b.load("gamma", "j"))
    b.store("y", ["i", "j"], b.compute("add", y, b.load("beta", "j")))
    b.store("mean", ["i"], mean)

    def expected(a: Arrays) -> Arrays:
        x = a["x"] + a["r"]
        y = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5) * a["gamma"] + a["beta"]
        return {"y": y, "mean": x.mean(1)}

    return Case(make_kernel(name, ts, [b], outputs=["y", "mean"]), expected, 1e-5)


def batch_norm(batch: Size, channels: Size, pixels: Size, name: str = "batch_norm") -> Case:
    """Statistics over axes 0 and 2, both moments, moving mean in place, normalised output with ReLU."""
    shape = f"f32[{batch},{channels},{pixels}]"
    ts = types(x=shape, y=shape, moving=f"f32[{channels}]", gamma=f"f32[{channels}]")
    b = NestBuilder(
        ts, ch=dimension(channels), n=("reduce", dimension(batch)), p=("reduce", dimension(pixels))
    )
    x = b.load("x", "n", "ch", "p")
    count = b.position(affine(dimension(batch) * dimension(pixels)), DType.F32)
    mean = b.compute("div", b.reduce("sum", x), count)
    centred = b.compute("sub", x, mean)
    variance = b.compute("div", b.reduce("sum", b.compute("mul", centred, centred)), count)
    scale = b.compute("mul", b.load("gamma", "ch"), b.compute("rsqrt", b.compute("add", variance, 1e-3)))
    b.store("y", ["n", "ch", "p"], b.compute("maximum", b.compute("mul", centred, scale), 0.0))
    kept = b.compute("mul", b.load("moving", "ch"), 0.9)
    b.store("moving", ["ch"], b.compute("add", kept, b.compute("mul", mean, 0.1)))

    def expected(a: Arrays) -> Arrays:
        x = a["x"]
        mean = x.mean((0, 2), keepdims=True)
        y = (x - mean) / np.sqrt(x.var((0, 2), keepdims=True) + 1e-3) * a["gamma"][:, None]
        return {"y": np.maximum(y, 0), "moving": 0.9 * a["moving"] + 0.1 * mean.ravel()}

    return Case(make_kernel(name, ts, [b], outputs=["y"], inouts=["moving"]), expected, 1e-5)


def column_statistics(rows: Size, columns: Size, name: str = "column_statistics") -> Case:
    """sum, mean and max over axis 0 in one nest."""
    ts = types(
        x=f"f32[{rows},{columns}]",
        s=f"f32[{columns}]",
        m=f"f32[{columns}]",
        hi=f"f32[{columns}]",
        arg=f"i64[{columns}]",
    )
    b = NestBuilder(ts, j=dimension(columns), i=("reduce", dimension(rows)))
    x = b.load("x", "i", "j")
    total = b.reduce("sum", x)
    b.store("s", ["j"], total)
    b.store("m", ["j"], b.compute("div", total, b.position(affine(rows), DType.F32)))
    b.store("hi", ["j"], b.reduce("max", x))
    b.store("arg", ["j"], b.reduce("argmax", x))

    def expected(a: Arrays) -> Arrays:
        x = a["x"]
        return {"s": x.sum(0), "m": x.mean(0), "hi": x.max(0), "arg": x.argmax(0)}

    return Case(make_kernel(name, ts, [b], outputs=["s", "m", "hi", "arg"]), expected, 5e-6)


def row_statistics(rows: Size, columns: Size, name: str = "row_statistics") -> Case:
    """Every reduction along a row."""
    outs = {"s": "f32", "p": "f32", "hi": "f32", "lo": "f32", "amax": "i64", "amin": "i64", "any": "bool"}
    ts = types(x=f"f32[{rows},{columns}]", **{key: f"{dtype}[{rows}]" for key, dtype in outs.items()})
    b = NestBuilder(ts, i=dimension(rows), j=("reduce", dimension(columns)))
    x = b.load("x", "i", "j")
    b.store("s", ["i"], b.reduce("sum", x))
    b.store("p", ["i"], b.reduce("prod", b.compute("tanh", x)))
    b.store("hi", ["i"], b.reduce("max", x))
    b.store("lo", ["i"], b.reduce("min", x))
    b.store("amax", ["i"], b.reduce("argmax", x))
    b.store("amin", ["i"], b.reduce("argmin", x))
    b.store("any", ["i"], b.reduce("any", b.compute("gt", x, 2.0)))

    def expected(a: Arrays) -> Arrays:
        x = a["x"]
        return {
            "s": x.sum(1), "p": np.tanh(x).prod(1), "hi": x.max(1), "lo": x.min(1), "amax": x.argmax(1),
            "amin": x.argmin(1), "any": (x > 2).any(1),
        }  # fmt: skip

    return Case(make_kernel(name, ts, [b], outputs=list(outs)), expected, 5e-6)


def total(shape: tuple[Size, ...], name: str = "total") -> Case:
    """Mean of squares over everything: one output."""
    axes = {f"r{k}": ("reduce", dimension(size)) for k, size in enumerate(shape)}
    ts = types(x=f"f32[{','.join(map(str, shape))}]", y="f32[]")
    b = NestBuilder(ts, **axes)
    x = b.load("x", *axes)
    count: Any = 1
    for size in shape:
        count = count * dimension(size)
    b.store(
        "y",
        [],
        b.compute("div", b.reduce("sum", b.compute("mul", x, x)), b.position(affine(count), DType.F32)),
    )
    return Case(make_kernel(name, ts, [b], outputs=["y"]), lambda a: {"y": (a["x"] ** 2).mean()}, 5e-6)


def cross_entropy(rows: Size, columns: Size, name: str = "cross_entropy") -> Case:
    """Softmax cross-entropy with gradient: loss a row, and softmax minus one-hot."""
    ts = types(
        x=f"f32[{rows},{columns}]", label=f"i64[{rows}]", loss=f"f32[{rows}]", dx=f"f32[{rows},{columns}]"
    )
    b = NestBuilder(ts, i=dimension(rows), j=("reduce", dimension(columns)))
    x = b.load("x", "i", "j")
    centred = b.compute("sub", x, b.reduce("max", x))
    e = b.compute("exp", centred, name="e")
    total = b.reduce("sum", e)
    hit = b.compute("eq", b.position(affine(j=1)), b.load("label", "i"))
    own = b.reduce("sum", b.compute("where", hit, centred, 0.0))
    b.store("loss", ["i"], b.compute("sub", b.compute("log", total), own))
    one_hot = b.compute("cast", hit, dtype=DType.F32)
    b.store("dx", ["i", "j"], b.compute("sub", b.compute("div", e, total), one_hot))

    def expected(a: Arrays) -> Arrays:
        x, label = a["x"], a["label"]
        z = x - x.max(1, keepdims=True)
        p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
        hot = (np.arange(x.shape[1]) == label[:, None]).astype(float)
        return {"loss": np.log(np.exp(z).sum(1)) - (z * hot).sum(1), "dx": p - hot}

    return Case(make_kernel(name, ts, [b], outputs=["loss", "dx"]), expected, 1e-5)


def sgd_updates(sizes: tuple[Size, ...], name: str = "sgd") -> Case:
    """Momentum updates of several parameters, one nest each, all in place."""
    ts = types(lr="f32[]")
    nests = []
    for k, size in enumerate(sizes):
        ts |= types(**{f"w{k}": f"f32[{size}]", f"g{k}": f"f32[{size}]", f"m{k}": f"f32[{size}]"})
        b = NestBuilder(ts, i=dimension(size))
        step = b.compute("mul", b.load(f"g{k}", "i"), b.load("lr"))
        m = b.compute("sub", b.compute("mul", b.load(f"m{k}", "i"), 0.9), step)
        b.store(f"m{k}", ["i"], m)
        b.store(f"w{k}", ["i"], b.compute("add", b.load(f"w{k}", "i"), m))
        nests.append(b)

    def expected(a: Arrays) -> Arrays:
        results: Arrays = {}
        for k in range(len(sizes)):
            results[f"m{k}"] = 0.9 * a[f"m{k}"] - a["lr"] * a[f"g{k}"]
            results[f"w{k}"] = a[f"w{k}"] + results[f"m{k}"]
        return results

    inouts = [f"{letter}{k}" for k in range(len(sizes)) for letter in "wm"]
    return Case(make_kernel(name, ts, nests, inouts=inouts), expected)


def transpose_scale(rows: Size, columns: Size, name: str = "transpose_scale") -> Case:
    ts = types(x=f"f32[{rows},{columns}]", r=f"f32[{columns},{rows}]", y=f"f32[{columns},{rows}]")
    b = NestBuilder(ts, i=dimension(columns), j=dimension(rows))
    b.store(
        "y",
        ["i", "j"],
        b.compute("add", b.compute("mul", b.load("x", "j", "i"), 0.125), b.load("r", "i", "j")),
    )
    return Case(make_kernel(name, ts, [b], outputs=["y"]), lambda a: {"y": a["x"].T * 0.125 + a["r"]})


def heads_transpose(batch: Size, length: Size, heads: Size, width: Size, name: str = "heads") -> Case:
    """transpose (0, 2, 1, 3) + scale + add."""
    out = f"f32[{batch},{heads},{length},{width}]"
    ts = types(x=f"f32[{batch},{length},{heads},{width}]", r=out, y=out)
    b = NestBuilder(ts, n=dimension(batch), h=dimension(heads), s=dimension(length), d=dimension(width))
    x = b.load("x", "n", "s", "h", "d")
    b.store(
        "y",
        ["n", "h", "s", "d"],
        b.compute("add", b.compute("mul", x, 0.125), b.load("r", "n", "h", "s", "d")),
    )
    return Case(
        make_kernel(name, ts, [b], outputs=["y"]),
        lambda a: {"y": a["x"].transpose(0, 2, 1, 3) * 0.125 + a["r"]},
    )


def max_pool(
    images: Size, height: int, width: int, kernel: int, stride: int, pad: int, name: str = "max_pool"
) -> Case:
    """Values and positions, with padding guards."""
    oh, ow = ((size + 2 * pad - kernel) // stride + 1 for size in (height, width))
    ts = types(
        x=f"f32[{images},{height},{width}]", y=f"f32[{images},{oh},{ow}]", at=f"u8[{images},{oh},{ow}]"
    )
    b = NestBuilder(ts, n=dimension(images), p=oh, q=ow, k=("reduce", kernel), m=("reduce", kernel))
    h, w = affine(-pad, p=stride, k=1), affine(-pad, q=stride, m=1)
    guards = (Guard(h, 0, height), Guard(w, 0, width)) if pad else ()
    x = b.load("x", "n", h, w, guards=guards, other=-np.inf)
    b.store("y", ["n", "p", "q"], b.reduce("max", x))
    b.store("at", ["n", "p", "q"], b.reduce("argmax", x))

    def expected(a: Arrays) -> Arrays:
        padded = np.pad(a["x"], ((0, 0), (pad, pad), (pad, pad)), constant_values=-np.inf)
        windows = np.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel), (1, 2))[
            :, ::stride, ::stride
        ]
        flat = windows.reshape(*windows.shape[:3], -1)[:, :oh, :ow]
        return {"y": flat.max(-1), "at": flat.argmax(-1)}

    return Case(make_kernel(name, ts, [b], outputs=["y", "at"]), expected)


def pad_concat(rows: Size, left: int, right: int, name: str = "pad_concat") -> Case:
    """concat along axis 1, each part with its guard, and a store that only the interior does."""
    width = left + right
    ts = types(a=f"f32[{rows},{left}]", b=f"f32[{rows},{right}]", y=f"f32[{rows},{width}]")
    b = NestBuilder(ts, i=dimension(rows), j=width)
    first = Guard(affine(j=1), 0, left)
    second = Guard(affine(-left, j=1), 0, right)
    x = b.load("a", "i", "j", guards=(first,))
    z = b.load("b", "i", affine(-left, j=1), guards=(second,))
    inside = b.compute("lt", b.position(affine(j=1)), left)
    b.store("y", ["i", "j"], b.compute("where", inside, x, z))
    return Case(
        make_kernel(name, ts, [b], outputs=["y"]), lambda a: {"y": np.concatenate([a["a"], a["b"]], 1)}
    )


def embedding(count: Size, vocabulary: int, width: Size, name: str = "embedding") -> Case:
    """Rows chosen by clipped indices."""
    ts = types(table=f"f32[{vocabulary},{width}]", ids=f"i32[{count}]", y=f"f32[{count},{width}]")
    b = NestBuilder(ts, i=dimension(count), j=dimension(width))
    row = b.compute("cast", b.load("ids", "i"), dtype=DType.I64)
    row = b.compute("minimum", b.compute("maximum", row, 0), vocabulary - 1, name="row")
    b.store("y", ["i", "j"], b.load("table", affine(**{row: 1}), "j"))
    return Case(
        make_kernel(name, ts, [b], outputs=["y"]),
        lambda a: {"y": a["table"][np.clip(a["ids"], 0, vocabulary - 1)]},
    )


def half_precision(rows: Size, columns: Size, dtype: str = "f16", name: str = "half") -> Case:
    ts = types(x=f"{dtype}[{rows},{columns}]", y=f"{dtype}[{rows},{columns}]", s=f"f32[{rows}]")
    b = NestBuilder(ts, i=dimension(rows), j=("reduce", dimension(columns)))
    x = b.load("x", "i", "j")
    s = b.reduce("sum", x)
    b.store("s", ["i"], s)
    b.store("y", ["i", "j"], b.compute("add", x, s))

    def expected(a: Arrays) -> Arrays:
        s = a["x"].sum(1)
        return {"s": s, "y": a["x"] + s[:, None]}

    return Case(make_kernel(name, ts, [b], outputs=["y", "s"]), expected, 2e-3)


def dense(
    m: Size,
    n: Size,
    k: Size,
    transpose_a: bool,
    transpose_b: bool,
    dtype: str = "f32",
    batch: tuple[Size, ...] = (),
    name: str = "dense",
) -> Case:
    """A product with bias and ReLU as epilogue, and its row scaled into a second output."""

    def show(*dims: Size) -> str:
        return f"{dtype}[{','.join(map(str, (*batch, *dims)))}]"

    ts = types(
        a=show(*((k, m) if transpose_a else (m, k))),
        b=show(*((n, k) if transpose_b else (k, n))),
        bias=f"{dtype}[{n}]",
        y=show(m, n),
        z=show(m, n),
    )
    axes = {f"b{index}": dimension(size) for index, size in enumerate(batch)} | {
        "i": dimension(m),
        "j": dimension(n),
    }
    b = NestBuilder(ts, **axes)
    accumulator = DType.of(dtype).compute
    total = b.compute("add", b.anchor(accumulator), b.load("bias", "j"))
    b.store("y", list(axes), b.compute("maximum", total, 0.0))
    b.store("z", list(axes), b.compute("mul", total, b.position(affine(i=1), accumulator)))
    anchor = AnchorOperation(
        "dot",
        ("a", "b"),
        Attributes({"transpose_a": transpose_a, "transpose_b": transpose_b}),
        ts["y"],
        accumulator,
    )

    def expected(a: Arrays) -> Arrays:
        left = a["a"].swapaxes(-1, -2) if transpose_a else a["a"]
        right = a["b"].swapaxes(-1, -2) if transpose_b else a["b"]
        total = left @ right + a["bias"]
        return {"y": np.maximum(total, 0), "z": total * np.arange(total.shape[-2])[:, None]}

    tolerance = {"f32": 2e-5, "f64": 1e-12, "f16": 5e-3}[dtype]
    return Case(make_kernel(name, ts, [b], outputs=["y", "z"], anchor=anchor), expected, tolerance)


def convolution(
    which: str, batch: Size, channels: int, filters: int, size: tuple[int, ...], kernel: tuple[int, ...], stride: int,
    pad: int, dilate: int, groups: int, dtype: str = "f32", plain: bool = True, name: str = "conv",
) -> Case:  # fmt: skip
    """A convolution or one of its gradients, with an epilogue that scales by channel; `plain` stores row-major."""
    import torch

    rank = len(size)
    out = tuple((n + 2 * pad - dilate * (k - 1) - 1) // stride + 1 for n, k in zip(size, kernel, strict=True))
    x, w, y = (batch, channels, *size), (filters, channels // groups, *kernel), (batch, filters, *out)
    operands, result = {"": ((x, w), y), "_data_gradient": ((y, w), x), "_weight_gradient": ((x, y), w)}[
        which
    ]
    kind = DType.of(dtype).compute

    def show(dims: tuple[Size, ...]) -> str:
        return f"{dtype}[{','.join(map(str, dims))}]"

    stored = result if plain else (*result[:2], *reversed(result[2:]))
    ts = types(a=show(operands[0]), b=show(operands[1]), s=show(result[1:2]), y=show(stored))
    axes = {f"i{k}": dimension(extent) for k, extent in enumerate(result)}
    builder = NestBuilder(ts, **axes)
    value = builder.compute("mul", builder.anchor(kind), builder.load("s", "i1"))
    place = list(axes) if plain else ["i0", "i1", *reversed(list(axes)[2:])]
    builder.store("y", place, value)
    geometry = {
        "stride": (stride,) * rank,
        "pad": (pad,) * rank,
        "dilate": (dilate,) * rank,
        "groups": groups,
    }
    shape = {} if not which else {"shape": tuple(map(dimension, result))}
    anchor = AnchorOperation(
        f"convolution{which}",
        ("a", "b"),
        Attributes({**geometry, **shape}),
        TensorType.parse(show(result)),
        kind,
    )

    def expected(a: Arrays) -> Arrays:
        left, right = (torch.from_numpy(np.asarray(a[key])).double() for key in "ab")
        function = {
            1: torch.nn.functional.conv1d,
            2: torch.nn.functional.conv2d,
            3: torch.nn.functional.conv3d,
        }[rank]
        image = torch.zeros(
            x if which == "_data_gradient" else left.shape, dtype=torch.double, requires_grad=True
        )
        weight = torch.zeros(w, dtype=torch.double, requires_grad=True)
        with torch.no_grad():
            if which != "_data_gradient":
                image.copy_(left)
            if which != "_weight_gradient":
                weight.copy_(right)
        value = function(image, weight, None, stride, pad, dilate, groups)
        if which == "_data_gradient":
            value = torch.autograd.grad(value, image, left)[0]
        elif which == "_weight_gradient":
            value = torch.autograd.grad(value, weight, right)[0]
        scaled = value.detach().numpy() * a["s"].reshape(1, -1, *(1,) * rank)
        return {"y": scaled if plain else scaled.transpose(0, 1, *reversed(range(2, 2 + rank)))}

    return Case(
        make_kernel(name, ts, [builder], outputs=["y"], anchor=anchor),
        expected,
        2e-5 if dtype == "f32" else 2e-2,
    )


def scatter(
    outer: Size,
    count: Size,
    width: Size,
    rows: int,
    dtype: str = "f32",
    scaled: bool = True,
    name: str = "scatter",
) -> Case:
    """Slices added along the middle axis at clipped indices, then scaled (or stored as they are)."""
    ts = types(
        at=f"i32[{count}]",
        x=f"{dtype}[{outer},{count},{width}]",
        y=f"{dtype}[{outer},{rows},{width}]",
        **({"s": f"{dtype}[{rows}]"} if scaled else {}),
    )
    builder = NestBuilder(ts, o=dimension(outer), r=rows, w=dimension(width))
    value = builder.anchor(DType.of(dtype).compute)
    if scaled:
        value = builder.compute("mul", value, builder.load("s", "r"))
    builder.store("y", ["o", "r", "w"], value)
    anchor = AnchorOperation(
        "scatter_add", ("at", "x"), Attributes({"axis": 1, "size": rows}), ts["y"], DType.of(dtype).compute
    )

    def expected(a: Arrays) -> Arrays:
        total = np.zeros((a["x"].shape[0], rows, a["x"].shape[2]))
        for position, row in enumerate(np.clip(a["at"], 0, rows - 1)):
            total[:, row] += a["x"][:, position]
        return {"y": total * a["s"][:, None] if scaled else total}

    return Case(
        make_kernel(name, ts, [builder], outputs=["y"], anchor=anchor),
        expected,
        1e-5 if dtype == "f32" else 1e-2,
    )


def two_halves(rows: Size, half: int, dtype: str = "f32", name: str = "two_halves") -> Case:
    """One nest that stores to both halves of one buffer."""
    ts = types(x=f"{dtype}[{rows},{half}]", y=f"{dtype}[{rows},{2 * half}]")
    b = NestBuilder(ts, i=dimension(rows), j=half)
    x = b.load("x", "i", "j")
    b.store("y", ["i", "j"], x)
    b.store("y", ["i", affine(half, j=1)], b.compute("add", x, 1))
    return Case(
        make_kernel(name, ts, [b], outputs=["y"]), lambda a: {"y": np.concatenate([a["x"], a["x"] + 1], 1)}
    )
