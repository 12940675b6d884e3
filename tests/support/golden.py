"""Golden texts: what an IR, a pass or a printer is expected to write, kept in files."""

import difflib
from pathlib import Path


def compare_with_golden(path: Path, text: str, *, update: bool) -> str:
    """Return how `text` differs from the file's content, empty if it does not; `update` writes the file.

    A final newline is added to both, so that the files end as text files do.
    """
    text = text if text.endswith("\n") else text + "\n"
    if update:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return ""
    if not path.exists():
        return f"{path} does not exist; run pytest --update-golden and read what it wrote. It would hold:\n{text}"
    expected = path.read_text(encoding="utf-8")
    if expected == text:
        return ""
    difference = difflib.unified_diff(
        expected.splitlines(), text.splitlines(), f"expected: {path.name}", "got", lineterm=""
    )
    return "\n".join([f"{path} differs; if the change is meant, run pytest --update-golden", *difference])
