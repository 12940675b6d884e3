// Operands of contractions: matrices of any strides, of another type, packed before; how their blocks are brought in.
//
// Included by gemm.h; conv.h, channels_last.h and packet.h have operands of their own.
#ifndef GC_OPERANDS_H
#define GC_OPERANDS_H

#include "packed.h"

// A left operand has   rows(m, rows, k, depth, reuse, scratch) -> gc_rows: where those rows lie, copied to scratch or
//                      not (scratch holds GC_TILE_ROWS * (GC_DEEPEST + 16) elements; reuse is the columns of C);
//                      ahead(m, rows, k, depth) -> gc_ahead: what rows() will read.
// A right operand has  pack(k, depth, n, columns, width, out): out[i * width + j] = B[k + i, n + j], and zero for
//                      columns <= j < width;
//                      direct(rows, depth), whether B[k, n .. n + lanes) may be loaded in place instead;
//                      at(k, n) and row_stride, used then;
//                      or else gathers = true and panels(k, n, columns), where its rows are found by offsets;
//                      or it is a gc_packed, laid out before.

template <class Right>
constexpr bool gc_is_packed = false;
template <class T, int Reads>
constexpr bool gc_is_packed<gc_packed<T, Reads>> = true;

template <class Right, class = void>
constexpr int gc_reads_of = Right::gathers ? GC_GATHERED : GC_ROWS;
template <class Right>
constexpr int gc_reads_of<Right, decltype((void)Right::reads)> = Right::reads;

template <class T>
struct gc_rows {
  const T* data;
  int64_t row, column;
};

template <class T, class S = T>
struct gc_matrix;

template <class T>
struct gc_matrix<T, T> {
  const T* data;
  int64_t row_stride, col_stride;
  static constexpr bool gathers = false;

  const T* at(int64_t row, int64_t col) const { return data + row * row_stride + col * col_stride; }

  gc_rows<T> rows(int64_t m, int64_t rows, int64_t k, int64_t depth, int64_t reuse, T* scratch) const {
    const T* from = at(m, k);
    // Rows a power of two apart would fight for the same cache lines; a column's elements lie apart. Few columns do not
    // pay for a copy.
    bool clash = row_stride * (int64_t)sizeof(T) % 2048 == 0 && col_stride == 1;
    if (rows == 1 || (!clash && (col_stride == 1 || reuse <= 128))) return {from, row_stride, col_stride};
    return copy_rows(from, rows, depth, scratch);
  }

  // A transposed operand, rows close together: many tiles of it are copied at a time, in the order in which it lies.
  bool lies_across(int64_t reuse) const { return row_stride == 1 && col_stride != 1 && reuse > 128; }

  // out[i * depth + k * high + j] = A[m + i + j, k] for tiles of `high` rows from i on, the last one of what is left.
  void copy_across(int64_t m, int64_t rows, int64_t k, int64_t depth, T* out) const {
    const int64_t whole = rows / GC_TILE_ROWS * GC_TILE_ROWS;
    for (int64_t step = 0; step < depth; ++step) {
      const T* from = at(m, k + step);
      T* to = out + step * GC_TILE_ROWS;
      for (int64_t i = 0; i < rows; i += 64 / (int64_t)sizeof(T)) __builtin_prefetch(from + 16 * col_stride + i);
      for (int64_t i = 0; i < whole; i += GC_TILE_ROWS)
        __builtin_memcpy(to + i * depth, from + i, GC_TILE_ROWS * sizeof(T));
      for (int64_t i = whole; i < rows; ++i) out[whole * depth + step * (rows - whole) + i - whole] = from[i];
    }
  }

  gc_ahead<T> ahead(int64_t m, int64_t rows, int64_t k, int64_t depth) const {
    return {col_stride == 1 && rows > 0 ? at(m, k) : nullptr, rows, row_stride, depth};
  }

  gc_rows<T> copy_rows(const T* from, int64_t rows, int64_t depth, T* scratch) const {
    if (col_stride == 1) {
      constexpr int64_t step = GC_DEEPEST(T) + 16;
      for (int64_t i = 0; i < rows; ++i) __builtin_memcpy(scratch + i * step, from + i * row_stride, depth * sizeof(T));
      return {scratch, step, 1};
    }
    for (int64_t k = 0; k < depth; ++k)
      for (int64_t i = 0; i < rows; ++i) scratch[k * rows + i] = from[k * col_stride + i * row_stride];
    return {scratch, 1, rows};
  }

  // In place where few rows use B, or where the block lies close together and its rows do not clash.
  bool direct(int64_t rows, int64_t depth) const {
    int64_t bytes = row_stride * (int64_t)sizeof(T);
    return col_stride == 1 && (rows <= 2 * GC_TILE_ROWS || (bytes * depth <= (1 << 17) && bytes % 1024 != 0));
  }

