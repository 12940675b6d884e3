"""Model files: written as MXNet 1.9.1 writes them, read from every version since 0.7, damaged ones refused."""

import json
from pathlib import Path
from typing import Any

import pytest

import graphc as mx


def network() -> mx.Symbol:
    net = mx.sym.Variable("data", lr_mult=2, shape=(0, 3, 8, 8))
    with mx.AttrScope(ctx_group="stage", __mine__="yes"):
        net = mx.sym.Convolution(net, kernel=(3, 3), num_filter=4, name="conv")
    net = mx.sym.BatchNorm(net, fix_gamma=False, eps=1e-5, name="bn")
    parts = mx.sym.SliceChannel(net, num_outputs=2, name="parts")
    net = mx.sym.Concat(*parts, name="joined") * 2 + 1
    return mx.sym.Group([mx.sym.Flatten(net, name="flat"), parts[1]])


def test_format() -> None:
    with mx.name.NameManager():
        net = mx.sym.FullyConnected(mx.sym.Variable("x"), num_hidden=2, no_bias=True, name="fc") + 1
    assert json.loads(net.tojson()) == {
        "nodes": [
            {"op": "null", "name": "x", "inputs": []},
            {"op": "null", "name": "fc_weight", "inputs": []},
            {
                "op": "FullyConnected",
                "name": "fc",
                "attrs": {"no_bias": "True", "num_hidden": "2"},
                "inputs": [[0, 0, 0], [1, 0, 0]],
            },
            {"op": "_plus_scalar", "name": "_plusscalar0", "attrs": {"scalar": "1"}, "inputs": [[2, 0, 0]]},
        ],
        "arg_nodes": [0, 1],
        "node_row_ptr": [0, 1, 2, 3, 4],
        "heads": [[3, 0, 0]],
        "attrs": {"mxnet_version": ["int", 10901]},
    }


def test_round_trip(tmp_path: Path) -> None:
    net = network()
    net.save(tmp_path / "net-symbol.json")
    loaded = mx.sym.load(tmp_path / "net-symbol.json")
    assert loaded.tojson() == net.tojson()
    assert loaded.list_outputs() == net.list_outputs() == ["flat_output", "parts_output1"]
    assert loaded.list_auxiliary_states() == ["bn_moving_mean", "bn_moving_var"]
    assert loaded.attr_dict() == net.attr_dict()
    assert loaded.infer_shape(data=(2, 3, 8, 8)) == net.infer_shape(data=(2, 3, 8, 8))
    assert [path.name for path in tmp_path.iterdir()] == ["net-symbol.json"]


def test_file_written_by_mxnet() -> None:
    """A file of MXNet 1.9.1, which leaves an operator's parameters on its automatic variables too."""
    text = """{
      "nodes": [
        {"op": "null", "name": "data", "inputs": []},
        {"op": "null", "name": "bn_gamma", "attrs": {"eps": "1e-05"}, "inputs": []},
        {"op": "null", "name": "bn_beta", "attrs": {"eps": "1e-05"}, "inputs": []},
        {"op": "null", "name": "bn_moving_mean", "attrs": {"__init__": "[\\"zero\\", {}]"}, "inputs": []},
        {"op": "null", "name": "bn_moving_var", "attrs": {"__init__": "[\\"one\\", {}]"}, "inputs": []},
        {"op": "BatchNorm", "name": "bn", "attrs": {"eps": "1e-05"},
         "inputs": [[0, 0, 0], [1, 0, 0], [2, 0, 0], [3, 0, 1], [4, 0, 1]]},
        {"op": "Activation", "name": "relu", "attrs": {"act_type": "relu"}, "inputs": [[5, 0, 0]]}
      ],
      "arg_nodes": [0, 1, 2, 3, 4], "node_row_ptr": [0, 1, 2, 3, 4, 5, 8, 9], "heads": [[6, 0, 0]],
      "attrs": {"mxnet_version": ["int", 10901]}
    }"""
    net = mx.sym.load_json(text)
    assert net.list_arguments() == ["data", "bn_gamma", "bn_beta"]
    assert net.list_auxiliary_states() == ["bn_moving_mean", "bn_moving_var"]
    assert net.get_internals()["bn_output"].attr("eps") == "1e-05"


def old_document() -> dict[str, Any]:
    """A file of version 0.8: two kinds of attributes, inputs in pairs, no auxiliary states."""

    def node(
        op: str, name: str, inputs: list[list[int]], param: dict[str, str], **attr: str
    ) -> dict[str, Any]:
        extra = {"attr": attr} if attr else {}
        return {"op": op, "param": param, "name": name, "inputs": inputs, "backward_source_id": -1, **extra}

    return {
        "nodes": [
            node("null", "data", [], {}, lr_mult="0.5"),
            node("null", "conv_weight", [], {}),
            node("null", "conv_bias", [], {}),
            node(
                "Convolution",
                "conv",
                [[0, 0], [1, 0], [2, 0]],
                {"kernel": "(3L,3L)", "num_filter": "4", "workspace": "512", "cudnn_tune": "off"},
                weight_lr_mult="1.2",
                ctx_group="stage",
            ),
            node("null", "bn_gamma", [], {}),
            node("null", "bn_beta", [], {}),
            node("BatchNorm", "bn", [[3, 0], [4, 0], [5, 0]], {"eps": "0.001", "momentum": "0.9"}),
            node("Pooling", "pool", [[6, 0]], {"kernel": "(2,2)", "stride": "(2,2)", "pool_type": "max"}),
            node("_Plus", "sum", [[7, 0], [7, 0]], {}),
            node("ElementWiseSum", "total", [[8, 0], [7, 0]], {"num_args": "2"}),
            node("null", "softmax_label", [], {}),
            node("Softmax", "softmax", [[9, 0], [10, 0]], {"multi_output": "True"}),
        ],
        "arg_nodes": [0, 1, 2, 4, 5, 10],
        "heads": [[11, 0]],
    }


