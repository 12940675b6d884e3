"""Composition of symbols: names, arguments, outputs, groups, internals, attributes, as MXNet's users know them."""

import copy
import inspect
import pickle

import numpy
import pytest

import graphc as mx
from graphc.symbol import Symbol


def two_layers() -> Symbol:
    net = mx.sym.Variable("data")
    net = mx.sym.FullyConnected(net, name="fc1", num_hidden=10)
    net = mx.sym.Activation(net, name="relu1", act_type="relu")
    net = mx.sym.FullyConnected(net, name="fc2", num_hidden=20)
    return mx.sym.SoftmaxOutput(net, name="softmax")


def test_arguments_and_outputs() -> None:
    net = two_layers()
    assert net.name == "softmax"
    assert net.list_outputs() == ["softmax_output"]
    assert net.list_arguments() == [
        "data",
        "fc1_weight",
        "fc1_bias",
        "fc2_weight",
        "fc2_bias",
        "softmax_label",
    ]
    assert net.list_auxiliary_states() == []
    assert net.list_inputs() == net.list_arguments()


def test_auxiliary_states_are_inputs_but_no_arguments() -> None:
    net = mx.sym.BatchNorm(mx.sym.Variable("data"), name="bn")
    assert net.list_arguments() == ["data", "bn_gamma", "bn_beta"]
    assert net.list_auxiliary_states() == ["bn_moving_mean", "bn_moving_var"]
    assert net.list_inputs() == ["data", "bn_gamma", "bn_beta", "bn_moving_mean", "bn_moving_var"]


def test_internals_and_children() -> None:
    net = two_layers()
    internals = net.get_internals()
    assert internals.list_outputs() == [
        *("data", "fc1_weight", "fc1_bias", "fc1_output", "relu1_output"),
        *("fc2_weight", "fc2_bias", "fc2_output", "softmax_label", "softmax_output"),
    ]
    hidden = internals["fc1_output"]
    assert hidden.list_arguments() == ["data", "fc1_weight", "fc1_bias"]
    assert internals["fc1"].name == "fc1"
    children = net.get_children()
    assert children is not None
    assert children.list_outputs() == ["fc2_output", "softmax_label"]
    assert mx.sym.Variable("x").get_children() is None


def test_composition_by_name_replaces_variables() -> None:
    """An unfinished layer takes its data later; the symbol that is composed stays as it was."""
    below = two_layers().get_internals()["fc2_output"]
    layer = mx.sym.FullyConnected(name="fc3", num_hidden=5)
    assert layer.list_arguments() == ["fc3_data", "fc3_weight", "fc3_bias"]
    composed = layer(fc3_data=below, name="composed")
    assert composed.name == "composed"
    assert composed.list_arguments() == [
        *("data", "fc1_weight", "fc1_bias", "fc2_weight", "fc2_bias", "fc3_weight", "fc3_bias"),
    ]
    assert layer.list_arguments() == ["fc3_data", "fc3_weight", "fc3_bias"]
    assert layer(below).list_arguments() == composed.list_arguments()


def test_composition_keeps_shared_nodes_shared() -> None:
    x = mx.sym.Variable("x")
    shared = mx.sym.exp(x, name="shared")
    both = mx.sym.Group([shared + 1, shared * 2])(x=mx.sym.Variable("y") + 1)
    assert both.get_internals().list_outputs().count("shared_output") == 1
    assert both.list_arguments() == ["y"]


def test_keyword_arguments_may_come_in_any_order() -> None:
    x, w = mx.sym.Variable("x"), mx.sym.Variable("w")
    net = mx.sym.FullyConnected(weight=w, num_hidden=3, data=x, no_bias=True)
    assert net.list_arguments() == ["x", "w"]


def test_positional_parameters_follow_the_inputs() -> None:
    x = mx.sym.Variable("x")
    assert mx.sym.Reshape(x, (0, -1)).attr("shape") == "(0, -1)"
    assert x.clip(0, 1).list_attr() == {"a_min": "0", "a_max": "1"}


