"""Executor: a Symbol bound to arrays, with MXNet's forward and backward.

    executor = net.simple_bind(mx.cpu(), data=(64, 784), softmax_label=(64,))
    executor.forward(is_train=True, data=x, softmax_label=y)
    executor.backward()
    executor.grad_dict["fc1_weight"]

`forward(is_train=True)` is deferred: a following `backward()` runs forward and backward as one fused program. Reading
`outputs` first, or writing into a bound array, runs the forward part alone; backward then continues from the
tensors that it kept, so nothing is computed twice and dropout draws once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch

from graphc.diagnostics import closest, fail
from graphc.driver.compile import Options, compile
from graphc.driver.executable import RANDOM_STATE, Executable
from graphc.driver.ndarray import NDArray, array, zeros
from graphc.ir.graph import Graph
from graphc.passes.attention import RecognizeAttention
from graphc.passes.gradient import gradient
from graphc.passes.split import split
from graphc.runtime.context import Context
from graphc.symbol import Symbol
from graphc.symbol.queries import complete_shapes
from graphc.symbol.trace import trace
from graphc.types import DType

GRAD_REQS = ("write", "add", "null")
Arrays = Sequence[Any] | Mapping[str, Any] | None


class Executor:
    """A Symbol with its argument, gradient and auxiliary arrays; made by `simple_bind` and `bind`."""

    def __init__(
        self,
        symbol: Symbol,
        ctx: Context,
        args: dict[str, NDArray],
        grads: dict[str, NDArray],
        grad_req: dict[str, str],
        aux: dict[str, NDArray],
    ) -> None:
        self._symbol = symbol
        self._ctx = ctx
        self.arg_dict = args
        self.grad_dict: dict[str, NDArray | None] = {name: grads.get(name) for name in args}
        self.aux_dict = aux
        self._grad_req = grad_req
        self._outputs: list[NDArray] = []
        self._deferred = False
        self._residuals: dict[str, Any] | None = None
        self._random_state = torch.zeros(2, dtype=torch.int64, device=ctx.torch_device)
        self._seeded = False

    # Arrays, as lists in the symbol's order

    @property
    def arg_arrays(self) -> list[NDArray]:
        return [self.arg_dict[name] for name in self._symbol.list_arguments()]

    @property
    def grad_arrays(self) -> list[NDArray | None]:
        return [self.grad_dict[name] for name in self._symbol.list_arguments()]

    @property
    def aux_arrays(self) -> list[NDArray]:
        return [self.aux_dict[name] for name in self._symbol.list_auxiliary_states()]

    @property
    def outputs(self) -> list[NDArray]:
        """The outputs of the last forward; reading them runs a deferred one."""
        self._run_deferred()
        return self._outputs

    @property
    def output_dict(self) -> dict[str, NDArray]:
        return dict(zip(self._symbol.list_outputs(), self.outputs, strict=False))

    # Running

    def forward(self, is_train: bool = False, **kwargs: Any) -> list[NDArray]:
        """Copy `kwargs` into argument arrays and compute the outputs.

        In training the work may be deferred (see above); the returned list is `outputs` then, read on first use.
        """
        for name, value in kwargs.items():
            if name not in self.arg_dict:
                raise fail("G601", f"no argument is named {name!r}", help=closest(name, list(self.arg_dict)))
            _check_shape(name, self.arg_dict[name], value)
        # An earlier deferred forward reads the old values first: its outputs and moving statistics still count.
        self._run_deferred()
        for name, value in kwargs.items():
            self.arg_dict[name][:] = value
        self._residuals = None
        if not is_train:
            self._outputs = list(self._run(self._inference).values())
            return self._outputs
        self._deferred = True
        for bound in self.arg_dict.values():
            bound.before_write(self._run_deferred)
        return _DeferredOutputs(self)

    def backward(self, out_grads: Any = None) -> None:
        """Gradients of the outputs into `grad_dict`, by each argument's grad_req.

        out_grads: one array an output. Without them loss operators define their own gradient and every other
        output counts with ones. Error G403 without a forward(is_train=True) before.
        """
        heads = self._heads(out_grads)
        if self._deferred:
            self._deferred = False
            results = self._run(self._joint(heads is not None), **(heads or {}))
            self._outputs = [results[name] for name in self._forward_names]
            self._residuals = None
            return
        if self._residuals is None:
            raise fail("G403", "backward() needs a forward(is_train=True) before it")
        backward = self._parts(heads is not None)[1]
        wanted = {item.name for item in backward.data_inputs}
        given = {**self._residuals, **(heads or {})}
        self._run(backward, **{name: value for name, value in given.items() if name in wanted})

    def _run_deferred(self) -> None:
        if not self._deferred:
            return
        self._deferred = False
        results = self._run(self._parts(False)[0])
        self._outputs = [results.pop(name) for name in self._forward_names]
        self._residuals = results

    def _run(self, executable: Executable, **extra: Any) -> dict[str, NDArray]:
        wanted = {item.name for item in executable.data_inputs}
        inputs = {name: value for name, value in self.arg_dict.items() if name in wanted}
        out = {
            f"{name}_grad": grad
            for name, grad in self.grad_dict.items()
            if grad is not None
            and self._grad_req[name] == "write"
            and f"{name}_grad" in executable.output_names
        }
        results = executable.run(out=out, **inputs, **extra)
        return {
            name: value if isinstance(value, NDArray) else NDArray(value)
            for name, value in results.items()
            if name not in out
        }

    def _heads(self, out_grads: Any) -> dict[str, NDArray] | None:
        if out_grads is None:
            return None
        grads = [out_grads] if isinstance(out_grads, (NDArray, torch.Tensor)) else list(out_grads)
        names = self._forward_names
        if len(grads) != len(names):
            raise fail(
                "G403", f"backward() takes {len(names)} head gradients, one an output; given {len(grads)}"
            )
        return {
            f"{name}_head": grad if isinstance(grad, NDArray) else array(grad, self._ctx)
            for name, grad in zip(names, grads, strict=True)
        }

    # Programs, each compiled when it is first needed

    @cached_property
    def _forward_names(self) -> list[str]:
        return list(self._training_graph.output_names)

    def _trace(self, is_train: bool) -> Graph:
        shapes = {name: value.shape for name, value in self.arg_dict.items()}
        dtypes = {name: DType.of(value.tensor.dtype) for name, value in self.arg_dict.items()}
        return trace(self._symbol, shapes, dtypes, is_train)

    @cached_property
    def _training_graph(self) -> Graph:
        return self._trace(True)

    @cached_property
    def _inference(self) -> Executable:
        return self._compile(self._trace(False))

    @cached_property
    def _joints(self) -> dict[bool, Executable]:
        return {}

    @cached_property
    def _splits(self) -> dict[bool, tuple[Executable, Executable]]:
        return {}

    def _joint_graph(self, with_heads: bool) -> Graph:
        graph = RecognizeAttention()(self._training_graph)
        wrt = [name for name in self.arg_dict if self._grad_req[name] != "null"]
        heads = {name: f"{name}_head" if with_heads else "ones" for name in graph.output_names}
        return gradient(graph, wrt, heads, {name: self._grad_req[name] for name in wrt})

    def _joint(self, with_heads: bool) -> Executable:
        if with_heads not in self._joints:
            self._joints[with_heads] = self._compile(self._joint_graph(with_heads))
        return self._joints[with_heads]

    def _parts(self, with_heads: bool) -> tuple[Executable, Executable]:
        if with_heads not in self._splits:
            forward, backward = split(self._joint_graph(with_heads), self._forward_names)
            self._splits[with_heads] = self._compile(forward), self._compile(backward)
        return self._splits[with_heads]

    def _compile(self, graph: Graph) -> Executable:
        # Every argument is an input here, so nothing but statistics could be held between calls.
        executable = compile(graph, target=self._ctx, options=Options(constants=False))
        shared = {name: value.tensor for name, value in self.aux_dict.items()}
        shared |= {f"{name}_grad": grad.tensor for name, grad in self.grad_dict.items() if grad is not None}
        for name in executable.states:
            if name == RANDOM_STATE:
                if not self._seeded:
                    self._random_state.copy_(executable.states[name])
                    self._seeded = True
                executable.share_state(name, self._random_state)
            elif name in shared:
                executable.share_state(name, shared[name])
        return executable

    # Parameters and shapes

    def copy_params_from(
        self,
        arg_params: Mapping[str, Any],
        aux_params: Mapping[str, Any] | None = None,
        allow_extra_params: bool = False,
    ) -> None:
        """Copy values into arguments and auxiliary states; all names and shapes are checked before any is written."""
        for values, bound in ((arg_params, self.arg_dict), (aux_params or {}, self.aux_dict)):
            for name, value in values.items():
                if name in bound:
                    _check_shape(name, bound[name], value)
                elif not allow_extra_params:
                    raise fail("G601", f"the executor has no array {name!r}", help=closest(name, list(bound)))
        for values, bound in ((arg_params, self.arg_dict), (aux_params or {}, self.aux_dict)):
            for name, value in values.items():
                if name in bound:
                    bound[name][:] = value

    def reshape(
        self, partial_shaping: bool = False, allow_up_sizing: bool = False, **kwargs: Any
    ) -> Executor:
        """An executor for other input shapes that shares every array whose shape stays the same.

        partial_shaping: arguments that are not named may change shape too. allow_up_sizing is accepted for MXNet
        scripts: a changed array is always a new one here.
        """
        arg_shapes, _, aux_shapes = complete_shapes(self._symbol, kwargs)
        args, grads = {}, {}
        for name, shape in zip(self._symbol.list_arguments(), arg_shapes, strict=True):
            old = self.arg_dict[name]
            if tuple(shape) == old.shape:
                args[name] = old
            elif name in kwargs or partial_shaping:
                args[name] = zeros(shape, self._ctx, DType.of(old.tensor.dtype))
            else:
                raise fail(
                    "G205",
                    f"reshape changes argument {name!r} from {old.shape} to {tuple(shape)}",
                    name=name,
                    help="name it in reshape(), or pass partial_shaping=True",
                )
            grad = self.grad_dict[name]
            if grad is not None:
                grads[name] = (
                    grad if args[name] is old else zeros(shape, self._ctx, DType.of(grad.tensor.dtype))
                )
        aux = {
            name: self.aux_dict[name]
            if self.aux_dict[name].shape == tuple(shape)
            else zeros(shape, self._ctx)
            for name, shape in zip(self._symbol.list_auxiliary_states(), aux_shapes, strict=True)
        }
        return Executor(self._symbol, self._ctx, args, grads, self._grad_req, aux)

    def debug_str(self) -> str:
        """The program's kernels and, on the last line, the planned memory."""
        executable = (
            self._joint(False) if any(r != "null" for r in self._grad_req.values()) else self._inference
        )
        lines = [f"kernel {kernel.name}" for kernel in executable.kernels]
        return "\n".join([*lines, f"Total {executable.plan().size / 2**20:.4f} MB allocated"])


