// Products whose operands lie in a core's own caches: nothing is packed or copied, both are read where they lie.
//
//   gc_small_gemm<float>(M, N, K, A, B, epilogue);   // B's rows are contiguous: lanes are columns of C
//   gc_dot_gemm<float>(M, N, K, A, B, epilogue);     // A's rows and B's columns are: lanes are terms of the sums
//
// Arguments   as of gc_gemm (gemm.h), the same epilogue. graphc/codegen/cpp/products.py knows when they pay; M, N and K
//             are at least what the static functions below say.
// Order       gc_small_gemm sums over k from 0 up; gc_dot_gemm sums each lane so, then the lanes by halves. Neither
//             depends on the number of threads or on the place in C.
// Threads     in a team (team.h) all threads call it, else it opens a region of its own. A thread takes rows of C, and
//             of gc_dot_gemm columns: the rows of a weight that one thread updates are those that it multiplied by.
// What does not fill a tile is computed once more, by one that begins earlier; the epilogue sees each element once.
#ifndef GC_SMALL_GEMM_H
#define GC_SMALL_GEMM_H

#include "gemm.h"

#if defined(__AVX512F__) || defined(__aarch64__)
#define GC_SMALL_ROWS 8  // 24 accumulators of 32 registers
#else
#define GC_SMALL_ROWS 4  // 12 of 16
#endif
#define GC_SMALL_VECTORS 3
#define GC_DOT_COLUMNS 4  // blocks of columns whose sums wait for the epilogue
#define GC_DOT_MOST_ROWS 256

// run(begin, end) on each of some threads: shares of the units of a product that costs so many multiply-adds.
template <class Run>
GC_INLINE void gc_share_product(double multiply_adds, int64_t units, const Run& run) {
  if (gc_in_team) {
    const int64_t worth = gc_max_of<int64_t>(1, (int64_t)(multiply_adds / 1e4)), me = omp_get_thread_num();
    const int64_t threads = gc_min_of(gc_min_of<int64_t>(omp_get_num_threads(), worth), units);
    if (me < threads) run(units * me / threads, units * (me + 1) / threads);
    return;
  }
  const int64_t threads = gc_min_of(units, gc_threads_for(multiply_adds));
#pragma omp parallel for schedule(static) num_threads((int)threads) if (threads > 1)
  for (int64_t share = 0; share < threads; ++share)
    run(units * share / threads, units * (share + 1) / threads);
}

// ---- lanes along columns ----

// Columns n .. n + V lanes of all rows of a share: tiles of GC_SMALL_ROWS. `fresh`: the first of the columns that nobody
// has computed.
template <class T, int V, class Epilogue>
GC_INLINE void gc_small_columns(int64_t m_begin, int64_t m_end, int64_t n, int64_t fresh, int64_t depth,
                                const gc_matrix<T>& a, const gc_matrix<T>& b, const Epilogue& epilogue) {
  constexpr int64_t R = GC_SMALL_ROWS, W = V * GC_LANES(T);
  alignas(64) T sums[R * W];
  for (int64_t m = m_begin; m < m_end; m += R) {
    const int64_t first = gc_max_of<int64_t>(0, gc_min_of(m, m_end - R));
    gc_tile<T, R, V, GC_ROWS>(depth, a.at(first, 0), a.row_stride, a.col_stride, b.at(0, n), b.row_stride, nullptr, sums,
                              W, false, W);
    const int64_t stop = gc_min_of(R, m_end - first);
    if (m == first && stop == R && fresh == n) {
      for (int64_t i = 0; i < R; ++i) epilogue(m + i, n, (int64_t)W, (const T*)sums + i * W);
    } else {
      for (int64_t i = m - first; i < stop; ++i)
        epilogue(first + i, fresh, n + W - fresh, (const T*)sums + i * W + fresh - n);
    }
  }
}

// At least GC_SMALL_ROWS rows and a register of columns.
template <class T, class Epilogue>
void gc_small_gemm(int64_t m, int64_t n, int64_t depth, gc_matrix<T> a, gc_matrix<T> b, const Epilogue& epilogue) {
  constexpr int64_t L = GC_LANES(T), R = GC_SMALL_ROWS, W = GC_SMALL_VECTORS * L;
  const int64_t tiles = gc_ceil_div(m, R), vectors = gc_ceil_div(n, L);
  const bool by_rows = tiles >= 4 || tiles > vectors;
  gc_share_product((double)m * n * depth, by_rows ? tiles : vectors, [&](int64_t begin, int64_t end) {
    const int64_t m_begin = by_rows ? begin * R : 0, m_end = by_rows ? gc_min_of(m, end * R) : m;
    const int64_t n_begin = by_rows ? 0 : begin * L, n_end = by_rows ? n : gc_min_of(n, end * L);
    int64_t j = n_begin;
    for (; j + W <= n_end; j += W)
      gc_small_columns<T, GC_SMALL_VECTORS>(m_begin, m_end, j, j, depth, a, b, epilogue);
    for (; j < n_end; j += L)
      gc_small_columns<T, 1>(m_begin, m_end, gc_min_of(j, n - L), j, depth, a, b, epilogue);
  });
}