def test_none_is_not_given() -> None:
    net = mx.sym.FullyConnected(mx.sym.Variable("x"), weight=None, num_hidden=2, name="fc")
    assert net.list_arguments() == ["x", "fc_weight", "fc_bias"]


def test_automatic_names() -> None:
    with mx.name.NameManager():
        a, b = mx.sym.Variable("a"), mx.sym.Variable("b")
        made = {
            "_plus0": a + b,
            "_plus1": a + b,
            "_minus0": a - b,
            "_mul0": a * b,
            "_div0": a / b,
            "_mod0": a % b,
            "_power0": a**b,
            "_plusscalar0": a + 1,
            "_plusscalar1": 1 + a,
            "_minusscalar0": a - 1,
            "_rminusscalar0": 1 - a,
            "_mulscalar0": a * 2,
            "_divscalar0": a / 2,
            "_rdivscalar0": 2 / a,
            "_modscalar0": a % 2,
            "_rmodscalar0": 2 % a,
            "_powerscalar0": a**2,
            "_rpowerscalar0": 2**a,
            "_mulscalar1": -a,
            "abs0": abs(a),
            "_equal0": a == b,
            "_not_equal0": a != b,
            "_greater0": a > b,
            "_greater_equal0": a >= b,
            "_lesser0": a < b,
            "_lesser_equal0": a <= b,
            "_greater_scalar0": a > 1,
            "_lesser_scalar0": a < 1,
            "_equal_scalar0": a == 1,
            "fullyconnected0": mx.sym.FullyConnected(a, num_hidden=2),
            "concat0": mx.sym.Concat(a, b),
            "concat1": mx.sym.concat(a, b),
            "_maximum0": mx.sym.maximum(a, b),
            "_maximumscalar0": mx.sym.maximum(2, a),
            "_minimumscalar0": mx.sym.minimum(a, 2),
            "_rpowerscalar1": mx.sym.pow(2, a),
            "_hypot0": mx.sym.hypot(a, b),
            "_zeros0": mx.sym.zeros((2, 3)),
            "_ones0": mx.sym.ones(4),
            "_arange0": mx.sym.arange(4),
            "_full0": mx.sym.full((2,), 7),
        }
    assert [symbol.name for symbol in made.values()] == list(made)


def test_prefix_and_nested_managers() -> None:
    data = mx.sym.Variable("data")
    with mx.name.Prefix("encoder_"):
        first = mx.sym.FullyConnected(data, num_hidden=2)
        second = mx.sym.FullyConnected(first, num_hidden=2, name="top")
        variable = mx.sym.Variable("v")
        with mx.name.NameManager():
            assert mx.sym.exp(data).name == "exp0"
    assert (first.name, second.name, variable.name) == ("encoder_fullyconnected0", "encoder_top", "v")
    assert second.list_arguments()[-2:] == ["encoder_top_weight", "encoder_top_bias"]


def test_attributes() -> None:
    data = mx.sym.Variable("data", attr={"mood": "angry"}, lr_mult=2, shape=(2, 3), dtype="float32")
    assert data.attr("mood") == "angry"
    assert data.attr("lr_mult") == data.attr("__lr_mult__") == "2"
    assert data.list_attr()["__shape__"] == "(2, 3)"
    net = mx.sym.Convolution(data, name="conv", kernel=(1, 1), num_filter=1, attr={"__mine__": "so so"})
    assert net.attr("__mine__") == "so so"
    assert net.attr("kernel") == "(1, 1)"
    assert net.attr("stride") is None
    assert net.attr_dict()["conv_weight"] == {"__mine__": "so so"}
    assert "mood" not in net.list_attr()


