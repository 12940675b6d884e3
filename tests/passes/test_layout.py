"""The layout pass: what it moves and what it leaves, that regions hold no transpose, that results stay."""

import pytest
import torch

from graphc.diagnostics import GraphcError
from graphc.driver.compile import Options, lower
from graphc.driver.reference import run_reference
from graphc.ir.graph import Graph
from graphc.passes.layout import ChooseLayout
from graphc.primitives.builder import Builder
from graphc.primitives.verify import verify_graph
from graphc.types import TensorType
from support.differentiate import differentiate

ALL = ChooseLayout("channels_last")
ONE = {"stride": (1, 1), "pad": (0, 0), "dilate": (1, 1), "groups": 1}
POOL = {"kernel": (3, 2), "stride": (2, 1), "pad_low": (1, 0), "pad_high": (0, 1)}


def builder_of(**types: str) -> tuple[Builder, dict]:
    b = Builder("network")
    return b, {name: b.input(name, TensorType.parse(text)) for name, text in types.items()}


def chain(batch: str = "2") -> Graph:
    """Convolutions with all that can stand between them: bias, pools, a join, a slice, padding, a residual sum."""
    b, v = builder_of(
        x=f"f32[{batch},5,9,8]", w="f32[6,5,3,3]", u="f32[6,6,1,1]", bias="f32[6]", s="f32[9,8]"
    )
    y = b.emit("convolution", v["x"], v["w"], **{**ONE, "pad": (1, 1)})
    y = b.maximum(b.add(y, b.broadcast(v["bias"], y.type.shape, [1])), 0.0)
    y = b.mul(y, b.broadcast(v["s"], y.type.shape, [2, 3]))
    z = b.add(b.emit("convolution", y, v["u"], **ONE), y)
    pooled, _ = b.emit_all("max_pool", z, **POOL)
    joined = b.emit("concat", pooled, b.emit("window_sum", z, **POOL), axis=1)
    low, high = (0, 1, 0, 2), (0, 0, 1, 0)
    padded = b.emit("pad", joined, low=low, high=high, value=0.5)
    shape = list(padded.type.shape)
    part = b.slice(padded, [0, 2, 1, 0], [shape[0], 8, shape[2], shape[3]])
    again = b.emit("convolution", b.emit("reverse", part, axes=(2,)), v["u"], **ONE)
    total = b.reduce("reduce_sum", again, [0, 2, 3])
    return b.finish({"total": total, "best": b.reduce("reduce_max", again, [1]), "images": again})


def count(graph: Graph, name: str) -> int:
    return sum(node.primitive == name for node in graph.nodes)


def assert_same(before: Graph, after: Graph, **sizes: int) -> None:
    generator = torch.Generator().manual_seed(1)
    inputs = {
        item.name: torch.randn(item.value.type.concrete_shape(sizes), generator=generator)
        for item in before.inputs
    }
    expected, got = (run_reference(graph, inputs).outputs for graph in (before, after))
    for name, value in expected.items():
        torch.testing.assert_close(got[name].double(), value.double(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("batch", ["2", "N"])
def test_a_region_is_moved_whole(batch: str) -> None:
    before = chain(batch)
    after = ALL(before)
    verify_graph(after)
    assert count(after, "channels_last_convolution") == 3
    assert count(after, "convolution") == 0
    # One image comes in, a factor that varies over both spatial axes only needs none, one goes out.
    assert count(after, "transpose") == 2
    assert_same(before, after, N=3)
    assert ALL(after) is after


def test_gradients_are_moved_up_to_their_own_convolutions() -> None:
    graph = chain()
    gradient = differentiate(graph, ["w", "bias"])
    after = ALL(gradient)
    verify_graph(after)
    assert_same(gradient, after)


def test_what_has_no_template_stays() -> None:
    b, v = builder_of(x="f32[2,4,5,5]", w="f32[4,2,3,3]", h="bf16[2,4,5,5]", k="bf16[4,4,3,3]", y="f32[1,2,3,3,3]",
                      q="f32[1,2,1,1,1]")  # fmt: skip
    deep = {"stride": (1,) * 3, "pad": (0,) * 3, "dilate": (1,) * 3, "groups": 1}
    outputs = {
        "grouped": b.emit("convolution", v["x"], v["w"], **{**ONE, "groups": 2}),
        "half": b.emit("convolution", v["h"], v["k"], **ONE),
        "volume": b.emit("convolution", v["y"], v["q"], **deep),
    }
    graph = b.finish(outputs)
    assert ALL(graph) is graph


def test_a_weight_made_of_elementwise_operators_is_no_image() -> None:
    b, v = builder_of(x="f32[2,4,5,5]", w="f32[4,4,3,3]")
    graph = b.finish({"y": b.emit("convolution", v["x"], b.mul(v["w"], 2.0), **ONE)})
    after = ALL(graph)
    assert count(after, "transpose") == 2
    assert_same(graph, after)


def test_a_reduction_that_keeps_axes_in_another_order_is_left() -> None:
    b, v = builder_of(x="f32[2,4,5,6]", w="f32[3,4,1,1]")
    y = b.emit("convolution", v["x"], v["w"], **ONE)
    graph = b.finish({"y": b.reduce("reduce_sum", y, [0]), "z": b.reduce("reduce_sum", y, [3])})
    assert_same(graph, ALL(graph))


def network(side: int, *layers: tuple[int, int, int]) -> Graph:
    """Convolutions of (out channels, kernel, stride) with ReLU from an image of 3 channels, summed over places."""
    b, v = builder_of(x=f"f32[1,3,{side},{side}]")
    y = v["x"]
    for number, (outputs, kernel, stride) in enumerate(layers):
        w = b.input(f"w{number}", TensorType.parse(f"f32[{outputs},{y.type.shape[1]},{kernel},{kernel}]"))
        steps = {**ONE, "stride": (stride, stride), "pad": (kernel // 2, kernel // 2)}
        y = b.maximum(b.emit("convolution", y, w, **steps), 0.0)
    return b.finish({"y": b.reduce("reduce_sum", y, [2, 3])})


def test_auto_weighs_gain_against_transposes() -> None:
    worth = network(56, (64, 7, 2), (256, 1, 1), (64, 1, 1), (512, 1, 2))
    assert count(ChooseLayout()(worth), "channels_last_convolution") == 4
    tiny = network(28, (1, 1, 1))
    assert ChooseLayout()(tiny) is tiny
    assert ChooseLayout("keep")(worth) is worth


def test_decisions_say_what_and_why() -> None:
    worth = network(56, (64, 7, 2), (256, 1, 1), (64, 1, 1), (512, 1, 2))
    (decision,) = ChooseLayout().decisions(worth)
    assert decision.accepted
    assert "4 convolutions with their channels last" in decision.reason
    (decision,) = ChooseLayout("keep").decisions(worth)
    assert not decision.accepted
    assert decision.reason.endswith("layout=keep was asked for")


def test_only_the_highest_level_for_the_cpu_moves() -> None:
    worth = network(56, (64, 7, 2), (256, 1, 1), (64, 1, 1), (512, 1, 2))
    assert count(lower(worth).optimized, "channels_last_convolution") == 4
    for options, target in [(Options(level=1), "cpu"), (Options(layout="keep"), "cpu"), (Options(), "gpu")]:
        assert count(lower(worth, options, target).optimized, "channels_last_convolution") == 0


def test_a_layout_that_there_is_not() -> None:
    with pytest.raises(GraphcError, match="G101"):
        Options(layout="nhwc")
