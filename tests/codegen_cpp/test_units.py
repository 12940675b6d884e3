"""Units that compile side by side: every function once, templates together, work shared out evenly."""

from dataclasses import replace

from graphc.codegen.cpp.kernels import Function
from graphc.codegen.cpp.scratch import scratch_of
from graphc.codegen.cpp.target import CpuTarget, detect
from graphc.codegen.cpp.units import TEMPLATES, cost, units


def function(name: str, lines: int, *headers: str) -> Function:
    return Function(name, f"void {name}();", "  x += 1;\n" * lines, (), headers, scratch_of((), ()))


def cores(count: int) -> CpuTarget:
    return replace(detect(), cores=count)


def names(parts: list[list[Function]]) -> list[list[str]]:
    return [[found.name for found in part] for part in parts]


def test_every_function_is_in_one_unit() -> None:
    headers = (*TEMPLATES, "prelude.h")
    functions = [function(f"f{k}", 10 + k % 90, headers[k % len(headers)]) for k in range(200)]
    for count in (1, 2, 16):
        parts = units(functions, cores(count))
        assert (len(parts) == 1) == (count == 1) and len(parts) <= 2 * count
        assert sorted(f for part in names(parts) for f in part) == sorted(f.name for f in functions)


def test_small_programs_are_one_unit() -> None:
    assert names(units([function("a", 20), function("b", 30)], cores(8))) == [["a", "b"]]
    assert units([], cores(8)) == [[]]


def test_functions_of_one_template_stand_together() -> None:
    """Kernels of two templates and plain ones, mixed: each template is compiled in as few units as can be."""
    kinds = [("conv.h",), ("winograd.h",), ()]
    functions = [function(f"f{k}", 40, *kinds[k % 3]) for k in range(60)]
    parts = units(functions, cores(2))
    assert 2 <= len(parts) <= 4
    for header in ("conv.h", "winograd.h"):
        assert sum(any(header in f.headers for f in part) for part in parts) <= 2


def test_units_cost_about_the_same() -> None:
    functions = [function(f"f{k}", 60) for k in range(100)]
    spent = [sum(map(cost, part)) for part in units(functions, cores(2))]
    assert len(spent) in (2, 4) and max(spent) < 1.2 * min(spent)


def test_no_unit_takes_what_others_left() -> None:
    """A template whose first use costs most of a unit's time, on more cores than there is work for."""
    functions = [function(f"f{k}", 20, "conv.h") for k in range(60)]
    for count in (2, 8, 64):
        parts = units(functions, cores(count))
        assert len(parts) > 1 and max(map(len, parts)) <= -(-60 // len(parts)) + 1
