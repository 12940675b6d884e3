// y[n] = sum over k of x[k] B[k, n]: a product with one row or one column, bound by reading B once.
//
//   gc_vector_matrix<float>(batch, N, K, {x, x_step}, {b, b_step, n_stride, k_stride},
//                           [&](int64_t item, int64_t m, int64_t n, int64_t count, const float* acc) { ... });
//   gc_matrix_vector<float>(batch, M, K, {x, x_step}, {a, a_step, m_stride, k_stride}, the same epilogue);
//
// `batch` products, operands `*_step` apart. x is dense; the matrix is dense along k (k_stride 1) or along the other
// axis. The epilogue is that of gc_gemm_batched: with m = 0 and segments of a row, or with n = 0 and one sum a call.
// Order      along k: lanes of two registers, added up at the end, then the rest; along n: k from 0 up. Neither depends
//            on N or on the number of threads.
#ifndef GC_MATVEC_H
#define GC_MATVEC_H

#include "prelude.h"

extern "C" int omp_get_max_threads(void) noexcept;
extern "C" int omp_in_parallel(void) noexcept;

template <class T>
struct gc_dense_vectors {
  const T* data;
  int64_t step;
};

template <class T>
struct gc_dense_matrices {
  const T* data;
  int64_t step, n_stride, k_stride;
};

