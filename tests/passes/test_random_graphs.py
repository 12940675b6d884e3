"""Random graphs: every pass alone and all together agree with the float64 reference, and change nothing twice."""

import pytest
import torch

from graphc.ir.graph import Graph
from graphc.ir.text import parse_graph, print_graph
from graphc.passes.cse import ShareCommon
from graphc.passes.fold import Fold
from graphc.passes.gradient import gradient
from graphc.passes.manager import PassManager, default_pipeline
from graphc.passes.prune import Prune
from graphc.passes.simplify import Simplify
from graphc.passes.split import split
from graphc.passes.strip_markers import StripMarkers
from graphc.primitives.verify import verify_graph
from support.graph_checks import assert_same_results, directional_differences, results
from support.graphs import KINDS, random_graph, random_inputs

PASSES = [
    Prune(),
    Prune(drop_inputs=True),
    Fold(),
    Fold(strict=True),
    ShareCommon(),
    Simplify(share=False),
    Simplify(strict=True),
    Simplify(),
    StripMarkers(),
]
SEEDS = range(200)
GROUPS = [SEEDS[k::20] for k in range(20)]
SMOOTH = (
    "elementwise",
    "reduction",
    "normalization",
    "shape",
    "join",
    "dot",
    "convolution",
    "pool",
    "duplicate",
)


def graph_and_inputs(seed: int) -> tuple[Graph, dict[str, torch.Tensor]]:
    graph = random_graph(seed, kinds=KINDS)
    return graph, random_inputs(graph, seed)


@pytest.mark.parametrize("seeds", GROUPS, ids=str)
def test_every_pass_keeps_the_results(seeds: range) -> None:
    for seed in seeds:
        graph, inputs = graph_and_inputs(seed)
        checked = [graph]
        for step in PASSES:
            after = step(graph)
            assert step(after) is after, f"{step} changes the result of itself\n{after}\n{step(after)}"
            if after not in checked:
                verify_graph(after)
                assert_same_results(graph, after, inputs)
                checked.append(after)


@pytest.mark.parametrize("seeds", GROUPS, ids=str)
def test_all_passes_together_keep_the_results(seeds: range) -> None:
    for seed in seeds:
        graph, inputs = graph_and_inputs(seed)
        after, report = PassManager(default_pipeline(1 + seed % 2), verify=True).run(graph)
        assert report.nodes_after == len(after.nodes) <= len(graph.nodes)
        assert_same_results(graph, after, inputs)
        again, _ = PassManager(default_pipeline(1 + seed % 2), verify=True).run(after)
        assert again is after
        assert parse_graph(print_graph(after)) == after


def graph_with_gradient(seed: int) -> tuple[Graph, Graph, dict[str, torch.Tensor], list[str]]:
    """A graph, the same with gradients, and inputs off the grid on which random graphs have ties and steps."""
    graph = random_graph(seed, size=8, kinds=SMOOTH)
    generator = torch.Generator().manual_seed(seed)
    inputs = {
        name: value.double() + 0.03 * torch.rand(value.shape, generator=generator, dtype=torch.float64)
        if value.is_floating_point()
        else value
        for name, value in random_inputs(graph, seed).items()
    }
    wrt = [name for name, value in inputs.items() if value.is_floating_point()]
    return graph, gradient(graph, wrt), inputs, wrt


@pytest.mark.parametrize("seeds", [range(k, 60, 6) for k in range(6)], ids=str)
def test_gradients_agree_with_differences(seeds: range) -> None:
    for seed in seeds:
        graph, joint, inputs, wrt = graph_with_gradient(seed)
        verify_graph(joint)
        generator = torch.Generator().manual_seed(seed)
        direction = {
            name: torch.randn(inputs[name].shape, generator=generator, dtype=torch.float64) for name in wrt
        }
        found = results(joint, inputs)
        slope = sum(float((found[f"{name}_grad"] * direction[name]).sum()) for name in wrt)
        expected = sum(
            directional_differences(graph, name, inputs, direction, 1e-6)
            for name, value in zip(graph.output_names, graph.outputs, strict=True)
            if value.type.dtype.is_float
        )
        assert slope == pytest.approx(expected, rel=1e-5, abs=1e-5), f"seed {seed}\n{joint}"


@pytest.mark.parametrize("seeds", [range(k, 40, 4) for k in range(4)], ids=str)
def test_simplified_and_split_gradients_keep_the_results(seeds: range) -> None:
    for seed in seeds:
        graph, joint, inputs, _ = graph_with_gradient(seed)
        optimized, _ = PassManager(default_pipeline(), verify=True).run(joint)
        assert_same_results(joint, optimized, inputs, rtol=1e-7, atol=1e-7)
        forward, backward = split(optimized, graph.output_names)
        verify_graph(forward)
        verify_graph(backward)
        first = results(forward, {item.name: inputs[item.name] for item in forward.inputs})
        given = inputs | first
        second = results(backward, {item.name: given[item.name] for item in backward.inputs})
        for name, value in results(optimized, inputs).items():
            torch.testing.assert_close((first | second)[name], value)
