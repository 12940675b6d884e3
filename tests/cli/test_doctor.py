"""`graphc doctor` finds what is there, and says what is missing and what to do."""

import io
import json
import stat
from pathlib import Path

import pytest

from graphc.cli import main as cli
from graphc.cli.doctor import as_data, problems_of, tables_of
from graphc.runtime.folders import cache_folder
from graphc.runtime.survey import Cache, Compiler, Gpu, Survey, examine_cache, examine_compiler


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def survey_with(*compilers: Compiler, writable: bool = True, gpus: tuple[Gpu, ...] = ()) -> Survey:
    cache = Cache("/var/graphc", entries=2, size_bytes=1536, free_bytes=1 << 40, writable=writable)
    libraries = {"torch": "2.13.0", "triton": None}
    return Survey("Linux", "a processor", 2, "3.11.7", libraries, compilers, gpus, "550.1", "12.8", cache)


def test_json_describes_this_machine(capsys: pytest.CaptureFixture[str], cache_folder: Path) -> None:
    assert cli.exit_code_of(["doctor", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["schema"] == 1
    assert data["problems"] == []
    used = next(compiler for compiler in data["compilers"] if compiler["command"] == data["compiler"])
    assert used["openmp_threads"] >= 1
    assert used["vector_bits"] >= 128
    assert data["libraries"]["torch"].startswith("2.")
    assert data["cache"]["folder"] == str(cache_folder)


def test_missing_compiler_is_named_with_a_remedy(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler -m64")
    assert cli.exit_code_of(["doctor"]) == 4
    captured = capsys.readouterr()
    assert "no-such-compiler" in captured.out
    assert "no working C++ compiler (no-such-compiler -m64: not found)" in captured.err
    assert "help: install g++ or clang++" in captured.err


def test_compiler_that_fails_is_quoted(tmp_path: Path) -> None:
    fails = script(tmp_path / "c++", "echo 'note: hello' >&2; echo 'error: licence expired' >&2; exit 1")
    assert examine_compiler(fails).problem == "error: licence expired"


def test_compiler_whose_program_is_wrong_is_refused(tmp_path: Path) -> None:
    wrong = script(
        tmp_path / "c++",
        'for word; do case "$previous" in -o) output=$word;; esac; previous=$word; done\n'
        '[ -z "$output" ] || { printf "#!/bin/sh\\necho 4 wrong\\n" > "$output"; chmod +x "$output"; }',
    )
    assert "wrong sum" in examine_compiler(wrong).problem


def test_compiler_without_libmvec_still_works(tmp_path: Path) -> None:
    plain = script(
        tmp_path / "c++",
        'for word; do [ "$word" != -lmvec ] || { echo "no -lmvec" >&2; exit 1; }; done\nexec g++ "$@"',
    )
    found = examine_compiler(plain)
    assert (found.works, found.libmvec) == (True, False)
    assert found.openmp_threads >= 1


def test_first_working_compiler_is_the_one_used() -> None:
    broken, working = Compiler("g++", problem="not found"), Compiler("clang++", "clang 19", 256, 8, False)
    found = survey_with(broken, working, Compiler("other", "1"))
    assert found.compiler is working
    assert problems_of(found) == ()
    assert as_data(found, ())["compiler"] == "clang++"


def test_cache_that_cannot_be_written_is_a_problem() -> None:
    (problem,) = problems_of(survey_with(Compiler("g++", "g++ 12"), writable=False))
    assert "/var/graphc cannot be written" in problem
    assert "GRAPHC_CACHE_DIR" in problem


def test_tables_show_a_gpu_and_sizes() -> None:
    from rich.console import Console

    console = Console(width=120, record=True, file=io.StringIO())
    for table in tables_of(
        survey_with(Compiler("g++", "g++ 12", 512, 2, True), gpus=(Gpu("H200", "sm_90", 141 << 30),))
    ):
        console.print(table)
    text = console.export_text()
    for expected in (
        "H200",
        "sm_90",
        "141.0 GiB",
        "driver 550.1",
        "512 bits",
        "1.5 KiB",
        "1.0 TiB",
        "not installed",
    ):
        assert expected in text


def test_cache_is_counted(tmp_path: Path) -> None:
    assert examine_cache(tmp_path / "not" / "there").entries == 0
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "program.so").write_bytes(bytes(100))
    found = examine_cache(tmp_path)
    assert (found.entries, found.size_bytes, found.writable) == (2, 200, True)
    assert found.free_bytes > 0


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"GRAPHC_CACHE_DIR": "/a/b"}, Path("/a/b")),
        ({"GRAPHC_CACHE_DIR": "", "XDG_CACHE_HOME": "/c"}, Path("/c/graphc")),
        ({"GRAPHC_CACHE_DIR": "", "XDG_CACHE_HOME": "", "HOME": "/h"}, Path("/h/.cache/graphc")),
    ],
)
def test_cache_folder_follows_the_environment(
    environment: dict[str, str], expected: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert cache_folder() == expected