def test_files_of_version_0_8() -> None:
    net = mx.sym.load_json(json.dumps(old_document()))
    assert net.list_arguments() == [
        *("data", "conv_weight", "conv_bias", "bn_gamma", "bn_beta", "softmax_label")
    ]
    assert net.list_auxiliary_states() == ["bn_moving_mean", "bn_moving_var"]
    attributes = net.attr_dict()
    assert attributes["conv_weight"]["__lr_mult__"] == "1.2"
    assert attributes["conv"]["__ctx_group__"] == "stage"
    assert attributes["data"]["lr_mult"] == "0.5"
    assert attributes["pool"]["pooling_convention"] == "full"
    # 9 - 3 + 1 = 7 positions in windows of two give four, not three, when the last is filled up.
    assert net.get_internals()["pool_output"].infer_shape(data=(1, 3, 9, 9))[1] == [(1, 4, 4, 4)]


@pytest.mark.parametrize("key", ["attr", "attrs"])
def test_files_between(key: str) -> None:
    """0.9 to 0.11 keep all attributes under `attr`, later ones under `attrs`."""
    document = {
        "nodes": [
            {"op": "null", "name": "x", "inputs": []},
            {
                "op": "Pooling",
                "name": "p",
                key: {"kernel": "(2, 2)", "__mine__": "a", "mirror_stage": "True"},
                "inputs": [[0, 0, 0]],
            },
        ],
        "arg_nodes": [0],
        "heads": [[1, 0, 0]],
        "attrs": {"mxnet_version": ["int", 905]},
    }
    net = mx.sym.load_json(json.dumps(document))
    assert net.attr("__mine__") == "a"
    assert net.attr("__mirror_stage__") == "True"
    assert net.attr("kernel") == "(2, 2)"
    assert net.attr("pooling_convention") is None


def damaged(change: Any) -> str:
    document = json.loads(network().tojson())
    change(document)
    return json.dumps(document)


def set_input(document: dict[str, Any], name: str, position: int, value: Any) -> None:
    node = next(node for node in document["nodes"] if node["name"] == name)
    node["inputs"][position] = value


DAMAGES: dict[str, tuple[Any, str, str]] = {
    "no nodes": (lambda d: d.pop("nodes"), "G312", "has no list of nodes"),
    "no heads": (lambda d: d.pop("heads"), "G312", "computes nothing"),
    "empty": (lambda d: d.update(nodes=[], heads=[]), "G312", "computes nothing"),
    "node without name": (lambda d: d["nodes"][0].pop("name"), "G312", "node 0 has no op and name"),
    "missing node": (lambda d: set_input(d, "flat", 0, [99, 0, 0]), "G312", "flat reads node 99 of"),
    "negative node": (lambda d: set_input(d, "flat", 0, [-1, 0, 0]), "G312", "flat reads node -1"),
    "missing output": (lambda d: set_input(d, "joined", 0, [6, 7, 0]), "G312", "joined reads output 7"),
    "odd input": (lambda d: set_input(d, "flat", 0, "x"), "G312", "flat has the input 'x'"),
    "head beyond": (lambda d: d.update(heads=[[500, 0, 0]]), "G312", "heads reads node 500"),
    "too few inputs": (lambda d: d["nodes"][3]["inputs"].pop(), "G312", "has 2 inputs, and takes 3"),
    "attribute": (
        lambda d: d["nodes"][3]["attrs"].update(kernel=3),
        "G312",
        "an attribute of conv is no text",
    ),
    "parameter": (lambda d: d["nodes"][3]["attrs"].update(kernel="x"), "G104", "'kernel' cannot be 'x'"),
    "operator": (lambda d: d["nodes"][3].update(op="Convolutio"), "G101", "did you mean 'Convolution'"),
    "cycle": (lambda d: set_input(d, "conv", 0, [len(d["nodes"]) - 1, 0, 0]), "G311", "has a cycle"),
    "inputs of a variable": (
        lambda d: d["nodes"][0].update(inputs=[[1, 0, 0]]),
        "G312",
        "variable data has inputs",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_documents(damage: str) -> None:
    change, code, text = DAMAGES[damage]
    with pytest.raises(mx.GraphcError) as caught:
        mx.sym.load_json(damaged(change))
    assert caught.value.diagnostic.code == code
    assert text in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"nodes": 3}', "[" * 100000])
def test_texts_that_are_no_model(text: str) -> None:
    with pytest.raises(mx.GraphcError) as caught:
        mx.sym.load_json(text)
    assert caught.value.diagnostic.code in ("G310", "G312")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe\x00")
    for name in ("absent.json", "bytes.json"):
        with pytest.raises(mx.GraphcError, match=name) as caught:
            mx.sym.load(tmp_path / name)
        assert caught.value.diagnostic.code == "G310"


def test_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "net.json"
    mx.sym.Variable("old").save(path)

    def full_disk(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full_disk)
    with pytest.raises(OSError, match="No space"):
        mx.sym.Variable("new").save(path)
    assert mx.sym.load(path).list_arguments() == ["old"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["net.json"]


def test_nodes_in_any_order() -> None:
    """A file whose nodes stand users first is no cycle."""
    document = {
        "nodes": [
            {"op": "exp", "name": "e", "inputs": [[1, 0, 0]]},
            {"op": "null", "name": "x", "inputs": []},
        ],
        "arg_nodes": [1],
        "heads": [[0, 0, 0]],
    }
    assert mx.sym.load_json(json.dumps(document)).list_arguments() == ["x"]