def test_attribute_scopes() -> None:
    with mx.AttrScope(ctx_group="4", __data__="great"):
        data = mx.sym.Variable("data", attr={"__data__": "mine"})
        with mx.AttrScope(__more__="yes"):
            net = mx.sym.FullyConnected(data, num_hidden=1, name="fc")
    assert data.attr("__data__") == "mine"
    assert data.attr("ctx_group") == "4"
    assert net.attr("__data__") == "great"
    assert net.attr_dict()["fc_weight"]["__more__"] == "yes"
    assert mx.sym.Variable("after").list_attr() == {}


def test_groups() -> None:
    a, b = mx.sym.Variable("a"), mx.sym.exp(mx.sym.Variable("b"), name="e")
    group = mx.sym.Group([a, b, mx.sym.SliceChannel(b, num_outputs=2, name="parts")])
    assert group.list_outputs() == ["a", "e_output", "parts_output0", "parts_output1"]
    assert group.name is None
    assert len(group) == group.num_outputs == 4
    assert [part.list_outputs() for part in group] == [[name] for name in group.list_outputs()]
    assert group["parts_output1"].list_outputs() == group[3].list_outputs() == group[-1].list_outputs()
    assert group[1:3].list_outputs() == ["e_output", "parts_output0"]
    assert repr(group) == "<Symbol group [a, e, parts]>"
    assert repr(b) == "<Symbol e>"


def test_variable_number_of_inputs() -> None:
    parts = mx.sym.SliceChannel(mx.sym.Variable("x"), num_outputs=3)
    assert mx.sym.Concat(*parts).attr("num_args") == "3"
    assert mx.sym.add_n([part * 2 for part in parts]).list_arguments() == ["x"]
    assert mx.sym.Concat(arg0=parts[0], arg1=parts[2], dim=0).attr("num_args") == "2"


def test_equality_makes_graphs_and_hashing_is_by_identity() -> None:
    a, b = mx.sym.Variable("a"), mx.sym.Variable("a")
    assert isinstance(a == b, Symbol)
    assert len({a, b, a}) == 2


def test_numpy_scalars_are_numbers() -> None:
    a = mx.sym.Variable("a")
    assert (numpy.float32(2) * a).attr("scalar") == "2.0"
    assert (a + numpy.int64(3)).attr("scalar") == "3.0"


def test_copies_stand_for_the_same_graph() -> None:
    net = two_layers()
    for other in (copy.copy(net), copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert other is not net
        assert other.tojson() == net.tojson()
        assert other.debug_str() == net.debug_str()  # source lines too


def test_methods_are_operators() -> None:
    x = mx.sym.Variable("x")
    assert x.reshape((0, -1)).name.startswith("reshape")
    assert x.sum(axis=1, keepdims=True).infer_shape(x=(2, 3))[1] == [(2, 1)]
    assert x.astype("float16").infer_type()[1] == [numpy.float16]
    assert x.expand_dims(1).squeeze().infer_shape(x=(2, 3))[1] == [(2, 3)]
    with pytest.raises(AttributeError, match="no attribute 'reshap'"):
        x.reshap((2, 3))


def test_functions_have_signatures() -> None:
    signature = inspect.signature(mx.sym.FullyConnected)
    assert list(signature.parameters)[:4] == ["data", "weight", "bias", "num_hidden"]
    assert signature.parameters["no_bias"].default is False
    assert signature.parameters["num_hidden"].default is inspect.Parameter.empty
    assert "num_hidden: an integer >= 1, required." in (mx.sym.FullyConnected.__doc__ or "")
    assert "FullyConnected" in dir(mx.sym)
    assert not hasattr(mx.sym, "FullyConected")


def test_debug_text() -> None:
    net = mx.sym.FullyConnected(mx.sym.Variable("x"), num_hidden=2, name="fc")
    text = net.debug_str()
    assert text.splitlines()[:2] == ["Symbol Outputs:", "\toutput[0]=fc(0)"]
    assert "Op:FullyConnected, Name=fc" in text
    assert "Defined:test_composition.py:" in text
    assert "\targ[1]=fc_weight(0) weight" in text
    assert "\tnum_hidden=2" in text
