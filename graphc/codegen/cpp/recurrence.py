"""Recurrences and their gradients as calls of their C++ templates, and the memory that these want beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from graphc.codegen.cpp.expressions import TYPES, Names, dim_text, literal
from graphc.codegen.cpp.packing import PACKED_OPERAND, PACKED_SHAPE, recurrent_elements
from graphc.codegen.cpp.writer import Writer
from graphc.ir.kernel import Access, AnchorOperation, Kernel, Parameter
from graphc.primitives.recurrence import GATES
from graphc.types import Dim, TensorType, dimension, product

WORKSPACE = (
    "anchor_workspace"  # the parameter that holds the packed weight and what is handed from step to step
)
_LINE = 64  # bytes: the widest register of any CPU
_RESULTS = {
    ("recurrence", "lstm"): ("h", "c", "gates"),
    ("recurrence", "gru"): ("h", "gates"),
    ("recurrence", "rnn"): ("h",),
    ("recurrence_gradient", "lstm"): ("dx", "dh0", "dc0"),
    ("recurrence_gradient", "gru"): ("dx", "ds", "dh0"),
    ("recurrence_gradient", "rnn"): ("dx", "dh0"),
}


@dataclass(frozen=True, slots=True)
class _Scan:
    """One call: its sizes, and the C++ names of its results, "" where nobody reads one."""

    kernel: Kernel
    anchor: AnchorOperation

    @property
    def mode(self) -> str:
        return str(self.anchor.attributes["mode"])

    @property
    def kind(self) -> str:
        """The mode, with one word for both plain ones."""
        return self.mode.partition("_")[0]

    @property
    def sequence(self) -> tuple[Dim, Dim]:
        """Steps and rows."""
        steps, rows, _ = self.kernel.parameter(self.anchor.operands[0]).type.shape
        return steps, rows

    @property
    def units(self) -> int:
        shape = self.kernel.parameter(self.anchor.operands[1]).type.shape
        units = self.anchor.attributes.get(PACKED_SHAPE, shape)[1]
        assert isinstance(units, int)
        return units

    @property
    def is_packed(self) -> bool:
        """True when the weight comes packed by the program's prologue."""
        return PACKED_OPERAND in self.anchor.attributes

    @property
    def results(self) -> dict[str, str]:
        """The parameter of each result by what the template calls it."""
        names = _RESULTS[self.anchor.primitive, self.kind]
        return dict(zip(names, self.anchor.results, strict=True))

    @property
    def needed(self) -> str:
        """The result that the template reads again, so that it must lie somewhere even where nobody else reads it."""
        if self.anchor.primitive == "recurrence":
            return "h"
        return "ds" if self.kind == "gru" else "dx"

    def sections(self) -> list[tuple[str, Dim]]:
        """What lies in the workspace, one behind the other, with its elements: whole cache lines but the last ones."""
        lanes = _LINE // self.anchor.accumulator.itemsize
        (_, rows), units, results = self.sequence, self.units, self.results
        wide = -(-units // (2 * lanes)) * 2 * lanes
        found: list[tuple[str, Dim]] = []
        if not self.is_packed:
            found.append(("packed", recurrent_elements(self.mode, units, self.anchor.accumulator.itemsize)))
        if self.anchor.primitive == "recurrence_gradient":
            found.append(("carried", dimension(rows * wide)))
            if self.kind == "lstm" and not results["dc0"]:
                found.append(("held", dimension(rows * wide)))
        elif self.kind == "lstm" and not results["c"]:
            found.append(("held", dimension(rows * wide)))
        if not results[self.needed]:
            gates = 1 if self.needed == "h" else GATES[self.mode]
            found.append((self.needed, product((*self.sequence, gates * units))))
        return found


def workspace(kernel: Kernel, anchor: AnchorOperation) -> Parameter | None:
    """The buffer of a scan's own; None where it needs none."""
    sections = _Scan(kernel, anchor).sections()
    size: Dim = dimension(sum((size for _, size in sections), start=0))
    return Parameter(WORKSPACE, TensorType(anchor.accumulator, (size,)), Access.OUT) if sections else None


def print_recurrence(
    out: Writer, kernel: Kernel, anchor: AnchorOperation, buffers: dict[str, str], names: Names
) -> tuple[str, ...]:
    """Print the call of gc_recurrence; returns its headers."""
    scan = _Scan(kernel, anchor)
    place = _places(out, scan, buffers, names)
    x, weight, first, *rest = (buffers[name] for name in anchor.operands)
    cell = {
        "lstm": [x, *rest, place["h"], place["c"], place["held"], place["gates"], *_clip(scan)],
        "gru": [x, first, *rest, place["h"], place["gates"]],
        "rnn": [x, place["h"]],
    }[scan.kind]
    packed = f"({TYPES[anchor.accumulator]}*){weight}" if scan.is_packed else place["packed"]
    arguments = ["nullptr" if scan.is_packed else weight, packed, first, place["h"]]
    _call(out, scan, "gc_recurrence", arguments, _cell(scan, "", cell))
    return ("recurrence.h",)


def pack_recurrence(
    out: Writer, kernel: Kernel, anchor: AnchorOperation, buffers: dict[str, str]
) -> tuple[str, ...]:
    """Print the call that packs a hidden weight once; returns its headers."""
    mode, (weight, packed) = str(anchor.attributes["mode"]), kernel.parameters[:2]
    registers, of_one_gate = (2, 2) if GATES[mode] == 1 else (GATES[mode], 1)
    sizes = f"{TYPES[anchor.accumulator]}, {registers}, {of_one_gate}"
    places = f"{buffers[weight.name]}, {buffers[packed.name]}"
    out.line(f"gc_recurrence_pack_all<{sizes}>({weight.type.shape[1]}, {places});")
    return ("recurrence.h",)


def print_recurrence_gradient(
    out: Writer, kernel: Kernel, anchor: AnchorOperation, buffers: dict[str, str], names: Names
) -> tuple[str, ...]:
    """Print the call of gc_recurrence_gradient; returns its headers."""
    scan = _Scan(kernel, anchor)
    place = _places(out, scan, buffers, names)
    dh, weight, *rest = (buffers[name] for name in anchor.operands)
    held = place["dc0"] if place["held"] == "nullptr" else place["held"]
    more = [] if len(rest) == 4 else ["nullptr"]
    cell = {
        "lstm": [dh, *rest, *more, held, place["dx"], *_clip(scan)],
        "gru": [dh, *rest, place["dx"], place["ds"]],
        "rnn": [dh, *rest, place["dx"]],
    }[scan.kind]
    arguments = [weight, place["packed"], place["carried"], place[scan.needed], place["dh0"]]
    _call(out, scan, "gc_recurrence_gradient", arguments, _cell(scan, "_gradient", cell))
    return ("recurrence.h", "recurrence_gradient.h")


def _places(out: Writer, scan: _Scan, buffers: dict[str, str], names: Names) -> Mapping[str, str]:
    """C++ names of the results and of the workspace's sections; nullptr for what is not there."""
    found = dict.fromkeys(("packed", "carried", "held", "c", "gates", "dc0", "dh0", "dx", "ds"), "nullptr")
    found |= {name: buffers[parameter] for name, parameter in scan.results.items() if parameter}
    type, offset = TYPES[scan.anchor.accumulator], "0"
    for name, size in scan.sections():
        found[name] = names.new(name)
        out.line(f"{type}* const {found[name]} = {buffers[WORKSPACE]} + {offset};")
        offset = f"{offset} + {dim_text(size)}" if offset != "0" else dim_text(size)
    return found


def _clip(scan: _Scan) -> list[str]:
    clip, dtype = scan.anchor.attributes["clip"], scan.anchor.accumulator
    return [literal(bound, dtype) for bound in clip or (0.0, 0.0)]


def _cell(scan: _Scan, suffix: str, members: list[str]) -> str:
    """The cell of the template: its type and its members."""
    choices = {"lstm": scan.anchor.attributes["clip"] is not None, "rnn": scan.mode == "rnn_relu"}
    if suffix:
        choices["gru"] = bool(scan.results.get("dx"))
    types = [TYPES[scan.anchor.accumulator]]
    types += [str(choices[scan.kind]).lower()] if scan.kind in choices else []
    sizes = [dim_text(scan.sequence[1]), str(scan.units)]
    return f"gc_{scan.kind}{suffix}<{', '.join(types)}>{{{', '.join([*sizes, *members])}}}"


def _call(out: Writer, scan: _Scan, function: str, arguments: list[str], cell: str) -> None:
    reverse = "true" if scan.anchor.attributes["reverse"] else "false"
    sizes = ", ".join([*map(dim_text, scan.sequence), str(scan.units), reverse])
    type = TYPES[scan.anchor.accumulator]
    out.line(f"{function}<{type}>({{{sizes}}}, {', '.join(arguments)},")
    out.line(f"    {cell});")
