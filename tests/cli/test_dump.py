"""`graphc dump` prints every stage, in every form that the stage has."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from graphc.cli.dump import STAGES
from graphc.ir.parse import parse_graph

Command = Callable[..., Any]
Golden = Callable[[str, str], None]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("symbol.txt", ["net.py", "--stage", "symbol"]),
        ("symbol.dot", ["net.py", "--stage", "symbol", "--format", "dot"]),
        ("graph.txt", ["net.py", "--stage", "graph"]),
        ("graph.dot", ["double.graph", "--stage", "graph", "--format", "dot"]),
        ("grad.txt", ["net.py", "--stage", "grad"]),
        ("optimized.txt", ["net.py", "--after", "all"]),
        ("fused.txt", ["double.graph", "--stage", "fused"]),
        ("fused.dot", ["double.graph", "--stage", "fused", "--format", "dot"]),
        ("plan.txt", ["double.graph", "--stage", "plan"]),
    ],
)
def test_stages_as_text(
    graphc: Command, golden: Golden, folder: Path, name: str, arguments: list[str]
) -> None:
    result = graphc("dump", *arguments)
    assert (result.code, result.err) == (0, "")
    golden(f"cli/{name}", result.out.replace(str(folder), "FOLDER"))


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_has_text_and_json(graphc: Command, stage: str) -> None:
    text = graphc("dump", "net.py", "--stage", stage)
    assert text.code == 0
    assert "relu1" in text.out
    data = graphc("dump", "net.py", "--stage", stage, "--json").json
    assert data["stage"] == stage


def test_graph_text_parses_back_and_is_a_model(graphc: Command, folder: Path) -> None:
    assert graphc("dump", "net.py", "--stage", "grad", "--output", "grad.graph").code == 0
    text = (folder / "grad.graph").read_text()
    assert str(parse_graph(text)) == text
    again = graphc("dump", "grad.graph")
    assert again.out == text


def test_graph_json_holds_every_node_and_edge(graphc: Command) -> None:
    data = graphc("dump", "double.graph", "--json").json
    assert [(node["id"], node["kind"]) for node in data["nodes"]] == [
        ("x", "data"), ("y", "primitive"), ("output y", "output"),
    ]  # fmt: skip
    assert data["nodes"][1]["primitive"] == "add"
    edges = [(edge["source"], edge["target"], edge["input"], edge["value"]) for edge in data["edges"]]
    assert edges == [("x", "y", 0, "x"), ("x", "y", 1, "x"), ("y", "output y", 0, "y")]


def test_passes_show_what_each_one_does(graphc: Command) -> None:
    result = graphc("dump", "net.py", "--train", "--passes")
    headings = [line for line in result.out.splitlines() if line.startswith("// ") and ":" in line[:20]]
    assert headings[0].startswith("// as traced: ")
    assert any(line.startswith("// strip_markers: ") and "->" in line for line in headings)
    assert len({line.split(":")[0] for line in headings}) == len(headings)


def test_after_a_pass(graphc: Command) -> None:
    assert "stop_gradient" in graphc("dump", "net.py", "--train").out
    assert "stop_gradient" not in graphc("dump", "net.py", "--train", "--after", "strip_markers").out


def test_training_step_is_one_graph(graphc: Command) -> None:
    result = graphc("dump", "net.py", "--optimizer", "sgd,learning_rate=0.1,momentum=0.9")
    assert result.code == 0
    assert "update (" in result.out
    assert "state %fc1_weight_" in result.out
    assert "%learning_rate: f32[]" in result.out


def test_sources_go_to_a_folder(graphc: Command, folder: Path) -> None:
    result = graphc("dump", "net.py", "--stage", "source", "--output", "generated")
    assert result.code == 0
    files = graphc("dump", "net.py", "--stage", "source", "--json").json["files"]
    assert {path.name: path.read_text() for path in (folder / "generated").iterdir()} == files
    assert "net.py:6 FullyConnected fc2" in "".join(files.values())


def test_triton_sources_need_no_gpu(graphc: Command) -> None:
    result = graphc("dump", "net.py", "--stage", "source", "--target", "gpu")
    assert result.code == 0
    assert "@triton.jit" in result.out


def test_plan_names_the_line_of_what_is_alive_at_the_peak(graphc: Command) -> None:
    data = graphc("dump", "net.py", "--train", "--stage", "plan", "--json").json
    assert data["arena"]["naive"] >= data["arena"]["planned"] >= data["arena"]["lower_bound"] > 0
    assert all(row["line"].startswith("net.py:") for row in data["peak"]["live"])


@pytest.mark.parametrize("strategy", ["none", "inplace", "coshare", "both"])
def test_plan_of_each_strategy(graphc: Command, strategy: str) -> None:
    best = graphc("dump", "net.py", "--train", "--stage", "plan", "--json").json["arena"]
    arena = graphc("dump", "net.py", "--train", "--stage", "plan", "--memory", strategy, "--json").json[
        "arena"
    ]
    assert best["planned"] <= arena["planned"] <= arena["naive"]
    if strategy in ("none", "inplace"):
        assert arena["planned"] == arena["naive"]


def test_picture_of_the_arena_has_a_box_for_each_tensor(graphc: Command) -> None:
    arguments = ("dump", "net.py", "--train", "--stage", "plan")
    plan = graphc(*arguments, "--json").json
    root = ElementTree.fromstring(graphc(*arguments, "--format", "svg").out)
    svg = "{http://www.w3.org/2000/svg}"
    boxes = {box.findtext(f"{svg}title"): box for box in root.iter(f"{svg}rect")}
    boxes.pop(None)
    placed = plan["plan"]["placements"]
    assert len(boxes) == len(placed)
    # Heights are to scale: all of the arena is 490 pixels high.
    scale = 490 / plan["arena"]["planned"]
    for place in placed:
        height = f"{scale * place['size']:.2f}".rstrip("0").rstrip(".")
        assert any(
            box.get("height") == height
            for title, box in boxes.items()
            if f"offset {place['offset']:,}" in title
        )
    live = [row["buffer"] for row in plan["peak"]["live"]]
    dark = [title.partition(":")[0] for title, box in boxes.items() if box.get("stroke") == "#333333"]
    assert sorted(dark) == sorted(live)
    assert any("net.py:" in title for title in boxes)


def test_named_dimension_needs_a_size_for_a_plan(graphc: Command) -> None:
    missing = graphc("dump", "net.py", "--shape", "data=N,5", "--stage", "plan")
    assert missing.code == 2
    assert "--size N=64" in missing.err
    small, large = (
        graphc(
            "dump", "net.py", "--shape", "data=N,5", "--stage", "plan", "--size", f"N={size}", "--json"
        ).json
        for size in (2, 200)
    )
    assert small["arena"]["planned"] < large["arena"]["planned"]


def test_shapes_and_types_from_the_command_line(graphc: Command) -> None:
    result = graphc("dump", "net.py", "--shape", "data=7,9", "--dtype", "f16")
    assert "%data: f16[7,9]" in result.out
    assert "%fc1_weight: f16[4,9]" in result.out


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["net.py", "--stage", "grph"], 2, "'grph' is not one of"),
        (["net.py", "--stage", "plan", "--format", "dot"], 2, "has no dot form"),
        (["net.py", "--stage", "fused", "--format", "svg"], 2, "belongs to --stage plan"),
        (["net.py", "--memory", "none"], 2, "belongs to --stage plan"),
        (["net.py", "--stage", "plan", "--memory", "best"], 2, "'best' is not one of"),
        (["net.py", "--stage", "plan", "--after", "prune"], 2, "belong to --stage graph"),
        (["net.py", "--after", "prun"], 2, "did you mean 'prune'"),
        (["net.py", "--passes", "--json"], 2, "--passes prints text"),
        (["net.py", "--shape", "data=64,"], 1, "error[G2"),
        (["net.py", "--shape", "dta=64,5"], 2, "did you mean 'data'?"),
        (["net.py", "--shape", "data=6 4"], 2, "is no shape"),
        (["net.py", "--dtype", "f31"], 2, "no element type 'f31'"),
        (["net.py", "--size", "N=x"], 2, "is no size"),
        (["net.py", "--stage", "plan", "--size", "M=4"], 2, "no dimension is named 'M'"),
        (["net.py", "--optimizer", "sdg"], 1, "error[G101]"),
        (["net.py", "--optimizer", "sgd,rate=1"], 1, "error[G102]"),
        (["net.py", "--optimizer", "sgd,momentum=much"], 2, "'much' is no number"),
        (["double.graph", "--train"], 1, "error[G404]"),
        (["double.graph", "--stage", "symbol"], 2, "it has no stage symbol"),
        (["double.graph", "--shape", "x=8"], 2, "a Graph has its shapes"),
        (["net.py", "--output", "missing/file.txt"], 2, "cannot write missing/file.txt"),
        (["net.py", "--stage", "source", "--output", "net.py"], 2, "need a folder"),
        (["net.py", "--stage", "source", "--target", "reference"], 2, "generates no source"),
    ],
)
def test_wrong_requests(graphc: Command, arguments: list[str], code: int, told: str) -> None:
    result = graphc("dump", *arguments)
    assert (result.code, result.out) == (code, "")
    assert told in result.err
