// C[m, n] = sum over k of A[m, k] B[k, n], with the rest of the fused kernel as an epilogue on finished rows.
//
// Called by generated code:
//
//   gc_gemm<float>(M, N, K, gc_matrix<float>{a, a_row, a_col}, gc_matrix<float>{b, b_row, b_col},
//                  [&](int64_t m, int64_t n, int64_t count, const float* acc) {
//                    #pragma omp simd
//                    for (int64_t i = 0; i < count; ++i) y[m * N + n + i] = gc_max(acc[i] + bias[n + i], 0.0f);
//                  });
//   gc_gemm_batched<float>(batch, M, N, K, A, a_batch, B, b_batch, [&](int64_t batch, int64_t m, ...) {...});
//   gc_contract<float>(M, N, K, left, right, epilogue);   // operands of any kind, see operands.h
//
// Layout     element (row, col) of a matrix lies at data[row * row_stride + col * col_stride]; any strides, also 0, so
// a
//            transposed operand is the same data with the strides exchanged. T is float or double.
// Epilogue   called once for each row segment of finished sums, in any order, from any thread: `acc` holds `count` of
//            them (up to GC_BLOCK_COLUMNS), for C[m, n .. n + count). It may read and write what it likes but A and B.
// Order      each sum runs over k from 0 up, whatever M, N and the number of threads: results never depend on those.
// Threads    its own `omp parallel` over blocks of C when the work pays for it, no barrier inside. Called from inside a
//            parallel region it runs on the calling thread; gc_contract_region computes any block of C there.
// Workspace  gc_workspace_bytes per thread, its share of the kernel's scratch (scratch.h): nothing for the caller to do.
// K may be 0 (the epilogue sees zeros); M or N may be 0 (it sees nothing).
#ifndef GC_GEMM_H
#define GC_GEMM_H

#include "strips.h"
#include "team.h"

extern "C" int omp_get_max_threads(void) noexcept;
extern "C" int omp_get_num_threads(void) noexcept;
extern "C" int omp_get_thread_num(void) noexcept;
extern "C" int omp_in_parallel(void) noexcept;

// ---- a region of C on one thread ----

// One tile's rows of A, `done` before it of a block's `total` from m on.
template <class T, class Left>
GC_INLINE gc_rows<T> gc_left_rows(const Left& left, int64_t m, int64_t done, int64_t total, int64_t k, int64_t depth,
                                  int64_t reuse, gc_workspace<T>& work) {
  const int64_t rows = gc_min_of<int64_t>(GC_TILE_ROWS, total - done);
  if constexpr (__is_same(Left, gc_matrix<T>)) {
    if (left.lies_across(reuse)) {
      constexpr int64_t band = 4 * GC_TILE_ROWS;
      static_assert(band * GC_DEEPEST(T) * sizeof(T) <= GC_WEIGHT_BYTES, "a band lies where convolutions keep a weight");
      const int64_t within = done % band;
      if (within == 0) left.copy_across(m + done, gc_min_of(band, total - done), k, depth, work.weight);
      return {work.weight + within * depth, 1, rows};
    }
  }
  return left.rows(m + done, rows, k, depth, reuse, work.left);
}

