"""Short rows that windows read, copied to local tiles first: lane loops then have neither guards nor strides.

    y[i] = max over k of (0 <= 2 i + k - 1 < n ? x[2 i + k - 1] : -inf)
 becomes
    gc_fill_row(row, x - 1, 1, n + 1, -inf)      row[p][q] = x[2 q + p - 1] inside, -inf elsewhere
    y[i] = max(row[0][i], row[1][i], row[0][i + 1])

Loads that run along the same row of memory share a tile. A tile is longer than the row, so that a loop over whole
vectors reads nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from graphc.codegen.cpp.costs import statement_cost
from graphc.codegen.cpp.expressions import TYPES, affine_text, dim_factor, dim_text, literal
from graphc.codegen.cpp.nests import expressions
from graphc.codegen.cpp.scalars import ScalarPrinter
from graphc.codegen.cpp.schedule import Mode, extent_of
from graphc.codegen.cpp.writer import Lanes
from graphc.ir.kernel import Affine, Compute, Guard, Literal, Load, Random, Store
from graphc.types import DType

LONGEST_ROW = 512  # lanes; longer loops lose little at their ends
LARGEST_STRIDE = 4
DEAR = 12  # additions a lane; a compiler's masked loads keep up with cheaper loops
ROW_LANES = 16  # of four bytes in the widest vector
NEAR = 16  # elements that loads of one tile lie apart

# What lies in a tile: elements of one width, so that loops over them have all lanes of a vector.
TILE_TYPES = {
    DType.F32: "float",
    DType.I32: "int32_t",
    DType.BOOL: "int32_t",
    DType.U8: "int32_t",
    DType.I8: "int32_t",
    DType.I16: "int32_t",
}


@dataclass(frozen=True, slots=True)
class RowTile:
    """Loads, with their offsets, that read one row of memory: element e lies `e` elements after the lowest one's first.

    `edge`: the guard along the lanes, None where all elements are inside; its expression is that of offset 0 at lane 0.
    `whole`: guards that hold for the whole row or for none of it.
    """

    stride: int
    edge: Guard | None
    whole: tuple[Guard, ...]
    loads: tuple[tuple[int, Load], ...]

    @property
    def lowest(self) -> int:
        return min(offset for offset, _ in self.loads)

    def place(self, offset: int) -> tuple[int, int]:
        """(phase, shift) of the load with that offset: lane i reads element `shift + i` of the phase."""
        shift, phase = divmod(offset - self.lowest, self.stride)
        return phase, shift

    def size(self, lanes: int) -> int:
        """Elements of a phase that so many lanes reach."""
        return lanes + max(self.place(offset)[1] for offset, _ in self.loads)

    def reach(self, lanes: int) -> int:
        """Elements of memory, from the lowest load's first on, that so many lanes read."""
        return max(offset for offset, _ in self.loads) - self.lowest + self.stride * (lanes - 1) + 1

    @property
    def other(self) -> Literal:
        """What lies outside."""
        return next((load.other for _, load in self.loads if load.guards), 0)

    def takes(self, offset: int, extent: int) -> bool:
        """True when a load that is always inside is so by this tile's edge, too, or lies near where there is none."""
        if self.edge is None:
            return abs(offset - self.loads[0][0]) <= NEAR
        rest, low, high = self.edge.expression, self.edge.low, self.edge.high
        numbers = isinstance(rest.offset, int) and isinstance(low, int) and isinstance(high, int)
        if rest.terms or not numbers:
            return False
        assert isinstance(rest.offset, int) and isinstance(low, int) and isinstance(high, int)
        first = rest.offset + offset
        return low <= first and first + self.stride * (extent - 1) < high


def row_tiles(loads: Iterable[Load], vector: str, extent: int) -> list[RowTile]:
    """The tiles of those of the loads that run along the vector axis in small steps."""
    found: dict[object, list[RowTile]] = {}
    # Loads with an edge first: those that are always inside then find the row that they belong to.
    for load in sorted(loads, key=lambda load: not _edges(load, vector)):
        (index,) = load.index
        stride, offset = index.stride(vector), index.offset
        if not isinstance(stride, int) or not 1 <= stride <= LARGEST_STRIDE or not isinstance(offset, int):
            continue
        edges = _edges(load, vector)
        if load.dtype not in TILE_TYPES or len(edges) > 1:
            continue
        if any(edge.expression.stride(vector) != stride for edge in edges):
            continue
        start = {vector: Affine()}
        edge = (
            replace(edges[0], expression=edges[0].expression.substitute(start) + -offset) if edges else None
        )
        whole = tuple(guard for guard in load.guards if guard not in edges)
        tiles = found.setdefault((load.buffer, index.substitute(start) + -offset, stride, whole), [])
        mine = (offset, load)
        for number, tile in enumerate(tiles):
            fits = tile.edge == edge if edge is not None else tile.takes(offset, extent)
            if fits and (not load.guards or repr(load.other) == repr(tile.other)):
                tiles[number] = replace(tile, loads=(*tile.loads, mine))
                break
        else:
            tiles.append(RowTile(stride, edge, whole, (mine,)))
    return [tile for tiles in found.values() for tile in tiles]


