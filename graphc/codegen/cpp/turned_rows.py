"""Prints the tiles of short rows (`short_rows.py`): filled before the passes over a block, stored after them."""

from __future__ import annotations

from graphc.codegen.cpp.expressions import TYPES, affine_text, dim_factor
from graphc.codegen.cpp.streams import StreamPrinter
from graphc.codegen.cpp.writer import Lanes
from graphc.ir.kernel import Affine, Load, Store


class TurnedRowPrinter(StreamPrinter):
    """Reads loads from such tiles, and lets stores write to them."""

    def turn_rows(self, lanes: Lanes | None) -> None:
        """Declare the tiles of a block, and fill those of loads."""
        short = self.schedule.short
        self.turned_elements.clear()
        if short is None or lanes is None:
            return
        tiles: dict[str, str] = {}
        for statement in self.nest.body:
            if isinstance(statement, Load) and statement.name in short.loads:
                if statement.buffer not in tiles:
                    tiles[statement.buffer] = self._declare_turned(statement)
                    source = self._first_row(statement, lanes)
                    self.out.line(f"gc_turn_rows({tiles[statement.buffer]}, {source}, {lanes.count});")
                self.turned_elements[statement.name] = tiles[statement.buffer], lanes.variable
            elif isinstance(statement, Store) and statement.buffer in short.stores:
                key = f"to {statement.buffer}"
                if key not in self.turned_elements:
                    self.turned_elements[key] = self._declare_turned(statement), lanes.variable

    def turn_back(self, lanes: Lanes | None) -> None:
        """Store the tiles of a block's results."""
        for store in {s.buffer: s for s in self.stores}.values():
            turned = self.turned_elements.get(f"to {store.buffer}")
            if turned is not None and lanes is not None:
                self.out.line(f"gc_turn_back({self._first_row(store, lanes)}, {turned[0]}, {lanes.count});")

    def _declare_turned(self, access: Load | Store) -> str:
        (row,) = self.nest.reductions
        name = self.names.new(f"{access.buffer}_turned")
        value = access.value if isinstance(access, Store) else access.name
        kind = TYPES[self.analysis.definitions[value].dtype]
        self.out.line(f"alignas(64) {kind} {name}[{dim_factor(row.extent)}][{self.schedule.block}];")
        return name

    def _first_row(self, access: Load | Store, lanes: Lanes) -> str:
        (row,) = self.nest.reductions
        at = access.index[0].substitute({row.name: Affine()})
        vector = self.schedule.vector
        assert vector is not None
        return f"{self.buffers[access.buffer]} + {affine_text(at, {**self.env, vector: lanes.start})}"

    def _turned(self, key: str) -> str | None:
        """The element of a tile at the present point."""
        found = self.turned_elements.get(key)
        return f"{found[0]}[{self.env[self.nest.reductions[0].name]}][{found[1]}]" if found else None

    def element(self, load: Load) -> str:
        return self._turned(load.name) or super().element(load)

    def place(self, store: Store) -> str:
        return self._turned(f"to {store.buffer}") or super().place(store)
