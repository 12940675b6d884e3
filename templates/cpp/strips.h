// Products of many rows: A is copied into strips of a tile's rows, in which the rows lie side by side for each k.
//
// A tile then reads its strip and its panel of B from front to back. A block of strips stays in L2 while every panel of
// B comes by once; each tile's sums go to the epilogue at once, so that their stores run beside the next tile's sums.
#ifndef GC_STRIPS_H
#define GC_STRIPS_H

#include "operands.h"

// out[k * rows + i] = from[i * row_stride + k * col_stride]; may write a register beyond the end.
template <class T>
GC_NOINLINE void gc_pack_strip(int64_t rows, int64_t depth, const T* GC_RESTRICT from, int64_t row_stride,
                               int64_t col_stride, T* GC_RESTRICT out) {
  constexpr int64_t L = GC_LANES(T);
  int64_t k = 0;
  if (col_stride == 1)
    for (; k + L <= depth; k += L)
      // Backwards: what a square of few rows writes too much belongs to the squares after it.
      for (int64_t i = (rows - 1) / L * L; i >= 0; i -= L)
        gc_transpose_square(gc_min_of(L, rows - i), from + i * row_stride + k, row_stride, out + k * rows + i, rows);
  for (; k < depth; ++k)
    for (int64_t i = 0; i < rows; ++i) out[k * rows + i] = from[i * row_stride + k * col_stride];
}

// Rows m .. m + rows of A as strips, one after the other, the last of what is left.
template <class T, class Left>
GC_NOINLINE void gc_pack_strips(const Left& left, int64_t m, int64_t rows, int64_t k, int64_t depth, int64_t reuse,
                                T* scratch, T* out) {
  if constexpr (__is_same(Left, gc_matrix<T>))
    if (left.row_stride == 1 && left.col_stride != 1) return left.copy_across(m, rows, k, depth, out);
  for (int64_t i = 0; i < rows; i += GC_TILE_ROWS) {
    const int64_t high = gc_min_of<int64_t>(GC_TILE_ROWS, rows - i);
    if constexpr (__is_same(Left, gc_matrix<T>)) {
      gc_pack_strip(high, depth, left.at(m + i, k), left.row_stride, left.col_stride, out + i * depth);
    } else {
      const gc_rows<T> from = left.rows(m + i, high, k, depth, reuse, scratch);
      gc_pack_strip(high, depth, from.data, from.row, from.column, out + i * depth);
    }
  }
}

struct gc_strip_blocks {
  int64_t depth, rows, columns, at_once;  // `at_once`: panels that are finished together
  bool kept;                              // all strips at once: they serve every block of columns
};

// Sums in one go: as many rows as leave room in L2. Otherwise their tiles wait in the workspace.
template <class T, class Right>
GC_INLINE gc_strip_blocks gc_strip_blocks_of(int64_t rows, int64_t columns, int64_t depth) {
  constexpr int64_t R = GC_TILE_ROWS, W = GC_TILE_VECTORS * GC_LANES(T), L2 = GC_RIGHT_BYTES / (int64_t)sizeof(T);
  const int64_t deep = gc_is_packed<Right> ? gc_packed_depth<T>(depth) : gc_blocks_of<T>(depth).depth;
  const bool whole = depth <= deep;
  // A B that is packed for each block of rows anew asks for more of them.
  const int64_t room = whole || gc_is_packed<Right> ? L2 * 3 / 8 : GC_WEIGHT_BYTES / (int64_t)sizeof(T);
  const int64_t strips = gc_max_of<int64_t>(1, room / deep / R);
  int64_t panels = gc_is_packed<Right> ? gc_ceil_div(columns, W) : gc_max_of<int64_t>(1, L2 / deep / W);
  if (!whole) panels = gc_min_of(panels, GC_SUMS(T) / (strips * R * W));
  return {deep, gc_even_block(rows, strips * R, R), gc_even_block(columns, panels * W, W),
          whole ? gc_max_of<int64_t>(1, gc_min_of<int64_t>(4, GC_STRIP_DEPTH / deep)) : 1,
          whole && (rows + R) * deep <= gc_workspace<T>::strips};
}