// R rows of B against x, all along k.
template <class T, int R>
GC_NOINLINE void gc_dot_rows(int64_t depth, const T* GC_RESTRICT x, const T* GC_RESTRICT b, int64_t b_row,
                             T* GC_RESTRICT out) {
  typedef gc_vector<T> vec;
  typedef gc_vector_unaligned<T> memory;
  constexpr int L = GC_LANES(T), U = R == 1 ? 8 : 2;
  vec sum[R][U] = {};
  int64_t k = 0;
  for (; k + U * L <= depth; k += U * L) {
#pragma GCC unroll 8
    for (int u = 0; u < U; ++u) {
      const vec right = *(const memory*)(x + k + u * L);
#pragma GCC unroll 8
      for (int i = 0; i < R; ++i) {
        const T* from = b + i * b_row + k + u * L;
        __builtin_prefetch(from + 2048 / (int64_t)sizeof(T));
        sum[i][u] += *(const memory*)from * right;
      }
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < R; ++i) {
    vec total = sum[i][0];
#pragma GCC unroll 8
    for (int u = 1; u < U; ++u) total += sum[i][u];
    T result = 0;
    for (int lane = 0; lane < L; ++lane) result += total[lane];
    for (int64_t rest = k; rest < depth; ++rest) result += x[rest] * b[i * b_row + rest];
    out[i] = result;
  }
}

// sums[0 .. columns) (+)= x[0 .. R) B[0 .. R, 0 .. columns), B along n.
template <class T, int R>
GC_NOINLINE void gc_add_rows(int64_t columns, const T* GC_RESTRICT x, const T* GC_RESTRICT b, int64_t b_row,
                             T* GC_RESTRICT sums, bool accumulate) {
  typedef gc_vector<T> vec;
  typedef gc_vector_unaligned<T> memory;
  constexpr int64_t L = GC_LANES(T);
  int64_t n = 0;
  for (; n + L <= columns; n += L) {
    vec total = accumulate ? (vec) * (const memory*)(sums + n) : vec{};
#pragma GCC unroll 8
    for (int i = 0; i < R; ++i) {
      __builtin_prefetch(b + i * b_row + n + 2048 / (int64_t)sizeof(T));
      total += x[i] * *(const memory*)(b + i * b_row + n);
    }
    *(memory*)(sums + n) = total;
  }
  for (; n < columns; ++n) {
    T total = accumulate ? sums[n] : 0;
    for (int i = 0; i < R; ++i) total += x[i] * b[i * b_row + n];
    sums[n] = total;
  }
}

#define GC_MATVEC_COLUMNS 4096

template <class T, class Epilogue>
GC_NOINLINE void gc_matvec_part(int64_t n_begin, int64_t n_end, int64_t depth, const T* x, gc_dense_matrices<T> a,
                                const Epilogue& epilogue) {
  constexpr int R = 4, S = 8;
  alignas(64) T sums[GC_MATVEC_COLUMNS];
  for (int64_t n = n_begin; n < n_end; n += GC_MATVEC_COLUMNS) {
    const int64_t columns = gc_min_of<int64_t>(GC_MATVEC_COLUMNS, n_end - n);
    if (a.k_stride == 1) {
      int64_t j = 0;
      for (; j + R <= columns; j += R) gc_dot_rows<T, R>(depth, x, a.data + (n + j) * a.n_stride, a.n_stride, sums + j);
      for (; j < columns; ++j) {
        // The same order as R at once: a row's sum does not depend on where it stands.
        T four[R];
        const T* row = a.data + (n + j) * a.n_stride;
        gc_dot_rows<T, R>(depth, x, row, 0, four);
        sums[j] = four[0];
      }
    } else {
      int64_t k = 0;
      const T* b = a.data + n;
      for (; k + S <= depth; k += S) gc_add_rows<T, S>(columns, x + k, b + k * a.k_stride, a.k_stride, sums, k > 0);
      for (; k < depth || k == 0; ++k) {
        if (k < depth) gc_add_rows<T, 1>(columns, x + k, b + k * a.k_stride, a.k_stride, sums, k > 0);
        else for (int64_t j = 0; j < columns; ++j) sums[j] = 0;
      }
    }
    epilogue(n, columns, (const T*)sums);
  }
}

template <class T, class Epilogue>
void gc_matvec(int64_t batch, int64_t n, int64_t depth, gc_dense_vectors<T> x, gc_dense_matrices<T> b,
               const Epilogue& epilogue) {
  // About 10 microseconds of reading a thread.
  const double work = (double)batch * n * depth * sizeof(T);
  const int64_t most = work < 5e5 || omp_in_parallel() ? 1 : omp_get_max_threads();
  const int64_t threads = gc_min_of<int64_t>(most, gc_max_of<int64_t>(1, (int64_t)(work / 2.5e5)));
  const int64_t each = batch > 0 ? gc_ceil_div(threads, gc_min_of(batch, threads)) : 1;
  const int64_t step = gc_round_up(gc_ceil_div(n, each), 64);
#pragma omp parallel for schedule(static) num_threads((int)threads) if (threads > 1)
  for (int64_t part = 0; part < batch * each; ++part) {
    const int64_t item = part / each, begin = gc_min_of(n, part % each * step);
    const gc_dense_matrices<T> matrix = {b.data + item * b.step, 0, b.n_stride, b.k_stride};
    gc_matvec_part<T>(begin, gc_min_of(n, begin + step), depth, x.data + item * x.step, matrix,
                      [&](int64_t at, int64_t columns, const T* sums) { epilogue(item, at, columns, sums); });
  }
}

template <class T, class Epilogue>
void gc_vector_matrix(int64_t batch, int64_t n, int64_t depth, gc_dense_vectors<T> x, gc_dense_matrices<T> b,
                      const Epilogue& epilogue) {
  gc_matvec<T>(batch, n, depth, x, b, [&](int64_t item, int64_t at, int64_t count, const T* sums) {
    epilogue(item, 0, at, count, sums);
  });
}

template <class T, class Epilogue>
void gc_matrix_vector(int64_t batch, int64_t m, int64_t depth, gc_dense_vectors<T> x, gc_dense_matrices<T> a,
                      const Epilogue& epilogue) {
  gc_matvec<T>(batch, m, depth, x, a, [&](int64_t item, int64_t at, int64_t count, const T* sums) {
    for (int64_t i = 0; i < count; ++i) epilogue(item, at + i, 0, 1, sums + i);
  });
}

#endif