// ---- lanes along the terms ----

// The sums of all lanes of x[i], in lane i of the first vectors: `count` of them are left in each round, two halves
// interleaved into one.
template <class T, int S, int Count>
GC_INLINE void gc_fold_lanes(gc_vector<T>* x) {
  if constexpr (Count > S) {
#pragma GCC unroll 16
    for (int i = 0; i < Count / 2; ++i)
      x[i] = gc_interleave<gc_vector<T>, GC_LANES(T), false>(x[i], x[i + Count / 2]) +
             gc_interleave<gc_vector<T>, GC_LANES(T), true>(x[i], x[i + Count / 2]);
    gc_fold_lanes<T, S, Count / 2>(x);
  }
}

// c[j * c_row + i] = sum over k of a[j * a_row + k] b[i * b_row + k] for S values of j and half a register of values of i.
template <class T, int S>
GC_NOINLINE void gc_dot_block(int64_t depth, const T* a, int64_t a_row, const T* b, int64_t b_row, T* c, int64_t c_row) {
  typedef gc_vector<T> vec;
  typedef gc_vector_unaligned<T> memory;
  constexpr int L = GC_LANES(T), R = L / 2;
  vec sum[R * S] = {};
  int64_t k = 0;
  for (; k + L <= depth; k += L) {
    vec left[S];
#pragma GCC unroll 4
    for (int j = 0; j < S; ++j) left[j] = *(const memory*)(a + j * a_row + k);
#pragma GCC unroll 8
    for (int i = 0; i < R; ++i) {
      vec right = *(const memory*)(b + i * b_row + k);
#if defined(__AVX512F__)
      asm("" : "+v"(right));  // or else each multiplication loads it again
#endif
#pragma GCC unroll 4
      for (int j = 0; j < S; ++j) sum[i * S + j] += left[j] * right;
    }
  }
  if (k < depth) {
    // The last register once more, without what is counted.
    vec lane;
    for (int j = 0; j < L; ++j) lane[j] = (T)j;
    const auto fresh = lane >= (vec{} + (T)(L - (depth - k)));
    k = depth - L;
#pragma GCC unroll 8
    for (int i = 0; i < R; ++i) {
      const vec right = fresh ? (vec) * (const memory*)(b + i * b_row + k) : vec{};
#pragma GCC unroll 4
      for (int j = 0; j < S; ++j) sum[i * S + j] += (fresh ? (vec) * (const memory*)(a + j * a_row + k) : vec{}) * right;
    }
  }
  gc_fold_lanes<T, S, R * S>(sum);
#pragma GCC unroll 4
  for (int j = 0; j < S; ++j) {
    alignas(GC_VECTOR_BYTES) T lanes[L];
    *(vec*)lanes = sum[j];
#pragma omp simd
    for (int i = 0; i < R; ++i) c[j * c_row + i] = lanes[i] + lanes[i + R];
  }
}

// At least half a register of columns, a register of terms and 3 rows, at most GC_DOT_MOST_ROWS.
template <class T, class Epilogue>
void gc_dot_gemm(int64_t m, int64_t n, int64_t depth, gc_matrix<T> a, gc_matrix<T> b, const Epilogue& epilogue) {
  constexpr int64_t R = GC_LANES(T) / 2, S = 3, W = GC_DOT_COLUMNS * R, P = W + R;  // a block may begin before W
  const int64_t blocks = gc_ceil_div(n, R), tiles = gc_ceil_div(m, S);
  const bool by_columns = blocks >= 4 || blocks > tiles;
  gc_share_product((double)m * n * depth, by_columns ? blocks : tiles, [&](int64_t begin, int64_t end) {
    alignas(64) T sums[GC_DOT_MOST_ROWS * P];
    const int64_t m_begin = by_columns ? 0 : begin * S, m_end = by_columns ? m : gc_min_of(m, end * S);
    const int64_t n_begin = by_columns ? begin * R : 0, n_end = by_columns ? gc_min_of(n, end * R) : n;
    for (int64_t j = n_begin; j < n_end; j += W) {
      const int64_t stop = gc_min_of(n_end, j + W);
      // A block's rows of B stay in L1 while those of A stream by.
      for (int64_t block = j; block < stop; block += R) {
        const int64_t column = gc_min_of(block, n - R);
        for (int64_t i = m_begin; i < m_end; i += S) {
          const int64_t row = gc_min_of(i, m - S);
          gc_dot_block<T, (int)S>(depth, a.at(row, 0), a.row_stride, b.at(0, column), b.col_stride,
                                  sums + row * P + R + column - j, P);
        }
      }
      for (int64_t i = m_begin; i < m_end; ++i) epilogue(i, j, stop - j, (const T*)sums + i * P + R);
    }
  });
}

#endif
