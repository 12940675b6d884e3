"""What `graphc bench` times: every kernel of a program by itself, and the program written in torch.

A kernel runs by itself as a program of one step, over buffers of its own with random contents.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from graphc.codegen.cpp.packing import PACKED_OPERAND, PACKED_SHAPE
from graphc.driver.compile import make_backend
from graphc.driver.reference import evaluate_node
from graphc.driver.tuning import fill, single_kernel
from graphc.ir.graph import Graph, Node, Value
from graphc.ir.kernel import Access, AnchorOperation, Kernel
from graphc.ir.program import Program
from graphc.primitives.concrete import concrete_node
from graphc.primitives.declare import Kind, primitive
from graphc.runtime.limits import synchronize
from graphc.types import TensorType, evaluate


@dataclass(frozen=True, slots=True)
class KernelCase:
    """A kernel that can be called, the bytes it must move and the operations of its contraction (0 without one)."""

    kernel: Kernel
    call: Callable[[], None]
    nbytes: int
    flops: int
    tensors: tuple[torch.Tensor, ...]
    """The buffers, in the order of the kernel's parameters."""


def kernel_case(program: Program, kernel: Kernel, sizes: Mapping[str, int], target: str) -> KernelCase:
    """Build a kernel alone and fill its buffers."""
    backend = make_backend(single_kernel(kernel), target)
    generator = torch.Generator().manual_seed(0)
    own = {name: sizes[name] for name in backend.program.symbols}
    frame = backend.frame(own)
    tensors = []
    for index, parameter in enumerate(kernel.parameters):
        tensor = backend.output(parameter.type, own)
        fill(tensor, generator)
        frame.bind(index, tensor)
        tensors.append(tensor)

    def call() -> None:
        frame.run()
        synchronize(backend.device)

    moved = bytes_moved(kernel, sizes)
    return KernelCase(kernel, call, moved, contraction_flops(kernel, sizes), tuple(tensors))


def bytes_moved(kernel: Kernel, sizes: Mapping[str, int]) -> int:
    """Bytes of the kernel's parameters, twice where they are read and written."""
    return sum(
        evaluate(p.type.nbytes, sizes) * (2 if p.access is Access.INOUT else 1) for p in kernel.parameters
    )


def contraction_flops(kernel: Kernel, sizes: Mapping[str, int]) -> int:
    """Floating-point operations of the kernel's contraction, 0 when it has none."""
    anchor = kernel.anchor
    if anchor is None:
        return 0
    operands = tuple(
        Value(name, _operand_type(kernel, anchor, position)) for position, name in enumerate(anchor.operands)
    )
    node = Node(anchor.primitive, operands, (Value("result", anchor.result),), anchor.attributes)
    return evaluate(primitive(anchor.primitive).flops(node), sizes)


def _operand_type(kernel: Kernel, anchor: AnchorOperation, position: int) -> TensorType:
    """An operand as the primitive sees it: not the packed vector or the tensor around it that the kernel is given."""
    type = kernel.parameter(anchor.operands[position]).type
    if anchor.attributes.get(PACKED_OPERAND) == position:
        return TensorType(type.dtype, tuple(anchor.attributes[PACKED_SHAPE]))
    view = anchor.views[position] if anchor.views else None
    return type if view is None else TensorType(type.dtype, tuple(axis.extent for axis in view.axes))


def torch_program(
    graph: Graph, sizes: Mapping[str, int], inputs: Mapping[str, torch.Tensor]
) -> Callable[..., list[torch.Tensor]]:
    """The graph as one module of torch operations, recorded from each primitive's own torch form.

    It takes the graph's inputs in order, gives the outputs, and writes updated states in place. Random numbers come
    from torch's own generator.
    """
    from torch.fx.experimental.proxy_tensor import make_fx

    device = next((tensor.device for tensor in inputs.values()), torch.device("cpu"))

    nodes = [concrete_node(node, sizes) for node in graph.nodes]
    names = [item.name for item in graph.inputs]

    def run(*tensors: torch.Tensor) -> list[torch.Tensor]:
        values = dict(zip(names, tensors, strict=True))
        given = dict(values)
        for node in nodes:
            if primitive(node.primitive).kind is Kind.RANDOM:
                (output,) = node.outputs
                values[output.name] = torch.rand(output.type.concrete_shape({}))
            else:
                evaluate_node(node, values)
        for update in graph.updates:
            given[update.target].copy_(values[update.value.name])
        return [values[value.name] for value in graph.outputs]

    # Recording runs the operations once, updates included; what they create belongs on the inputs' device.
    with device:
        module: Callable[..., list[torch.Tensor]] = make_fx(run)(*(inputs[name].clone() for name in names))
    return module


def fits_cache(nbytes: int) -> bool:
    """True when a working set stays in the last-level cache, so that memory's bandwidth is no limit for it."""
    return nbytes <= _last_level_cache()


def _last_level_cache() -> int:
    """Bytes of the largest cache that Linux reports, 32 MiB where it reports none."""
    from pathlib import Path

    sizes = [
        int(text[:-1]) * {"K": 1 << 10, "M": 1 << 20}[text[-1]]
        for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")
        if (text := path.read_text(encoding="ascii").strip())[-1] in "KM"
    ]
    return max(sizes, default=32 << 20)
