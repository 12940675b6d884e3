"""MODEL: every way to address one, and every way in which a model file can be broken."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest

import graphc as mx
from graphc.cli import main as cli
from graphc.cli.model import load_model
from graphc.diagnostics import GraphcError
from graphc.ir.graph import Graph

NET = """\
import graphc as mx

data = mx.sym.Variable("data")
fc1 = mx.sym.FullyConnected(data, num_hidden=4, name="fc1")
relu1 = mx.sym.Activation(fc1, act_type="relu", name="relu1")
net = mx.sym.SoftmaxOutput(relu1, name="softmax")
shapes = {"data": (2, 5)}


def build():
    print("building")
    return net


def sized(count):
    return net
"""
GRAPH = """\
graph double(%x: f32[4]) -> (%y) {
  %y: f32[4] = add(%x, %x)
}
"""

Write = Callable[[str, str], Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes a file into an empty working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def into(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path

    return into


def diagnostic(address: str) -> GraphcError:
    with pytest.raises(GraphcError) as info:
        load_model(address)
    return info.value


def usage(address: str) -> str:
    with pytest.raises(click.UsageError) as info:
        load_model(address)
    assert info.value.exit_code == 2
    return info.value.message


@pytest.mark.parametrize("attribute", ["net", "build"])
def test_file_with_attribute(write: Write, attribute: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = write("net.py", NET)
    model = load_model(f"{path}:{attribute}")
    assert isinstance(model.value, mx.Symbol)
    assert model.value.list_outputs() == ["softmax_output"]
    assert model.shapes == {"data": (2, 5)}
    # What the user's code prints is talk, not data.
    assert capsys.readouterr().out == ""


def test_file_alone_gives_the_model_that_is_part_of_no_other(write: Write) -> None:
    write("net.py", NET)
    assert load_model("net.py").name == "net"


def test_file_with_two_models_asks_which(write: Write) -> None:
    write("two.py", NET + "\nother = mx.sym.Activation(data, act_type='tanh')\n")
    assert "choose one: two.py:net, two.py:other" in usage("two.py")


def test_module_in_a_package(write: Write) -> None:
    write("pkg_of_models/__init__.py", "")
    write("pkg_of_models/net.py", NET)
    assert load_model("pkg_of_models.net:net").name == "net"


def test_model_file_imports_its_neighbour_from_any_folder(
    write: Write, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    write("layers_beside.py", "WIDTH = 7\n")
    text = "from layers_beside import WIDTH\n" + NET.replace("num_hidden=4", "num_hidden=WIDTH")
    path = write("net.py", text)
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    value = load_model(f"{path}:net").value
    assert isinstance(value, mx.Symbol)
    assert value.infer_shape(data=(2, 5))[0][1] == (7, 5)


def test_model_file_may_be_called_like_a_library(write: Write) -> None:
    path = write("click.py", NET)
    load_model(str(path))
    assert sys.modules["click"] is click


def test_saved_symbol_and_graph_text(write: Write) -> None:
    path = write("net.py", NET)
    symbol = load_model(str(path)).value
    assert isinstance(symbol, mx.Symbol)
    symbol.save("net.json")
    loaded = load_model("net.json").value
    assert isinstance(loaded, mx.Symbol)
    assert loaded.tojson() == symbol.tojson()
    write("double.graph", GRAPH)
    graph = load_model("double.graph").value
    assert isinstance(graph, Graph)
    assert graph.name == "double"


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("nte.py", "did you mean 'net.py'?"),
        ("net.py:nett", "did you mean 'net'?"),
        ("net.py:", "write file.py:attribute"),
        (":net", "write file.py:attribute"),
        ("missing/net.py", "there is no folder missing"),
        ("no.such.module:net", "there is no module 'no.such.module'"),
        ("nett", "did you mean 'net.py'?"),
        ("nothing.json", "there is no file nothing.json"),
        ("folder.py", "is no file"),
    ],
)
def test_address_that_leads_nowhere_is_wrong_usage(write: Write, address: str, told: str) -> None:
    write("net.py", NET)
    Path("folder.py").mkdir()
    assert told in usage(address)


@pytest.mark.parametrize(
    ("text", "address", "code", "told", "line"),
    [
        ("import graphc as mx\nnet = (1,\n", "bad.py", "G320", "bad.py does not parse", 2),
        ("net = 'a\n", "bad.py", "G320", "unterminated string", 1),
        ("x = 1\n\nnet = 1 / 0\n", "bad.py", "G321", "ZeroDivisionError: division by zero", 3),
        ("import no_such_library\n", "bad.py", "G321", "No module named 'no_such_library'", 1),
        ("import sys\nsys.exit(0)\n", "bad.py", "G321", "SystemExit", 2),
        ("def net():\n    raise KeyError('w')\n", "bad.py:net", "G321", "KeyError: 'w'", 2),
        ("net = 3\n", "bad.py:net", "G322", "'net' is a int", None),
        (NET, "bad.py:sized", "G322", "needs count", None),
        ("def net():\n    return 3\n", "bad.py:net", "G322", "net() returns a int", None),
        ("x = 3\n", "bad.py", "G323", "holds no Symbol and no Graph", None),
        ("def net():\n    return 3\n", "bad.py", "G323", "bad.py:net", None),
        (NET.replace("(2, 5)", "5"), "bad.py:net", "G325", "{'data': 5}", None),
        ("", "bad.py", "G323", "holds no Symbol", None),
    ],
)
def test_broken_model_file_is_one_diagnostic(
    write: Write, text: str, address: str, code: str, told: str, line: int | None
) -> None:
    write("bad.py", text)
    error = diagnostic(address)
    assert error.exit_code == 1
    assert error.diagnostic.code == code
    assert told in str(error)
    location = error.diagnostic.location
    assert (location.line if location else None) == line


def test_error_in_a_neighbour_is_located_there(write: Write) -> None:
    write("broken_beside.py", "def make():\n    return [][1]\n")
    write("net.py", "import broken_beside\nnet = broken_beside.make()\n")
    location = diagnostic("net.py").diagnostic.location
    assert location is not None
    assert str(location) == "broken_beside.py:2"


def test_diagnostic_of_the_model_itself_passes_through(write: Write) -> None:
    write("net.py", NET.replace("act_type", "act_typ"))
    error = diagnostic("net.py").diagnostic
    assert error.code == "G102"
    assert str(error.location) == "net.py:5"


def test_damaged_data_files(write: Write) -> None:
    write("bad.json", "{")
    assert diagnostic("bad.json").diagnostic.code == "G310"
    write("bad.graph", GRAPH.replace("add(%x, %x)", "add(%x, %z)"))
    with pytest.raises(GraphcError):
        cli_graph = load_model("bad.graph").value
        from graphc.primitives.verify import verify_graph

        assert isinstance(cli_graph, Graph)
        verify_graph(cli_graph)
    Path("binary.graph").write_bytes(b"\xff\xfe\x00")
    assert diagnostic("binary.graph").diagnostic.code == "G324"


def test_interrupt_while_loading_ends_the_command(write: Write) -> None:
    write("net.py", "raise KeyboardInterrupt\n")
    assert cli.exit_code_of(["dump", "net.py"]) == 130


@pytest.mark.parametrize(
    ("text", "arguments", "code"),
    [
        ("net = (1,\n", ["dump", "net.py"], 1),
        ("net = 1 / 0\n", ["dump", "net.py"], 1),
        (NET, ["dump", "nte.py"], 2),
        (NET, ["dump", "net.py"], 0),
    ],
)
def test_exit_codes_of_the_real_command(write: Write, text: str, arguments: list[str], code: int) -> None:
    write("net.py", text)
    script = Path(sys.executable).with_name("graphc")
    result = subprocess.run([script, *arguments], capture_output=True, text=True, check=False)
    assert result.returncode == code
    assert "Traceback" not in result.stderr
    assert bool(result.stdout) == (code == 0)
    if code == 1:
        assert result.stderr.startswith("error[G32")