// A few rows against a packed operand: it streams through the caches once, panel by panel, each for all rows.
template <class T, class Left, int Reads, class Finish>
void gc_contract_streamed(int64_t m_begin, int64_t m_end, int64_t n_begin, int64_t n_end, int64_t depth,
                          const Left& left, const gc_packed<T, Reads>& right, const Finish& finish) {
  constexpr int64_t W = GC_TILE_VECTORS * GC_LANES(T), most = GC_STREAMED_TILES;
  auto& work = *(gc_workspace<T>*)gc_thread_workspace();
  const int64_t block_depth = gc_packed_depth<T>(depth), rows = m_end - m_begin;
  const int64_t tiles = gc_ceil_div(rows, GC_TILE_ROWS);
  // Two tiles of even height rather than a full one and the rest.
  const int64_t even = tiles == 2 ? gc_round_up(gc_ceil_div(rows, 2), 4) : rows;
  const int64_t high = gc_min_of<int64_t>(GC_TILE_ROWS, even);
  const int64_t panel_sums = gc_round_up(GC_TILE_ROWS * GC_BLOCK_COLUMNS, 16);
  for (int64_t n = n_begin; n < n_end; n += GC_BLOCK_COLUMNS) {
    const int64_t columns = gc_min_of<int64_t>(GC_BLOCK_COLUMNS, n_end - n);
    for (int64_t k = 0; k == 0 || k < depth; k += block_depth) {
      const int64_t steps = gc_min_of(block_depth, depth - k);
      gc_rows<T> a[most];
      for (int64_t i = 0; i < tiles; ++i)
        a[i] = left.rows(m_begin + i * high, gc_min_of(high, rows - i * high), k, steps, columns,
                         i ? work.right + (i - 1) * GC_TILE_ROWS * (GC_DEEPEST(T) + 16) : work.left);
      for (int64_t j = 0; j < columns; j += W) {
        const int64_t wide = gc_min_of(W, columns - j);
        gc_panels<T> panel = right.panels(k, steps, n + j, wide);
        for (int64_t i = 0; i < tiles; ++i, panel.ahead = 0)
          gc_row_panel<T, Reads>(gc_min_of(high, rows - i * high), wide, steps, a[i].data, a[i].row, a[i].column, panel,
                                 work.sums + i * panel_sums + j, GC_BLOCK_COLUMNS, k > 0, gc_ahead<T>{});
      }
    }
    for (int64_t i = 0; i < tiles; ++i)
      finish(m_begin + i * high, gc_min_of(high, rows - i * high), n, columns, (const T*)(work.sums + i * panel_sums),
             GC_BLOCK_COLUMNS);
  }
}

// `finish(m, rows, n, columns, sums, sums_row)` gets each finished panel: C[m + i, n + j] in sums[i * sums_row + j]; in
// parts that lie in L1, or in long rows, for an epilogue that cuts them up itself.
template <class T, bool Parts = false, class Left, class Right, class Finish>
void gc_contract_region(int64_t m_begin, int64_t m_end, int64_t n_begin, int64_t n_end, int64_t depth, const Left& left,
                        const Right& right, const Finish& finish) {
  constexpr int64_t W = GC_TILE_VECTORS * GC_LANES(T);
  auto& work = *(gc_workspace<T>*)gc_thread_workspace();
  const gc_blocks blocks = gc_blocks_of<T>(depth);
  // What is packed here is packed again for each block of rows: narrower blocks leave room for more rows.
  const int64_t most_columns = depth > blocks.depth ? 256
                               : Parts              ? blocks.columns
                                                    : gc_min_of<int64_t>(512, blocks.columns);
  int64_t block_depth = blocks.depth, block_columns = gc_even_block(n_end - n_begin, most_columns, W);
  if (m_end - m_begin <= 4 && !Right::gathers) {
    // Each element of B is used once or little more: read it in the order it lies in, a few long rows at a time.
    bool along_rows = false;
    if constexpr (!Right::gathers) along_rows = right.direct(m_end - m_begin, depth);
    if (along_rows) block_depth = gc_even_block(depth, 16, 1), block_columns = gc_even_block(n_end - n_begin, 8192, W);
    else block_columns = W;
  }
  // One block of k: each panel of rows is finished at once. Several: their sums wait in the workspace, in rows that do
  // not fight for the same cache lines.
  const bool whole = depth <= block_depth;
  const int64_t room = GC_SUMS(T) / (block_columns + 16) / GC_TILE_ROWS * GC_TILE_ROWS;
  const int64_t all = gc_max_of<int64_t>(1, m_end - m_begin);
  const int64_t block_rows = whole ? all : gc_even_block(all, room, GC_TILE_ROWS);
  for (int64_t m_block = m_begin; m_block < m_end; m_block += block_rows) {
    const int64_t m_stop = gc_min_of(m_end, m_block + block_rows);
    for (int64_t n = n_begin; n < n_end; n += block_columns) {
      const int64_t columns = gc_min_of(block_columns, n_end - n);
      const int64_t sums_row = gc_round_up(columns, GC_LANES(T)) + 16;
      for (int64_t k = 0; k == 0 || k < depth; k += block_depth) {
        const int64_t steps = gc_min_of(block_depth, depth - k);
        const gc_panels<T> panels = gc_right_block<T>(right, m_stop - m_block, k, steps, n, columns, work.right);
        for (int64_t m = m_block; m < m_stop; m += GC_TILE_ROWS) {
          const int64_t rows = gc_min_of<int64_t>(GC_TILE_ROWS, m_stop - m);
          const gc_rows<T> a = gc_left_rows(left, m_block, m - m_block, m_stop - m_block, k, steps, columns, work);
          const int64_t next = m + rows, next_rows = gc_min_of<int64_t>(GC_TILE_ROWS, m_stop - next);
          const gc_ahead<T> ahead = left.ahead(next, next_rows, k, steps);
          T* const sums = work.sums + (whole ? 0 : (m - m_block) * sums_row);
          const bool done = k + steps >= depth;
          const int64_t most = done && Parts ? GC_FINISH_COLUMNS : columns;
          for (int64_t j = 0; j < columns; j += most) {
            const int64_t count = gc_min_of(most, columns - j);
            gc_row_panel<T, gc_reads_of<Right>>(rows, count, steps, a.data, a.row, a.column,
                                                panels.part(j, count, columns), sums + j, sums_row, k > 0,
                                                ahead.part(j, count, columns));
            if (done) finish(m, rows, n + j, count, (const T*)sums + j, sums_row);
          }
        }
      }
    }
  }
}