class _DeferredOutputs(list[NDArray]):
    """What forward(is_train=True) returns: the outputs, computed when first looked at."""

    def __init__(self, executor: Executor) -> None:
        super().__init__()
        self._executor: Executor | None = executor

    def _fill(self) -> None:
        executor, self._executor = self._executor, None
        if executor is not None:
            super().extend(executor.outputs)

    def __getitem__(self, key: Any) -> Any:
        self._fill()
        return super().__getitem__(key)

    def __iter__(self) -> Any:
        self._fill()
        return super().__iter__()

    def __len__(self) -> int:
        self._fill()
        return super().__len__()

    def __repr__(self) -> str:
        self._fill()
        return super().__repr__()


def _check_shape(name: str, bound: NDArray, value: Any) -> None:
    shape = tuple(value.shape) if hasattr(value, "shape") else array(value).shape
    if shape != bound.shape and shape != ():
        raise fail("G602", f"argument {name!r} is bound with shape {bound.shape}, given {shape}", name=name)


def _requests(symbol: Symbol, grad_req: str | Sequence[str] | Mapping[str, str]) -> dict[str, str]:
    """grad_req of every argument: one for all, a list in order, or a mapping (absent ones are null)."""
    names = symbol.list_arguments()
    if isinstance(grad_req, str):
        table = dict.fromkeys(names, grad_req)
    elif isinstance(grad_req, Mapping):
        unknown = [name for name in grad_req if name not in names]
        if unknown:
            raise fail("G601", f"grad_req names no argument {unknown[0]!r}", help=closest(unknown[0], names))
        table = {name: grad_req.get(name, "null") for name in names}
    else:
        if len(grad_req) != len(names):
            raise fail("G105", f"grad_req lists {len(grad_req)} values for {len(names)} arguments")
        table = dict(zip(names, grad_req, strict=True))
    for name, request in table.items():
        if request not in GRAD_REQS:
            raise fail("G104", f"grad_req of {name!r} is {request!r}", help=f"use {', '.join(GRAD_REQS)}")
    return table


