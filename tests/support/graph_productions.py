"""Productions of random graphs: each picks values from the pool and adds what it makes of them."""

from __future__ import annotations

import math
from collections.abc import Callable

from graphc.ir.graph import InputKind, Origin, Value
from graphc.primitives.builder import Builder
from graphc.types import DType, TensorType, product, same_dim
from support.graph_pool import LARGEST, Pool

# Unary primitives by name: (operand from a value of |x| <= bound, bound of the result)
_UNARY: dict[str, Callable[[Builder, Value, float], tuple[Value, float]]] = {
    "neg": lambda b, x, k: (x, k),
    "abs": lambda b, x, k: (x, k),
    "exp": lambda b, x, k: (b.mul(x, 1 / k), math.e),
    "expm1": lambda b, x, k: (b.mul(x, 1 / k), math.e),
    "log": lambda b, x, k: (b.add(b.abs(x), 0.5), math.log(k + 0.5) + 0.7),
    "log1p": lambda b, x, k: (b.abs(x), math.log1p(k)),
    "sqrt": lambda b, x, k: (b.add(b.abs(x), 0.125), math.sqrt(k + 0.125)),
    "rsqrt": lambda b, x, k: (b.add(b.mul(x, x), 0.25), 2.0),
    "cbrt": lambda b, x, k: (b.sub(-0.125, b.abs(x)), (k + 0.125) ** (1 / 3)),
    "sin": lambda b, x, k: (x, 1.0),
    "cos": lambda b, x, k: (x, 1.0),
    "tan": lambda b, x, k: (b.mul(x, 1 / k), math.tan(1.0)),
    "asin": lambda b, x, k: (b.mul(x, 0.9 / k), 1.2),
    "acos": lambda b, x, k: (b.mul(x, 0.9 / k), 2.8),
    "atan": lambda b, x, k: (x, 1.6),
    "sinh": lambda b, x, k: (b.mul(x, 1 / k), 1.2),
    "cosh": lambda b, x, k: (b.mul(x, 1 / k), 1.6),
    "tanh": lambda b, x, k: (x, 1.0),
    "asinh": lambda b, x, k: (x, math.asinh(k)),
    "acosh": lambda b, x, k: (b.add(b.abs(x), 1.25), math.acosh(k + 1.25)),
    "atanh": lambda b, x, k: (b.mul(x, 0.9 / k), 1.5),
    "erf": lambda b, x, k: (x, 1.0),
    "sigmoid": lambda b, x, k: (x, 1.0),
}
_STEPS = ("floor", "ceil", "round", "trunc", "sign")
_COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge")