// ---- threads ----

struct gc_grid {
  int64_t rows, columns;  // the blocks that C is cut into
};

// The cut for `threads` blocks whose largest block costs least: tiles of work, a tile of fewer rows than four taking as
// long as one of four, and the operands to bring in.
GC_NOINLINE gc_grid gc_cut(int64_t m, int64_t n, int64_t threads, int64_t tile_columns) {
  gc_grid best = {1, 1};
  int64_t least = INT64_MAX;
  for (int64_t rows = 1; rows <= threads; ++rows) {
    int64_t columns = threads / rows;
    int64_t block_m = gc_ceil_div(m, rows), block_n = gc_round_up(gc_ceil_div(n, columns), tile_columns / 2);
    int64_t ragged = block_m % GC_TILE_ROWS;
    int64_t few = ragged & 7;
    int64_t padded_m = block_m - few + (few ? gc_max_of<int64_t>(4, few) : 0);
    int64_t cost = padded_m * block_n + 8 * (padded_m + block_n);
    if (cost < least) best = {rows, columns}, least = cost;
  }
  return best;
}

// Threads worth waking for that many multiply-adds: about 10 microseconds of work each.
GC_INLINE int64_t gc_threads_for(double multiply_adds) {
  if (multiply_adds < 5e5 || omp_in_parallel()) return 1;
  return gc_min_of<int64_t>(omp_get_max_threads(), (int64_t)(multiply_adds / 2.5e5));
}

// Block number `part` of the `grid.rows * grid.columns` blocks of C.
template <class T, class Left, class Right, class Finish>
void gc_contract_part(int64_t part, gc_grid grid, int64_t m, int64_t n, int64_t k, const Left& left, const Right& right,
                      const Finish& finish) {
  constexpr int64_t unit = GC_LANES(T) * (gc_is_packed<Right> ? GC_TILE_VECTORS : 1);
  const int64_t i = part / grid.columns, j = part % grid.columns;
  const int64_t step = gc_round_up(gc_ceil_div(n, grid.columns), unit);
  constexpr bool matrices = gc_is_matrix<Right> || gc_is_packed<Right>;
  const int64_t m_begin = m * i / grid.rows, m_end = m * (i + 1) / grid.rows;
  const int64_t n_begin = gc_min_of(n, j * step), n_end = gc_min_of(n, (j + 1) * step);
  if constexpr (matrices)
    if (m_end - m_begin > 2 * GC_TILE_ROWS && n_end - n_begin > 4 * GC_TILE_VECTORS * GC_LANES(T))
      return gc_contract_strips<T>(m_begin, m_end, n_begin, n_end, k, left, right, finish);
  if constexpr (gc_is_packed<Right>)
    for (int64_t row = m_begin, next; row < m_end; row = next) {
      next = gc_min_of<int64_t>(m_end, row + GC_STREAMED_TILES * GC_TILE_ROWS);
      gc_contract_streamed<T>(row, next, n_begin, n_end, k, left, right, finish);
    }
  else gc_contract_region<T, matrices>(m_begin, m_end, n_begin, n_end, k, left, right, finish);
}