def simple_bind(
    symbol: Symbol,
    ctx: Context | None = None,
    grad_req: str | Sequence[str] | Mapping[str, str] = "write",
    type_dict: Mapping[str, Any] | None = None,
    **shapes: Any,
) -> Executor:
    """Infer all shapes from the given ones, allocate every array, and bind.

    Raises GraphcError when shapes cannot be inferred, naming the operator and the user's line.
    """
    context = Context.of(ctx)
    arg_shapes, _, aux_shapes = complete_shapes(symbol, shapes)
    names = symbol.list_arguments()
    arg_types, _, aux_types = symbol.infer_type(**(type_dict or {}))
    requests = _requests(symbol, grad_req)
    if isinstance(grad_req, str):
        # As in MXNet, integer arguments have no gradient unless it is asked for by name.
        requests = {
            name: request if DType.of(dtype).is_float else "null"
            for (name, request), dtype in zip(requests.items(), arg_types, strict=True)
        }
    args = {n: zeros(s, context, DType.of(t)) for n, s, t in zip(names, arg_shapes, arg_types, strict=True)}
    grads = {
        n: zeros(a.shape, context, DType.of(a.tensor.dtype)) for n, a in args.items() if requests[n] != "null"
    }
    aux_names = symbol.list_auxiliary_states()
    aux = {
        n: zeros(s, context, DType.of(t)) for n, s, t in zip(aux_names, aux_shapes, aux_types, strict=True)
    }
    return Executor(symbol, context, args, grads, requests, aux)


