"""Every end of a command has its exit code, and the user never sees a traceback."""

import json
import shlex
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from graphc.cli import main as cli
from graphc.diagnostics import ToolchainError, fail

HEAVY = {"torch", "triton", "numpy", "sympy", "networkx", "jinja2", "rich", "safetensors", "filelock"}


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Installs a function as `graphc probe [ARGUMENTS]...`."""

    def install(body: Callable[[], object]) -> None:
        @click.command()
        @click.argument("arguments", nargs=-1)
        def probe(arguments: tuple[str, ...]) -> object:
            return body()

        module = types.ModuleType("probe_command")
        module.probe = probe
        monkeypatch.setitem(sys.modules, "probe_command", module)
        monkeypatch.setitem(cli.COMMANDS, "probe", ("probe_command:probe", "Probe."))

    return install


def raising(error: BaseException) -> Callable[[], object]:
    def body() -> object:
        raise error

    return body


@pytest.mark.parametrize(("returned", "code"), [(None, 0), (0, 0), (3, 3)])
def test_what_a_command_returns_is_the_exit_code(command, returned: int | None, code: int) -> None:
    command(lambda: returned)
    assert cli.exit_code_of(["probe"]) == code


def test_diagnostic_goes_to_stderr_with_exit_code_1(command, capsys: pytest.CaptureFixture[str]) -> None:
    command(raising(fail("G203", "inner dimensions differ", operator="dot", name="fc2", help="transpose it")))
    assert cli.exit_code_of(["probe"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "error[G203] dot 'fc2': inner dimensions differ" in captured.err
    assert "help: transpose it" in captured.err
    assert "Traceback" not in captured.err


def test_toolchain_error_has_exit_code_4(command) -> None:
    command(raising(ToolchainError(fail("G501", "no compiler").diagnostic)))
    assert cli.exit_code_of(["probe"]) == 4


def test_interrupt_has_exit_code_130(command, capsys: pytest.CaptureFixture[str]) -> None:
    command(raising(KeyboardInterrupt()))
    assert cli.exit_code_of(["probe"]) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_reader_that_leaves_is_no_defect() -> None:
    program = (
        "import click, sys, types\n"
        "from graphc.cli import main as cli\n"
        "probe = click.command()(lambda: [click.echo('line') for _ in range(100_000)] and None)\n"
        "sys.modules['probe_command'] = types.SimpleNamespace(probe=probe)\n"
        "cli.COMMANDS['probe'] = ('probe_command:probe', 'Probe.')\n"
        "cli.main(['probe'])\n"
    )
    command = f"{shlex.quote(sys.executable)} -c {shlex.quote(program)} | head -n 1; exit ${{PIPESTATUS[0]}}"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert (result.stdout, result.stderr, result.returncode) == ("line\n", "", 141)


def test_defect_leaves_a_bundle(
    command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    model = tmp_path / "mlp.py"
    model.write_text("net = 1\n")
    command(raising(ZeroDivisionError("division by zero")))
    assert cli.exit_code_of(["probe", f"{model}:net"]) == 70
    captured = capsys.readouterr()
    assert "defect in graphc: ZeroDivisionError: division by zero" in captured.err
    assert "Traceback" not in captured.err
    (folder,) = tmp_path.glob("graphc-defect-*")
    assert str(folder) in captured.err
    assert "ZeroDivisionError" in (folder / "traceback.txt").read_text()
    assert (folder / "mlp.py").read_text() == "net = 1\n"
    circumstances = json.loads((folder / "command.json").read_text())
    assert circumstances["schema"] == 1
    assert circumstances["command"] == f"graphc probe {model}:net"
    assert circumstances["versions"]["torch"]


def test_defect_on_a_full_disk_shows_the_traceback_instead(
    command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    command(raising(ZeroDivisionError("division by zero")))
    assert cli.exit_code_of(["probe"]) == 70
    assert "raise error" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["dcotor"], "did you mean 'doctor'?"),
        (["qqqq"], "commands are run, dump"),
        (["doctor", "--jsn"], "--jsn"),
        (["--nonsense"], "--nonsense"),
    ],
)
def test_wrong_usage_has_exit_code_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.exit_code_of(arguments) == 2
    assert message in capsys.readouterr().err


def test_main_exits_with_the_code(command) -> None:
    command(lambda: 3)
    with pytest.raises(SystemExit) as exit_info:
        cli.main(["probe"])
    assert exit_info.value.code == 3


@pytest.mark.parametrize("name", list(cli.COMMANDS))
def test_every_listed_command_is_there_and_helps(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.exit_code_of([name, "--help"]) == 0
    assert f"Usage: graphc {name}" in capsys.readouterr().out


def test_help_lists_the_commands_and_loads_no_heavy_library() -> None:
    program = (
        "import sys\n"
        "from graphc.cli.main import exit_code_of\n"
        "code = exit_code_of(['--help'])\n"
        "print('loaded', *sorted({name.partition('.')[0] for name in sys.modules}))\n"
        "sys.exit(code)\n"
    )
    output = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    ).stdout
    help_text, _, loaded = output.partition("loaded")
    assert all(f"  {name} " in help_text for name in cli.COMMANDS)
    assert not HEAVY & set(loaded.split())


def test_console_script_runs() -> None:
    script = Path(sys.executable).with_name("graphc")
    result = subprocess.run([script, "--version"], check=True, capture_output=True, text=True)
    assert result.stdout == "graphc, version 0.1.0\n"


def test_python_dash_m_is_the_command() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "graphc", "--version"], check=True, capture_output=True, text=True
    )
    assert result.stdout == "graphc, version 0.1.0\n"