// The share of thread `me` of `threads` in the blocks of `count` products. One function for every way to get here: the
// product's loops are compiled once.
template <class T, class Operands>
GC_NOINLINE void gc_contract_share(gc_scratch_view team, int64_t me, int64_t threads, gc_grid grid, int64_t count,
                                   int64_t m, int64_t n, int64_t k, const Operands& operands) {
  const gc_scratch_scope share(team, (int)me);
  const int64_t parts = grid.rows * grid.columns;
  for (int64_t item = count * parts * me / threads; item < count * parts * (me + 1) / threads; ++item)
    operands(item / parts, [&](const auto& left, const auto& right, const auto& finish) {
      gc_contract_part<T>(item % parts, grid, m, n, k, left, right, finish);
    });
}

// `count` products of one shape. operands(index, run) calls run(left, right, finish) for product number `index`. In a
// team (team.h) all threads call it: each computes its blocks of C, and none waits for the others.
template <class T, class Operands>
void gc_contract_many(int64_t count, int64_t m, int64_t n, int64_t k, const Operands& operands) {
  const bool in_team = gc_in_team;
  const double work = (double)count * m * n * k;
  const int64_t worth = gc_max_of<int64_t>(1, (int64_t)(work / 1e4));
  const int64_t threads = in_team ? gc_min_of<int64_t>(omp_get_num_threads(), worth) : gc_threads_for(work);
  const int64_t each = count > 0 ? gc_ceil_div(threads, gc_min_of(count, threads)) : 1;
  const gc_grid grid = gc_cut(m, n, each, GC_TILE_VECTORS * GC_LANES(T));
  const gc_scratch_view team = gc_scratch_now;
  if (in_team) {
    const int64_t me = omp_get_thread_num();
    if (me < threads) gc_contract_share<T>(team, me, threads, grid, count, m, n, k, operands);
    return;
  }
#pragma omp parallel num_threads((int)threads) if (threads > 1)
  gc_contract_share<T>(team, omp_get_thread_num(), omp_get_num_threads(), grid, count, m, n, k, operands);
}

template <class T, class Left, class Right, class Epilogue>
void gc_contract(int64_t m, int64_t n, int64_t k, const Left& left, const Right& right, const Epilogue& epilogue) {
  gc_contract_many<T>(1, m, n, k, [&](int64_t, const auto& run) {
    run(left, right, [&](int64_t row, int64_t rows, int64_t col, int64_t columns, const T* sums, int64_t sums_row) {
      for (int64_t i = 0; i < rows; ++i) epilogue(row + i, col, columns, sums + i * sums_row);
    });
  });
}

template <class T, class Epilogue>
void gc_gemm(int64_t m, int64_t n, int64_t k, gc_matrix<T> a, gc_matrix<T> b, const Epilogue& epilogue) {
  gc_contract<T>(m, n, k, a, b, epilogue);
}

template <class T, class A, class B, class Epilogue>
void gc_gemm_of(int64_t batch, int64_t m, int64_t n, int64_t k, gc_matrix<T, A> a, int64_t a_batch, gc_matrix<T, B> b,
                int64_t b_batch, const Epilogue& epilogue) {
  gc_contract_many<T>(batch, m, n, k, [&](int64_t index, const auto& run) {
    run(gc_matrix<T, A>{a.data + index * a_batch, a.row_stride, a.col_stride},
        gc_matrix<T, B>{b.data + index * b_batch, b.row_stride, b.col_stride},
        [&](int64_t row, int64_t rows, int64_t col, int64_t columns, const T* sums, int64_t sums_row) {
          for (int64_t i = 0; i < rows; ++i) epilogue(index, row + i, col, columns, sums + i * sums_row);
        });
  });
}

// `batch` products; batch b reads A at b * a_batch and B at b * b_batch (0 broadcasts). Epilogue (batch, m, n, count,
// acc).
template <class T, class Epilogue>
void gc_gemm_batched(int64_t batch, int64_t m, int64_t n, int64_t k, gc_matrix<T> a, int64_t a_batch, gc_matrix<T> b,
                     int64_t b_batch, const Epilogue& epilogue) {
  gc_gemm_of<T, T, T>(batch, m, n, k, a, a_batch, b, b_batch, epilogue);
}

#endif