def bind(
    symbol: Symbol,
    ctx: Context | None,
    args: Arrays,
    args_grad: Arrays = None,
    grad_req: str | Sequence[str] | Mapping[str, str] = "write",
    aux_states: Arrays = None,
) -> Executor:
    """Bind a Symbol to given arrays (lists in order, or mappings by name); they are read and written in place."""
    context = Context.of(ctx)
    bound = _named("args", symbol.list_arguments(), args, context, required=True)
    grads = _named("args_grad", symbol.list_arguments(), args_grad, context, required=False)
    aux = _named("aux_states", symbol.list_auxiliary_states(), aux_states, context, required=True)
    requests = {n: r if n in grads else "null" for n, r in _requests(symbol, grad_req).items()}
    for name, grad in grads.items():
        if grad.shape != bound[name].shape:
            raise fail(
                "G205", f"the gradient of {name!r} has shape {grad.shape}, the argument {bound[name].shape}"
            )
    executor = Executor(symbol, context, bound, grads, requests, aux)
    # Shapes that do not fit are reported now, with the user's line, not at the first forward.
    symbol.infer_shape(**{name: value.shape for name, value in bound.items()})
    return executor


def _named(
    what: str, names: Sequence[str], values: Arrays, ctx: Context, required: bool
) -> dict[str, NDArray]:
    if values is None:
        table: dict[str, Any] = {}
    elif isinstance(values, Mapping):
        unknown = [name for name in values if name not in names]
        if unknown and required:
            raise fail("G601", f"{what} names no {unknown[0]!r}", help=closest(unknown[0], list(names)))
        table = {name: value for name, value in values.items() if name in names}
    else:
        if len(values) != len(names):
            raise fail("G601", f"{what} lists {len(values)} arrays for {len(names)}: {', '.join(names)}")
        table = {name: value for name, value in zip(names, values, strict=True) if value is not None}
    missing = [name for name in names if name not in table]
    if missing and required:
        raise fail("G601", f"{what}: no array for {', '.join(missing)}")
    return {name: value if isinstance(value, NDArray) else array(value, ctx) for name, value in table.items()}