def _edges(load: Load, vector: str) -> list[Guard]:
    """The guards that change along the lanes."""
    return [guard for guard in load.guards if guard.expression.stride(vector) != 0]


class RowTilePrinter(ScalarPrinter):
    """Prints the copies, and reads loads from them."""

    def start_of(self, access: Load | Store, start: str) -> str:
        """The address of an access where the vector axis begins."""
        vector = self.schedule.vector
        assert vector is not None
        place = access.index[0] if start != "0" else access.index[0].substitute({vector: Affine()})
        index = affine_text(place, {**self.env, vector: start})
        return f"{self.buffers[access.buffer]} + {index}"

    def fill_rows(self, roots: Sequence[str], stores: Sequence[Store], lanes: Lanes) -> Lanes:
        """Copy short rows that windows read; gives the lanes, in whole vectors where nothing else is read."""
        vector = self.schedule.vector
        extent = extent_of(self.nest, vector) if vector is not None else 0
        if vector is None or not isinstance(extent, int) or extent > LONGEST_ROW:
            return lanes
        wanted = self.needed(roots)
        inside = [s for s in self.nest.body if isinstance(s, Load) and s.name in wanted]
        walking = [load for load in inside if self.lane_level[load.name]]
        known = [
            load
            for load in walking
            if all(v in self.env or v == vector for e in expressions(load) for v in e.variables)
        ]
        tiles = row_tiles(known, vector, extent)
        edged = [load for tile in tiles if tile.edge is not None for _, load in tile.loads]
        work = sum(
            statement_cost(s) for s in self.nest.body if isinstance(s, Compute) and self.lane_level[s.name]
        )
        dear = extent >= ROW_LANES and work >= DEAR
        if not edged or not (dear or any(load.dtype.itemsize < 4 for load in edged)):
            return lanes
        vectors = -(-extent // ROW_LANES) * ROW_LANES
        for tile in tiles:
            self._fill_row(tile, vector, extent, vectors, lanes.variable)
        whole = sum(len(tile.loads) for tile in tiles) == len(walking) and all(
            self._in_row_tile(store) for store in stores
        )
        random = any(isinstance(self.analysis.definitions[name], Random) for name in wanted)
        alone = self.schedule.mode is Mode.MAP and not random
        return replace(lanes, count=str(vectors)) if whole and alone else lanes

    def _fill_row(self, tile: RowTile, vector: str, extent: int, vectors: int, lane: str) -> None:
        """Print the copy of one row, and let its loads be elements of the tile."""
        first = min(tile.loads, key=lambda pair: pair[0])[1]
        row = self.names.new(f"{first.name}_row")
        filled, size = (-(-tile.size(lanes) // ROW_LANES) * ROW_LANES for lanes in (extent, vectors))
        kind, reach = TILE_TYPES[first.dtype], tile.reach(extent)
        low, high = "0", str(reach)
        if tile.edge is not None:
            rest = tile.edge.expression + tile.lowest
            place = f"({affine_text(rest, self.env)})"
            low = f"{dim_text(tile.edge.low)} - {place}"
            high = f"gc_min_of<int64_t>({reach}, {dim_factor(tile.edge.high)} - {place})"
        if tile.whole:
            high = f"{self.condition(tile.whole)} ? {high} : 0"
        other = f"({kind}){literal(tile.other, first.dtype)}"
        self.out.line(f"alignas(64) {kind} {row}[{tile.stride}][{size}];")
        self.out.line(f"gc_fill_row<{filled}>({row}, {self.start_of(first, '0')}, {low}, {high}, {other});")
        places: dict[int, str] = {}
        for offset, load in tile.loads:
            phase, shift = tile.place(offset)
            if offset not in places:
                places[offset] = self.names.new(f"{load.name}_at")
                start = f"{row}[{phase}] + {shift}" if shift else f"{row}[{phase}]"
                self.out.line(f"const {kind}* const {places[offset]} = gc_hidden({start});")
            self.env[load.name] = self.from_tile(load, f"{places[offset]}[{lane}]")

    def from_tile(self, load: Load, element: str) -> str:
        """A load's value, given the element of a tile of four bytes that holds it."""
        if load.dtype is DType.BOOL:
            return f"({element} != 0)"
        if load.dtype.itemsize == 4:
            return element
        # A cast reads the wide element as it is; arithmetic on the narrow type sees that type.
        readers = [s for s in self.nest.body if load.name in self.analysis.reads(s)]
        plain = all(isinstance(s, Compute) and s.operation in ("cast", "where") for s in readers)
        return element if plain else f"({TYPES[load.dtype]}){element}"

    def _in_row_tile(self, store: Store) -> bool:
        """True for stores that a tile can hold while lanes beyond the row are computed, too."""
        dtype = self.analysis.definitions[store.value].dtype
        plain = self.schedule.vector is not None and store.index[0].stride(self.schedule.vector) == 1
        return plain and not store.guards and dtype in TILE_TYPES
