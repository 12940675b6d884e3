"""What a new process finds of an earlier lowering is what was lowered."""

from dataclasses import dataclass

from graphc.driver import store
from graphc.driver.compile import lower
from graphc.ir.parse import parse_graph


@dataclass(frozen=True, slots=True)
class Nothing:
    """Without fields."""


@dataclass(frozen=True, slots=True)
class One:
    inner: object


@dataclass(slots=True)
class Changing:
    first: int
    second: tuple[object, ...] = ()


def test_stages_come_back_equal() -> None:
    text = "graph g(%a: f32[N,8], parameter %b: f32[8,16]) -> (y=%d) {\n"
    text += "  %c: f32[N,16] = dot(%a, %b) {transpose_a=false, transpose_b=false}\n"
    text += "  %d: f32[N,16] = tanh(%c)\n}\n"
    stages = lower(parse_graph(text))
    found = store._unpickled(store._pickled(stages))
    assert str(found.optimized) == str(stages.optimized) and found.optimized == stages.optimized
    assert found.program == stages.program and found.program.kernels == stages.program.kernels


def test_slotted_classes_of_any_number_of_fields_come_back() -> None:
    one = One((1, "two", None))
    value = [Nothing(), One(Nothing()), Changing(3, (one, one)), {"key": one}]
    found = store._unpickled(store._pickled(value))
    assert found == value
    assert found[2].second[0] is found[2].second[1], "what was shared stays shared"
    found[2].first = 4
