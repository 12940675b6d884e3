// Products of many rows: A is copied into strips of a tile's rows, in which the rows lie side by side for each k.
//
// A tile then reads its strip and its panel of B from front to back. A block of strips stays in L2 while every panel of
// B comes by once; each tile's sums go to the epilogue at once, so that their stores run beside the next tile's sums.
#ifndef GC_STRIPS_H
#define GC_STRIPS_H

#include "operands.h"

// The rows of the first strip of `rows`: a full tile, or the highest binary digit of what is left.
GC_INLINE int64_t gc_strip_height(int64_t rows) {
  if (rows >= GC_TILE_ROWS) return GC_TILE_ROWS;
  return rows >= 8 ? 8 : rows >= 4 ? 4 : rows >= 2 ? 2 : 1;
}

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

// Rows m .. m + rows of A as strips, one after the other.
template <class T, class Left>
GC_NOINLINE void gc_pack_strips(const Left& left, int64_t m, int64_t rows, int64_t k, int64_t depth, int64_t reuse,
                                T* scratch, T* out) {
  int64_t done = 0;
  if constexpr (__is_same(Left, gc_matrix<T>))
    if (left.row_stride == 1 && left.col_stride != 1) {
      done = rows / GC_TILE_ROWS * GC_TILE_ROWS;
      left.copy_across(m, done, k, depth, out);
    }
  for (int64_t i = done, high; i < rows; i += high) {
    high = gc_strip_height(rows - i);
    if constexpr (__is_same(Left, gc_matrix<T>)) {
      gc_pack_strip(high, depth, left.at(m + i, k), left.row_stride, left.col_stride, out + i * depth);
    } else {
      const gc_rows<T> from = left.rows(m + i, high, k, depth, reuse, scratch);
      gc_pack_strip(high, depth, from.data, from.row, from.column, out + i * depth);
    }
  }
}

template <class T, int V, int Reads>
GC_INLINE void gc_strip_tile(int64_t rows, int64_t depth, const T* a, const T* b, int64_t b_row, T* c, int64_t c_row,
                             bool accumulate, int64_t b_ahead) {
#define GC_STRIP(R) \
  if (rows == R) return gc_tile<T, R, V, Reads, true>(depth, a, 1, R, b, b_row, nullptr, c, c_row, accumulate, b_ahead);
  GC_STRIP(GC_TILE_ROWS)
#if GC_TILE_ROWS > 8
  GC_STRIP(8)
#endif
  GC_STRIP(4) GC_STRIP(2) GC_STRIP(1)
#undef GC_STRIP
}

struct gc_strip_blocks {
  int64_t depth, rows, columns, at_once;  // `at_once`: panels that are finished together
  bool kept;                              // all strips at once: they serve every block of columns
};

// Sums in one go: as many rows as leave room in L2. Otherwise their tiles wait in the workspace.
template <class T, class Right>
GC_INLINE gc_strip_blocks gc_strip_blocks_of(int64_t rows, int64_t columns, int64_t depth) {
  constexpr int64_t R = GC_TILE_ROWS, W = GC_TILE_VECTORS * GC_LANES(T), L2 = GC_RIGHT_BYTES / (int64_t)sizeof(T);
  const int64_t deep = gc_max_of<int64_t>(1, gc_blocks_of<T>(depth).depth);
  const bool whole = depth <= deep;
  const int64_t strips = gc_max_of<int64_t>(1, L2 * 3 / 8 / deep / R);
  int64_t panels = gc_is_packed<Right> ? gc_ceil_div(columns, W) : gc_max_of<int64_t>(1, L2 / deep / W);
  if (!whole) panels = gc_min_of(panels, GC_SUMS(T) / (strips * R * W));
  return {deep, gc_even_block(rows, strips * R, R), gc_even_block(columns, panels * W, W),
          whole ? gc_max_of<int64_t>(1, gc_min_of<int64_t>(4, GC_STRIP_DEPTH / deep)) : 1,
          whole && (rows + R) * deep <= gc_workspace<T>::strips};
}

// Whether whole panels of B need no packing before: the first strip's tiles copy what they read.
template <class T, class Right>
GC_INLINE bool gc_copied_by_tiles(const Right& right, int64_t rows, int64_t depth) {
  if constexpr (__is_same(Right, gc_matrix<T>)) return right.col_stride == 1 && !right.direct(rows, depth);
  return false;
}

template <class T, class Left, class Right, class Finish>
void gc_contract_strips(int64_t m_begin, int64_t m_end, int64_t n_begin, int64_t n_end, int64_t depth, const Left& left,
                        const Right& right, const Finish& finish) {
  constexpr int64_t L = GC_LANES(T), R = GC_TILE_ROWS, W = GC_TILE_VECTORS * L;
  constexpr int Reads = gc_reads_of<Right>;
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
          for (int64_t i = 0, high; i < rows; i += high, tile += whole ? 0 : R * W) {
            high = gc_strip_height(rows - i);
            for (int64_t p = 0; p < count; p += W) {
              const T* const a = strips + i * steps;
              if constexpr (__is_same(Right, gc_matrix<T>))
                if (copies && i == 0 && columns - j - p >= W) {
                  gc_tile<T, R, GC_TILE_VECTORS, Reads, true, true>(
                      steps, a, 1, R, right.at(k, n + j + p), right.row_stride, nullptr, tile + p, group, k > 0,
                      32 * right.row_stride, work.right + (j + p) * steps);
                  continue;
                }
              const bool last = j + p + W >= columns;
              const T* b = last ? panels.last : panels.data + (j + p) / W * panels.step;
              const int64_t b_row = last ? panels.last_row : panels.row;
              if (columns - j - p > L)
                gc_strip_tile<T, GC_TILE_VECTORS, Reads>(high, steps, a, b, b_row, tile + p, group, k > 0, panels.ahead);
              else gc_strip_tile<T, 1, Reads>(high, steps, a, b, b_row, tile + p, group, k > 0, panels.ahead);
            }
            if (k + steps >= depth) finish(m + i, high, n + j, count, (const T*)tile, group);
          }
        }
      }
    }
  }
}

#endif
