// A right operand laid out once for all calls: constant weights, packed when they are set.
//
//   gc_pack_right<float>(K, N, gc_matrix-like data and strides, out);   out: K * gc_round_up(N, lanes) elements
//   gc_contract<float>(M, N, K, left, gc_packed<float>{out, K, N}, epilogue);
//
// Layout     blocks of k; in each block panels of two registers' width, the last of one
//            or two, each row by row with zeros beyond N: what a block of B would be packed to on each call.
#ifndef GC_PACKED_H
#define GC_PACKED_H

#include "tile.h"

// The depth of every block of k but the last: nothing else of B waits in the workspace, so blocks are deep.
template <class T>
GC_INLINE int64_t gc_packed_depth(int64_t depth) {
  const int64_t blocks = gc_max_of<int64_t>(1, gc_ceil_div(depth, GC_DEEPEST(T)));
  return gc_max_of<int64_t>(1, gc_ceil_div(depth, blocks));
}

template <class T, int Reads = GC_ROWS>
struct gc_packed {
  const T* data;
  int64_t depth, columns;  // of the whole operand
  static constexpr bool gathers = false;
  static constexpr int reads = Reads;

  // Rows k .. k + steps, a whole block, and columns from n on, a multiple of a panel's width.
  gc_panels<T> panels(int64_t k, int64_t steps, int64_t n, int64_t count) const {
    constexpr int64_t L = GC_LANES(T), W = GC_TILE_VECTORS * L;
    const T* from = data + k * gc_round_up(columns, L) + n * steps;
    const int64_t last = count > 0 ? (count - 1) / W * W : 0;
    return {from, W * steps, W, from + last * steps, count - last > L ? W : L, nullptr, gc_panels_ahead<T>};
  }
};

// Calls pack(k, steps, n, columns, out) for every panel of every block.
template <class T, class Pack>
void gc_pack_blocks(int64_t depth, int64_t columns, T* out, const Pack& pack) {
  constexpr int64_t L = GC_LANES(T), W = GC_TILE_VECTORS * L;
  const int64_t block = gc_packed_depth<T>(depth), width = gc_round_up(columns, L);
  const int64_t panels = gc_ceil_div(columns, W), blocks = gc_ceil_div(depth, block);
#pragma omp parallel for schedule(static) if (depth * columns > 65536)
  for (int64_t item = 0; item < panels * blocks; ++item) {
    const int64_t k = item / panels * block, n = item % panels * W, steps = gc_min_of(block, depth - k);
    pack(k, steps, n, gc_min_of(W, columns - n), out + k * width + n * steps);
  }
}

template <class T>
GC_NOINLINE void gc_pack_right(int64_t depth, int64_t columns, const T* from, int64_t row_stride, int64_t col_stride,
                               T* out) {
  constexpr int64_t L = GC_LANES(T), W = GC_TILE_VECTORS * L;
  gc_pack_blocks<T>(depth, columns, out, [&](int64_t k, int64_t steps, int64_t n, int64_t count, T* to) {
    gc_pack_panel(from + k * row_stride + n * col_stride, row_stride, col_stride, steps, count, count > L ? W : L, to);
  });
}

#endif