  void pack(int64_t k, int64_t depth, int64_t n, int64_t columns, int64_t width, T* out) const {
    gc_pack_panel(at(k, n), row_stride, col_stride, depth, columns, width, out);
  }
};

// A matrix of another type S than the sums': converted when it is packed or copied, which happens once a block.
template <class T, class S>
struct gc_matrix {
  const S* data;
  int64_t row_stride, col_stride;
  static constexpr bool gathers = false;

  const T* at(int64_t, int64_t) const { return nullptr; }
  bool direct(int64_t, int64_t) const { return false; }
  gc_ahead<T> ahead(int64_t, int64_t, int64_t, int64_t) const { return {}; }

  gc_rows<T> rows(int64_t m, int64_t rows, int64_t k, int64_t depth, int64_t, T* scratch) const {
    constexpr int64_t step = GC_DEEPEST(T) + 16;
    const S* from = data + m * row_stride + k * col_stride;
    for (int64_t i = 0; i < rows; ++i) gc_convert(depth, from + i * row_stride, col_stride, scratch + i * step);
    return {scratch, step, 1};
  }

  void pack(int64_t k, int64_t depth, int64_t n, int64_t columns, int64_t width, T* out) const {
    const S* from = data + k * row_stride + n * col_stride;
    if (row_stride == 1 && col_stride != 1) {
      alignas(64) T along[GC_TILE_VECTORS * GC_LANES(T) * GC_DEEPEST(T)];
      for (int64_t j = 0; j < columns; ++j) gc_convert(depth, from + j * col_stride, 1, along + j * depth);
      gc_transpose(columns, depth, along, depth, out, width);
      return;
    }
    for (int64_t i = 0; i < depth; ++i) {
      gc_convert(columns, from + i * row_stride, col_stride, out + i * width);
      for (int64_t j = columns; j < width; ++j) out[i * width + j] = 0;
    }
  }
};

template <class Right>
constexpr bool gc_is_matrix = false;
template <class T, class S>
constexpr bool gc_is_matrix<gc_matrix<T, S>> = true;

GC_INLINE int64_t gc_even_block(int64_t extent, int64_t limit, int64_t multiple) {
  int64_t blocks = gc_max_of<int64_t>(1, gc_ceil_div(extent, limit));
  return gc_max_of(multiple, gc_round_up(gc_ceil_div(extent, blocks), multiple));
}

// Whole panels of dense rows, a few panels at a time: a row's part is read in one run, not a line here and there.
template <class T>
GC_NOINLINE void gc_pack_panels(const T* GC_RESTRICT from, int64_t row_stride, int64_t depth, int64_t columns,
                                T* GC_RESTRICT out) {
  typedef gc_vector<T> vec;
  typedef gc_vector_unaligned<T> memory;
  constexpr int64_t L = GC_LANES(T), W = GC_TILE_VECTORS * L, run = 4 * W;
  for (int64_t begin = 0; begin < columns; begin += run)
    for (int64_t k = 0; k < depth; ++k)
      for (int64_t j = begin; j < gc_min_of(columns, begin + run); j += L) {
        __builtin_prefetch(from + (k + 4) * row_stride + j);
        *(vec*)(out + j / W * W * depth + k * W + j % W) = *(const memory*)(from + k * row_stride + j);
      }
}

// Packs B[k .. k + depth, n .. n + columns), or points into it. Others may pack the whole panels: `rest` is what is left.
template <class T, class Right>
GC_NOINLINE gc_panels<T> gc_right_block(const Right& right, int64_t rows, int64_t k, int64_t depth, int64_t n,
                                        int64_t columns, T* out, bool rest = false) {
  constexpr int64_t L = GC_LANES(T), W = GC_TILE_VECTORS * L;
  if constexpr (gc_is_packed<Right>) return right.panels(k, depth, n, columns);
  else if constexpr (Right::gathers) return right.panels(k, n, columns);
  else {
    int64_t last = columns > 0 ? (columns - 1) / W * W : 0;
    int64_t width = columns - last > L ? W : L;
    if (right.direct(rows, depth)) {
      const T* from = right.at(k, n);
      const int64_t ahead = 16 * right.row_stride;
      if (columns % L == 0) return {from, W, right.row_stride, from + last, right.row_stride, nullptr, ahead};
      right.pack(k, depth, n + last, columns - last, width, out);
      return {from, W, right.row_stride, out, width, nullptr, ahead};
    }
    int64_t done = 0;
    if constexpr (__is_same(Right, gc_matrix<T>))
      if (right.col_stride == 1) {
        done = columns / W * W;
        if (!rest) gc_pack_panels(right.at(k, n), right.row_stride, depth, done, out);
      }
    for (int64_t j = done; j < columns; j += W)
      right.pack(k, depth, n + j, gc_min_of(W, columns - j), j < last ? W : width, out + j * depth);
    return {out, W * depth, W, out + last * depth, width, nullptr, gc_panels_ahead<T>};
  }
}

#endif
