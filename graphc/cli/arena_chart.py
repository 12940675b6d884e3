"""The arena as a picture: steps across, bytes up, one box for each tensor; reuse shows as boxes side by side.

SVG that any browser shows: a box tells its tensor, size and the user's line under the pointer. Tensors live at the
peak have a dark edge; the peak's step and the lower bound are drawn as lines.
"""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

from graphc.ir.program import Plan, Program
from graphc.passes.memory import memory_report, placement_rows

WIDTH, HEIGHT = 1200.0, 600.0
LEFT, TOP, RIGHT, BOTTOM = 90.0, 60.0, 20.0, 50.0
COLOURS = ("#6c8ebf", "#7aa874", "#d6a85f", "#b07aa1", "#76b7b2", "#e08e79", "#9aa5b1", "#c9b458")
"""By operator, in order of first use."""
DARK, PALE, PEAK = "#333333", "#dddddd", "#b23a48"
LETTER = 6.5
"""Width of a letter of a label, in pixels."""


def arena_svg(program: Program, made: Plan) -> str:
    """The picture of a plan, as the text of an SVG file."""
    report = memory_report(program, made)
    return _Chart(report, placement_rows(program, made), len(program.steps)).text()


class _Chart:
    """One picture in the making; x and y turn steps and bytes into pixels."""

    def __init__(self, report: dict[str, Any], rows: list[dict[str, Any]], steps: int) -> None:
        self.report, self.rows, self.steps = report, rows, max(steps, 1)
        self.size: int = max(report["arena"]["planned"], 1)
        self.alive = {row["buffer"] for row in report["peak"]["live"]}
        self.root = ElementTree.Element(
            "svg",
            {"xmlns": "http://www.w3.org/2000/svg", "viewBox": f"0 0 {WIDTH:g} {HEIGHT:g}"},
            **{"font-family": "sans-serif", "font-size": "12"},
        )

    def x(self, step: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * step / self.steps

    def y(self, nbytes: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * nbytes / self.size

    def text(self) -> str:
        self.add("rect", x=0, y=0, width=WIDTH, height=HEIGHT, fill="white")
        self.axes()
        kinds = dict.fromkeys(row["operator"].partition(" ")[0] for row in self.rows)
        colours = {kind: COLOURS[k % len(COLOURS)] for k, kind in enumerate(kinds)}
        for row in self.rows:
            self.box(row, colours[row["operator"].partition(" ")[0]])
        self.bounds()
        self.legend(colours)
        ElementTree.indent(self.root)
        return ElementTree.tostring(self.root, encoding="unicode") + "\n"

    def add(self, tag: str, text: str = "", **attributes: float | str) -> ElementTree.Element:
        """An element; numbers are pixels, an underscore in a name stands for a dash."""
        given = {
            name.replace("_", "-"): f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
            for name, value in attributes.items()
        }  # fmt: skip
        element = ElementTree.SubElement(self.root, tag, given)
        element.text = text or None
        return element

    def axes(self) -> None:
        arena, name = self.report["arena"], self.report["program"]
        title = (
            f"arena of {name}: {arena['planned']:,} bytes planned, {arena['naive']:,} without reuse, "
            f"{arena['lower_bound']:,} at least"
        )
        self.add("text", title, x=LEFT, y=20, font_size=14)
        parts = [
            f"{kind} {_amount(row['at_peak'])}"
            for kind, row in self.report["categories"].items()
            if row["at_peak"]
        ]
        self.add("text", "at the peak: " + ", ".join(parts), x=LEFT, y=HEIGHT - 28)
        for quarter in range(5):
            nbytes = self.size * quarter / 4
            y = self.y(nbytes)
            self.add("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, stroke=PALE)
            self.add("text", _amount(nbytes), x=LEFT - 8, y=y + 4, text_anchor="end")
        for step in range(0, self.steps, max(1, self.steps // 12)):
            self.add("text", str(step), x=self.x(step + 0.5), y=HEIGHT - BOTTOM + 18, text_anchor="middle")
        self.add("text", "step", x=(LEFT + WIDTH - RIGHT) / 2, y=HEIGHT - 10, text_anchor="middle")

    def box(self, row: dict[str, Any], colour: str) -> None:
        left, right = self.x(row["first"]), self.x(row["last"] + 1)
        low, high = self.y(row["offset"]), self.y(row["offset"] + row["bytes"])
        edge = DARK if row["buffer"] in self.alive else "white"
        box = self.add(
            "rect", x=left, y=high, width=right - left, height=low - high, fill=colour, stroke=edge
        )
        words = [
            f"{row['buffer']}: {row['type']}, {row['bytes']:,} bytes, {row['category']}",
            row["operator"],
            row["line"],
        ]
        steps = f"steps {row['first']} to {row['last']}, offset {row['offset']:,}"
        ElementTree.SubElement(box, "title").text = "\n".join(filter(None, [*words, steps]))
        if low - high > 14 and right - left > LETTER * len(row["buffer"]):
            x, y = (left + right) / 2, (low + high) / 2 + 4
            self.add("text", row["buffer"], x=x, y=y, text_anchor="middle", pointer_events="none")

    def bounds(self) -> None:
        if not self.rows:
            return
        peak = self.report["peak"]
        x, y = self.x(peak["step"] + 0.5), self.y(self.report["arena"]["lower_bound"])
        self.add("line", x1=x, x2=x, y1=TOP - 6, y2=HEIGHT - BOTTOM, stroke=PEAK, stroke_dasharray="4 3")
        self.add("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, stroke=PEAK, stroke_dasharray="4 3")
        beyond = x > WIDTH / 2
        place = {"x": x + (-6 if beyond else 6), "text_anchor": "end" if beyond else "start"}
        self.add("text", f"peak: step {peak['step']}, {peak['kernel']}", y=TOP - 8, fill=PEAK, **place)

    def legend(self, colours: dict[str, str]) -> None:
        x = LEFT
        for kind, colour in colours.items():
            label = kind or "other"
            if x + 20 + LETTER * len(label) > WIDTH - RIGHT:
                break
            self.add("rect", x=x, y=28, width=10, height=10, fill=colour)
            self.add("text", label, x=x + 14, y=37)
            x += 28 + LETTER * len(label)


def _amount(nbytes: float) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if nbytes >= size:
            return f"{nbytes / size:.1f} {unit}"
    return f"{nbytes:.0f} B"