class Productions(Pool):
    """One method a kind of production."""

    def elementwise(self) -> None:
        choice = self.rng.random()
        if choice < 0.35:
            x = self.pick()
            name = self.rng.choice(list(_UNARY))
            operand, bound = _UNARY[name](self.b, x, self.bound(x))
            self.add(
                getattr(self.b, name)(operand), bound, exact=name in ("neg", "abs") and x.name in self.exact
            )
        elif choice < 0.45:
            x = self.exact_value()
            self.add(getattr(self.b, self.rng.choice(_STEPS))(x), self.bound(x) + 1, exact=True)
        elif choice < 0.85:
            self.binary()
        else:
            self.activation()

    def binary(self) -> None:
        b, x = self.b, self.pick()
        y = self.partner(x) if self.rng.random() < 0.75 else self.rng.choice((0.5, 1.0, -0.25, 2.0))
        k = self.bound(x)
        m = self.bound(y) if isinstance(y, Value) else abs(y)
        exact = x.name in self.exact and (not isinstance(y, Value) or y.name in self.exact)
        match self.rng.choice(
            ("add", "add", "sub", "mul", "mul", "div", "maximum", "minimum", "pow", "atan2", "mod")
        ):
            case "add" | "sub" as name:
                self.add(getattr(b, name)(x, y), k + m, exact and k + m <= LARGEST)
            case "mul":
                self.add(b.mul(x, y), k * m)
            case "div":
                self.add(
                    b.div(x, b.add(b.abs(y), 1.0))
                    if isinstance(y, Value)
                    else b.div(y, b.add(b.abs(x), 1.0)),
                    k + m,
                )
            case "maximum" | "minimum" as name:
                self.add(getattr(b, name)(x, y), max(k, m), exact)
            case "pow":
                self.add(
                    b.pow(b.add(b.abs(x), 0.5), self.rng.choice((2.0, 0.5, -1.0, 3.0))),
                    max((k + 0.5) ** 3, 2.0),
                )
            case "atan2":
                self.add(b.atan2(x, b.add(b.abs(x), 0.5)), 1.6)
            case "mod":
                self.add(b.mod(self.exact_value(), self.rng.choice((0.75, -1.25, 0.5))), 1.25, exact=True)

    def activation(self) -> None:
        b, x = self.b, self.pick()
        k = self.bound(x)
        match self.rng.choice(("relu", "leaky", "gelu", "tanh_gelu", "silu", "clip", "softplus")):
            case "relu":
                self.add(b.maximum(x, 0.0), k, exact=x.name in self.exact)
            case "leaky":
                self.add(b.where(b.gt(x, 0.0), x, b.mul(x, 0.25)), k)
            case "gelu":
                self.add(b.mul(b.mul(x, 0.5), b.add(b.erf(b.mul(x, math.sqrt(0.5))), 1.0)), k)
            case "tanh_gelu":
                inner = b.mul(b.add(x, b.mul(b.mul(x, b.mul(x, x)), 0.044715)), 0.7978845608)
                self.add(b.mul(b.mul(x, 0.5), b.add(b.tanh(inner), 1.0)), k)
            case "silu":
                self.add(b.mul(x, b.sigmoid(x)), k)
            case "clip":
                self.add(b.minimum(b.maximum(x, -0.75), 1.5), 1.5, exact=x.name in self.exact)
            case "softplus":
                self.add(b.add(b.maximum(x, 0.0), b.log1p(b.exp(b.neg(b.abs(x))))), k + 0.7)

    def axes(self, x: Value) -> list[int]:
        rank = x.type.rank
        return sorted(self.rng.sample(range(rank), self.rng.choice((1, 1, rank))))

    def reduction(self) -> None:
        b, x = self.b, self.of_rank(1, 2, 3, 4)
        axes, k = self.axes(x), self.bound(x)
        count = self.count([x.type.shape[axis] for axis in axes])
        keep = self.rng.random() < 0.6
        match self.rng.choice(("sum", "mean", "max", "min", "prod", "several")):
            case "sum":
                result = b.mul(b.sum(x, axes, keep), 1.0 / count)
            case "mean":
                result = b.mean(x, axes, keep)
            case "max" | "min" as name:
                result = b.reduce(f"reduce_{name}", x, axes, keep)
            case "prod":
                result = b.reduce("reduce_prod", b.add(b.mul(x, 0.5 / (k * count)), 1.0), axes, keep)
            case _:
                low, high = b.reduce("reduce_min", x, axes, keep), b.reduce("reduce_max", x, axes, keep)
                self.add(b.sub(b.mean(x, axes, keep), low), 2 * k)
                result = b.sub(high, low)
        self.add(result, 2 * k + 2)
        if keep:
            self.add(b.sub(x, result), 3 * k + 2)

    def normalization(self) -> None:
        b, x = self.b, self.of_rank(2, 3, 4)
        k, axes = self.bound(x), [x.type.rank - 1] if self.rng.random() < 0.7 else self.axes(x)
        match self.rng.choice(("softmax", "log_softmax", "layer_norm", "layer_norm", "rms_norm")):
            case "softmax" | "log_softmax" as name:
                shifted = b.sub(x, b.reduce("reduce_max", x, axes, keepdims=True))
                total = b.sum(b.exp(shifted), axes, keepdims=True)
                self.add(
                    b.div(b.exp(shifted), total) if name == "softmax" else b.sub(shifted, b.log(total)),
                    2 * k + 8,
                )
            case "layer_norm":
                centered = b.sub(x, b.mean(x, axes, keepdims=True))
                variance = b.mean(b.mul(centered, centered), axes, keepdims=True)
                normal = b.mul(centered, b.rsqrt(b.add(variance, 0.1)))
                self.add(
                    b.add(
                        b.mul(normal, self.parameter(x.type.shape[-1:])), self.parameter(x.type.shape[-1:])
                    ),
                    12 * k,
                )
            case _:
                square = b.mean(b.mul(x, x), axes, keepdims=True)
                self.add(b.mul(x, b.rsqrt(b.add(square, 0.1))), 4 * k)

    def shape(self) -> None:
        b, x = self.b, self.of_rank(1, 2, 3, 4)
        dims, rank, keep = x.type.shape, x.type.rank, x.name in self.exact
        match self.rng.choice(
            ("transpose", "reshape", "reshape", "slice", "pad", "reverse", "broadcast", "squeeze")
        ):
            case "transpose":
                result = b.transpose(x, self.rng.sample(range(rank), rank))
            case "reshape":
                cut = self.rng.randint(0, rank - 1)
                merged = [*dims[:cut], product(dims[cut : cut + 2]), *dims[cut + 2 :]]
                result = b.reshape(x, merged)
            case "slice":
                axis = self.rng.randrange(rank)
                size = dims[axis]
                start = self.rng.randrange(size) if isinstance(size, int) else 0
                stop = self.rng.randint(start + 1, size) if isinstance(size, int) else size
                result = b.slice_axis(x, axis, start, stop)
            case "pad":
                low, high = ([self.rng.choice((0, 0, 1, 2)) for _ in dims] for _ in range(2))
                result = b.emit("pad", x, low=low, high=high, value=self.rng.choice((0.0, 1.0, -0.5)))
            case "reverse":
                result = b.emit("reverse", x, axes=self.axes(x))
            case "broadcast":
                result = b.broadcast(x, [self.rng.randint(2, 4), *dims], range(1, rank + 1))
            case _:
                expanded = b.reshape(x, [1, *dims])
                result = b.reshape(b.mul(expanded, 2.0), [*dims, 1])
                keep = False
        self.add(result, 2 * self.bound(x), keep)

    def join(self) -> None:
        """Split along an axis and join the changed parts, or join values that agree but for the axis."""
        b, x = self.b, self.of_rank(1, 2, 3, 4)
        axis = self.rng.randrange(x.type.rank)
        size = x.type.shape[axis]
        if isinstance(size, int) and size > 1 and self.rng.random() < 0.5:
            cut = self.rng.randint(1, size - 1)
            parts = [b.slice_axis(x, axis, cut, size), b.tanh(b.slice_axis(x, axis, 0, cut))]
        else:
            same = [v for v in self.floats if v.type.rank == x.type.rank]
            others = [
                v
                for v in same
                if all(
                    k == axis or same_dim(*d)
                    for k, d in enumerate(zip(v.type.shape, x.type.shape, strict=True))
                )
            ]
            parts = [x, *self.rng.choices(others, k=self.rng.randint(1, 2))]
        self.add(
            b.emit("concat", *parts, axis=axis),
            max(self.bound(x), *(self.bounds.get(v.name, 1.0) for v in parts)),
        )

    def indexing(self) -> None:
        b, dtype = self.b, self.rng.choice((DType.I32, DType.I64))
        if self.rng.random() < 0.5:
            table = self.parameter([self.size(), self.size()])
            indices = self.input([self.batch, *[3][: self.rng.randint(0, 1)]], dtype)
            self.add(b.emit("gather", table, indices, axis=0), 2.0, exact=True)
            return
        x = self.of_rank(1, 2, 3, 4)
        axis = self.rng.randrange(x.type.rank)
        if self.rng.random() < 0.5:
            indices = self.input([self.rng.randint(1, 4)], dtype)
            self.add(b.emit("gather", x, indices, axis=axis), self.bound(x), x.name in self.exact)
        else:
            indices = self.input([x.type.shape[axis]], dtype)
            total = self.bound(x) * self.count([x.type.shape[axis]])
            self.add(b.emit("scatter_add", indices, x, axis=axis, size=self.rng.randint(1, 9)), total)

    def dot(self) -> None:
        b, x = self.b, self.of_rank(2, 3)
        k = self.bound(x)
        if x.type.rank == 3 and self.rng.random() < 0.6:
            flip = self.rng.random() < 0.5
            inner = x.type.shape[1 if flip else 2]
            self.add(b.emit("dot", x, x, transpose_a=flip, transpose_b=not flip), k * k * self.count([inner]))
            return
        rows = b.reshape(x, [product(x.type.shape[:-1]), x.type.shape[-1]])
        inner, columns, transposed = x.type.shape[-1], self.size(), self.rng.random() < 0.5
        weight = self.parameter([columns, inner] if transposed else [inner, columns])
        result = b.emit("dot", rows, weight, transpose_b=transposed)
        self.epilogue(result, 2 * k * self.count([inner]), axis=1)

    def epilogue(self, x: Value, bound: float, axis: int) -> None:
        """Scale, bias along an axis, and an activation."""
        b = self.b
        x = b.mul(x, 1.0 / max(bound, 1.0))
        if self.rng.random() < 0.7:
            bias = self.parameter([x.type.shape[axis]])
            x = b.add(x, b.broadcast(bias, x.type.shape, [axis]))
        if self.rng.random() < 0.7:
            x = self.rng.choice((b.tanh, b.sigmoid, b.sin, lambda v: b.maximum(v, 0.0)))(x)
        self.add(x, 3.0)

    def image(self) -> Value:
        """A value [N, C, spatial ...] with one or two spatial axes."""
        return self.of_rank(3, 4)

    def convolution(self) -> None:
        b, x = self.b, self.image()
        channels, spatial = x.type.shape[1], x.type.shape[2:]
        if not all(isinstance(dim, int) for dim in x.type.shape[1:]):
            x = self.input([self.batch, 2, 5, 6])
            channels, spatial = 2, (5, 6)
        groups = channels if self.rng.random() < 0.2 else 1
        filters = groups * self.rng.randint(1, 3)
        kernel = [self.rng.randint(1, min(3, size)) for size in spatial]
        weight = self.parameter([filters, channels // groups, *kernel])
        stride, pad = ([self.rng.randint(low, low + 1) for _ in kernel] for low in (1, 0))
        dilate = [
            self.rng.randint(1, 2) if size + 2 * p >= 2 * (k - 1) + 1 else 1
            for size, p, k in zip(spatial, pad, kernel, strict=True)
        ]
        geometry = {"stride": stride, "pad": pad, "dilate": dilate}
        terms = self.count(weight.type.shape[1:]) * 2 * self.bound(x)
        choice = self.rng.random()
        if groups == 1 and choice > 0.85:
            last = b.transpose(x, [0, *range(2, x.type.rank), 1])
            self.epilogue(
                b.emit("channels_last_convolution", last, weight, **geometry), terms, x.type.rank - 1
            )
            return
        geometry["groups"] = groups
        result = b.emit("convolution", x, weight, **geometry)
        if choice < 0.15:
            data = b.emit("convolution_data_gradient", result, weight, shape=x.type.shape, **geometry)
            self.add(b.mul(data, 1 / terms), 2.0 * self.count(weight.type.shape) * 1.0)
        elif choice < 0.3:
            scaled = b.mul(result, 1 / terms)
            weight_gradient = b.emit(
                "convolution_weight_gradient", x, scaled, shape=weight.type.shape, **geometry
            )
            self.add(
                weight_gradient, self.bound(x) * self.count([result.type.shape[0], *result.type.shape[2:]])
            )
        else:
            self.epilogue(result, terms, axis=1)

    def pool(self) -> None:
        b, x = self.b, self.of_rank(2, 3, 4)
        spatial = x.type.shape[2:] if x.type.rank > 2 else x.type.shape[1:]
        kernel = [self.rng.randint(1, min(3, self.count([size]))) for size in spatial]
        # Symbolic sizes may be 1.
        kernel = [k if isinstance(size, int) else 1 for k, size in zip(kernel, spatial, strict=True)]
        geometry = {
            "kernel": kernel,
            "stride": [self.rng.randint(1, 3) for _ in kernel],
            "pad_low": [self.rng.randint(0, k - 1) for k in kernel],
            "pad_high": [self.rng.randint(0, k - 1) for k in kernel],
        }
        k, area = self.bound(x), self.count(kernel)
        match self.rng.choice(("max", "max", "mean", "max_backward", "mean_backward")):
            case "mean":
                self.add(b.mul(b.emit("window_sum", x, **geometry), 1 / area), k)
            case "mean_backward":
                y = b.emit("window_sum", x, **geometry)
                self.add(b.emit("window_sum_transpose", y, shape=x.type.shape, **geometry), k * area * area)
            case choice:
                y, index = b.emit_all("max_pool", x, **geometry)
                if choice == "max_backward":
                    gradient = b.emit("window_scatter", b.tanh(y), index, shape=x.type.shape, **geometry)
                    self.add(gradient, float(area))
                    # The same x decides, so the choice is the same however x was rounded; twice x gives twice y.
                    y = b.emit("window_gather", b.mul(x, 2.0), index, **geometry)
                self.add(y, 2 * k)

    def logic(self) -> None:
        b, x = self.b, self.exact_value()
        y = self.rng.choice((0.5, 0.0, x))
        truth = getattr(b, self.rng.choice(_COMPARISONS))(
            x, y if isinstance(y, float) else b.mul(b.neg(x), 0.5)
        )
        if self.rng.random() < 0.5:
            other = self.input(x.type.shape[self.rng.randint(0, x.type.rank) :], DType.BOOL)
            name = self.rng.choice(("logical_and", "logical_or", "logical_xor"))
            truth = getattr(b, name)(b.logical_not(truth), other)
        self.add_other(truth if self.rng.random() < 0.8 else b.logical_xor(truth, b.is_nan(self.partner(x))))
        if self.rng.random() < 0.3 and truth.type.rank:
            self.add_other(b.emit("reduce_any", truth, axes=self.axes(truth)))
        self.add(b.where(truth, x, b.mul(x, -0.5)), self.bound(x))
        self.add(b.cast(truth, DType.F32), 1.0, exact=True)

    def integer(self) -> None:
        b, x = self.b, self.exact_value()
        dtype = self.rng.choice((DType.I32, DType.I64, DType.I16, DType.I8))
        whole = b.cast(b.mul(x, 4.0), dtype)
        match self.rng.choice(("arithmetic", "argmax", "iota", "sum")):
            case "argmax" if x.type.rank:
                name, axis = self.rng.choice(("argmax", "argmin")), self.rng.randrange(x.type.rank)
                whole = b.emit(name, x, axes=[axis])
            case "iota" if x.type.rank:
                whole = b.add(whole, b.iota(self.rng.randrange(x.type.rank), whole.type))
            case "sum" if x.type.rank:
                whole = b.sum(b.cast(whole, DType.I64), self.axes(x))
            case _:
                name = self.rng.choice(("add", "sub", "mul", "maximum", "div", "mod"))
                whole = getattr(b, name)(whole, self.rng.choice((2, 3, -3)))
        self.add_other(whole)
        self.add(b.sin(b.cast(whole, DType.F32)), 1.0)

    def random(self) -> None:
        b, x = self.b, self.pick()
        state = next((item.value for item in b.inputs if item.name == "random_state"), None)
        if state is None:
            state = b.input("random_state", TensorType(DType.I64, (2,)), InputKind.STATE)
            step = b.emit(
                "concat",
                b.full(0, TensorType(DType.I64, (1,))),
                b.full(1, TensorType(DType.I64, (1,))),
                axis=0,
            )
            b.update(state, b.add(state, step))
        noise = b.emit("random_uniform", state, stream=len(b.nodes), shape=x.type.shape)
        if self.rng.random() < 0.7:
            self.add(b.where(b.lt(noise, 0.75), b.mul(x, 1 / 0.75), 0.0), 1.5 * self.bound(x))
        else:
            self.add(b.add(x, noise), self.bound(x) + 1)

    def duplicate(self) -> None:
        """A node that is there already, for common subexpressions, and one that nobody reads."""
        repeated = [
            node for node in self.b.nodes if len(node.outputs) == 1 and node.output.name in self.bounds
        ]
        if not repeated:
            return
        node = self.rng.choice(repeated)
        value = self.b.emit(node.primitive, *node.inputs, **node.attributes)
        self.add(value, self.bound(node.output), node.output.name in self.exact)
        if self.rng.random() < 0.5:
            self.b.sin(self.pick())

    def markers(self) -> None:
        b, x = self.b, self.pick()
        if self.rng.random() < 0.5:
            self.add(b.emit("stop_gradient", x), self.bound(x), x.name in self.exact)
        else:
            self.add(b.emit("with_gradient", b.tanh(x), x, b.sigmoid(x), scaled=self.rng.random() < 0.5), 1.0)

    def optimizer(self) -> None:
        """Momentum updates of several parameters at once: independent elementwise work over many shapes."""
        b = self.b
        with b.at((Origin("optimizer", "SGD"),)):
            rate = b.input("learning_rate", TensorType(DType.F32, ()))
            for k in range(self.rng.randint(2, 5)):
                shape = tuple(self.size() for _ in range(self.rng.randint(1, 2)))
                weight = b.input(f"weight{k}", TensorType(DType.F32, shape), InputKind.PARAMETER)
                momentum = b.input(f"momentum{k}", TensorType(DType.F32, shape), InputKind.STATE)
                gradient = b.tanh(b.mul(weight, 0.75)) if self.rng.random() < 0.5 else self.input(shape)
                step = b.add(b.mul(momentum, 0.9), b.mul(gradient, 0.1))
                b.update(momentum, step)
                b.update(weight, b.sub(weight, b.mul(step, rate)))
