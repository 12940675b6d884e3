"""The golden helper itself: it must fail when texts differ, or the tests that use it show nothing."""

from pathlib import Path

from support.golden import compare_with_golden


def test_missing_file_is_reported_with_the_text(tmp_path: Path) -> None:
    report = compare_with_golden(tmp_path / "new.txt", "%a: f32[2]", update=False)
    assert "does not exist" in report
    assert "%a: f32[2]" in report
    assert not (tmp_path / "new.txt").exists()


def test_update_writes_and_then_agrees(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "graph.txt"
    assert compare_with_golden(path, "one\ntwo", update=True) == ""
    assert path.read_text() == "one\ntwo\n"
    assert compare_with_golden(path, "one\ntwo", update=False) == ""
    assert compare_with_golden(path, "one\ntwo\n", update=False) == ""


def test_difference_is_a_unified_diff(tmp_path: Path) -> None:
    path = tmp_path / "graph.txt"
    path.write_text("one\ntwo\nthree\n")
    report = compare_with_golden(path, "one\n2\nthree\n", update=False)
    assert "-two" in report.splitlines()
    assert "+2" in report.splitlines()
    assert " three" in report.splitlines()
