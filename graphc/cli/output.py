"""How commands give back what they found: data on stdout or into a file that is never half-written, tables, units."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import click

from graphc.files import written_aside

SCHEMA = 1
"""The schema number of all JSON here; it rises when a key changes its meaning or goes."""


@contextlib.contextmanager
def result_file(path: Path) -> Iterator[BinaryIO]:
    """A file for what a command found, never half-written.

    Usage error when the folder is missing or cannot be written, one message when the disk is full.
    """
    opened = False
    try:
        with written_aside(path) as file:
            opened = True
            yield file
    except OSError as error:
        kind = click.ClickException if opened else click.UsageError
        raise kind(f"cannot write {path}: {error.strerror or error}") from None


def emit(text: str, output: Path | None = None) -> None:
    """Give text to stdout, or write it to a file."""
    text = text if text.endswith("\n") else text + "\n"
    if output is None:
        click.echo(text, nl=False)
        return
    with result_file(output) as file:
        file.write(text.encode())
    click.echo(f"wrote {output}", err=True)


def emit_json(data: dict[str, Any], output: Path | None = None) -> None:
    """Give data as JSON with the schema number; infinities and NaN become text, as JSON has none."""
    emit(json.dumps({"schema": SCHEMA, **_plain(data)}, indent=2), output)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return str(value)
    return value if isinstance(value, (str, int, float, bool)) or value is None else str(value)


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], caption: str = "") -> None:
    """Print a table on stdout; columns whose name ends in > are right-aligned."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(
        title=title, title_justify="left", title_style="bold", caption=caption or None, box=box.SIMPLE
    )
    table.caption_justify = "left"
    for column in columns:
        right = column.endswith(">")
        table.add_column(
            column.rstrip(">"), justify="right" if right else "left", overflow="fold", no_wrap=right
        )
    for row in rows:
        table.add_row(*row)
    # A pipe has no width; 80 columns would fold what a file or a pager has room for.
    console = Console() if sys.stdout.isatty() else Console(width=160)
    console.print(table)


@contextlib.contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[str], None]]:
    """A progress bar on stderr; call the result before each item with its name."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        started = 0

        def item(name: str) -> None:
            nonlocal started
            bar.update(task, completed=started, description=f"{what} {name}")
            started += 1

        yield item


def format_bytes(count: float) -> str:
    """Bytes with a binary unit: 1536 -> '1.5 KiB'."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def format_seconds(seconds: float) -> str:
    """Seconds with a unit that leaves three digits: 0.00012 -> '120 us'."""
    for unit, factor in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= factor:
            return f"{seconds / factor:.3g} {unit}"
    return f"{seconds / 1e-9:.0f} ns"