// Whether whole panels of B need no packing before: the first strip's tiles copy what they read.
template <class T, class Right>
GC_INLINE bool gc_copied_by_tiles(const Right& right, int64_t rows, int64_t depth) {
  if constexpr (__is_same(Right, gc_matrix<T>)) 
    return right.col_stride == 1 && rows >= GC_TILE_ROWS && !right.direct(rows, depth);
  return false;
}

// A strip by one panel of B[k .. k + depth, n .. n + columns), from column j of it on.
template <class T, class Right>
GC_NOINLINE void gc_strip_tile(const Right& right, int64_t k, int64_t n, int64_t j, int64_t columns, int64_t rows,
                               int64_t depth, const T* a, const gc_panels<T>& panels, bool copies, T* copy, T* c,
                               int64_t c_row) {
  constexpr int64_t L = GC_LANES(T), W = GC_TILE_VECTORS * L;
  constexpr int Reads = gc_reads_of<Right>, R = GC_TILE_ROWS, V = GC_TILE_VECTORS;
  const bool last = j + W >= columns;
  if (rows < R || columns - j <= L) {
    const int64_t wide = gc_min_of(W, columns - j);
    return gc_row_panel<T, Reads>(rows, wide, depth, a, 1, rows, panels.part(j, wide, columns), c, c_row, k > 0,
                                  gc_ahead<T>{});
  }
  if constexpr (__is_same(Right, gc_matrix<T>))
    if (copies && columns - j >= W) {
      constexpr int64_t rows_ahead = 32;
      return gc_tile<T, R, V, Reads, true, true>(depth, a, 1, R, right.at(k, n + j), right.row_stride, nullptr, c, c_row,
                                                 k > 0, rows_ahead * right.row_stride, copy + j * depth);
    }
  gc_tile<T, R, V, Reads, true>(depth, a, 1, R, last ? panels.last : panels.data + j / W * panels.step,
                                last ? panels.last_row : panels.row, nullptr, c, c_row, k > 0, panels.ahead);
}

template <class T, class Left, class Right, class Finish>
void gc_contract_strips(int64_t m_begin, int64_t m_end, int64_t n_begin, int64_t n_end, int64_t depth, const Left& left,
                        const Right& right, const Finish& finish) {
  constexpr int64_t R = GC_TILE_ROWS, W = GC_TILE_VECTORS * GC_LANES(T);
  auto& work = *(gc_workspace<T>*)gc_thread_workspace();
  const gc_strip_blocks blocks = gc_strip_blocks_of<T, Right>(m_end - m_begin, n_end - n_begin, depth);
  const bool whole = depth <= blocks.depth;
  const int64_t group = blocks.at_once * W;
  T* const sums = whole ? work.left : work.sums;
  gc_panels<T> panels = {};
  for (int64_t n = n_begin; n < n_end; n += blocks.columns) {
    const int64_t columns = gc_min_of(blocks.columns, n_end - n);
    for (int64_t m = m_begin; m < m_end; m += blocks.rows) {
      const int64_t rows = gc_min_of(blocks.rows, m_end - m);
      T* const strips = !whole ? work.weight : work.sums + (blocks.kept ? (m - m_begin) * depth : 0);
      for (int64_t k = 0; k == 0 || k < depth; k += blocks.depth) {
        const int64_t steps = gc_min_of(blocks.depth, depth - k);
        const bool fresh = !whole || m == m_begin;
        const bool copies = fresh && gc_copied_by_tiles<T>(right, rows, depth);
        if (fresh) panels = gc_right_block<T>(right, rows, k, steps, n, columns, work.right, copies);
        if (!blocks.kept || n == n_begin) gc_pack_strips(left, m, rows, k, steps, columns, work.left, strips);
        T* tile = sums;
        for (int64_t j = 0; j < columns; j += group) {
          const int64_t count = gc_min_of(group, columns - j);
          for (int64_t i = 0; i < rows; i += R, tile += whole ? 0 : R * W) {
            const int64_t high = gc_min_of(R, rows - i);
            for (int64_t p = 0; p < count; p += W)
              gc_strip_tile<T>(right, k, n, j + p, columns, high, steps, strips + i * steps, panels, copies && i == 0,
                               work.right, tile + p, group);
            if (k + steps >= depth) finish(m + i, high, n + j, count, (const T*)tile, group);
          }
        }
      }
    }
  }
}

#endif
