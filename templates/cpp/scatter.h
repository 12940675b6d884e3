// Adds rows of one matrix into rows of another that an index names: the gradient of an embedding or of a row gather.
//
// Called by generated code, with out holding the start value (zeros for a plain gradient):
//
//   gc_scatter_add_rows<float>(count, width, rows, [&](int64_t i) { return (int64_t)index[i]; }, dy, out);
//
// Layout     source (count, width) and out (rows, width), contiguous; out[index(i)] += source[i] for i = 0, 1, ...
// Index      a function of i; what it gives outside [0, rows) is left out (clip or wrap inside it where that is meant).
// Order      each element of out adds its rows in order of i, on one thread: the result is the same on any number.
// Threads    its own `omp parallel`; wide rows are shared out by columns, narrow ones by rows of out.
#ifndef GC_SCATTER_H
#define GC_SCATTER_H

#include "gemm.h"

// The share of one thread: those columns of those rows of out.
template <class T, class Index>
void gc_scatter_add_region(int64_t count, int64_t width, int64_t row_begin, int64_t row_end, int64_t col_begin,
                           int64_t col_end, const Index& index, const T* GC_RESTRICT source, T* GC_RESTRICT out) {
  for (int64_t i = 0; i < count; ++i) {
    const int64_t row = index(i);
    if (row < row_begin || row >= row_end) continue;
    const T* from = source + i * width;
    T* to = out + row * width;
#pragma omp simd
    for (int64_t j = col_begin; j < col_end; ++j) to[j] += from[j];
  }
}

template <class T, class Index>
void gc_scatter_add_rows(int64_t count, int64_t width, int64_t rows, const Index& index, const T* source, T* out) {
  const int64_t line = 64 / (int64_t)sizeof(T);  // no two threads write one cache line of a row
  const int64_t threads = gc_threads_for((double)count * width * 4);
  const bool by_columns = width >= threads * line;
#pragma omp parallel for schedule(static) num_threads((int)threads) if (threads > 1)
  for (int64_t part = 0; part < threads; ++part) {
    const int64_t step = by_columns ? gc_round_up(gc_ceil_div(width, threads), line) : gc_ceil_div(rows, threads);
    const int64_t extent = by_columns ? width : rows;
    const int64_t begin = gc_min_of(extent, part * step), end = gc_min_of(extent, begin + step);
    if (by_columns) gc_scatter_add_region<T>(count, width, 0, rows, begin, end, index, source, out);
    else gc_scatter_add_region<T>(count, width, begin, end, 0, width, index, source, out);
  }
}

#endif
