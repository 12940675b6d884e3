// gemm.h the way generated code calls it: plain products of any strides, and one with a fused epilogue.
#include "gemm.h"
#include "small_gemm.h"

template <class T>
static void product(int64_t m, int64_t n, int64_t k, const T* a, int64_t a_row, int64_t a_col, const T* b,
                    int64_t b_row, int64_t b_col, T* c) {
  gc_gemm<T>(m, n, k, {a, a_row, a_col}, {b, b_row, b_col}, [&](int64_t row, int64_t col, int64_t count, const T* acc) {
    T* out = c + row * n + col;
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) out[i] = acc[i];
  });
}

GC_EXPORT void gemm_f32(int64_t m, int64_t n, int64_t k, const float* a, int64_t a_row, int64_t a_col, const float* b,
                        int64_t b_row, int64_t b_col, float* c) {
  product(m, n, k, a, a_row, a_col, b, b_row, b_col, c);
}

GC_EXPORT void gemm_f64(int64_t m, int64_t n, int64_t k, const double* a, int64_t a_row, int64_t a_col, const double* b,
                        int64_t b_row, int64_t b_col, double* c) {
  product(m, n, k, a, a_row, a_col, b, b_row, b_col, c);
}

// Rows that are contiguous in b, or in a and in b's columns: whichever of the two the strides allow.
template <class T>
static void small_product(int64_t m, int64_t n, int64_t k, const T* a, int64_t a_row, int64_t a_col, const T* b,
                          int64_t b_row, int64_t b_col, T* c) {
  const gc_matrix<T> left{a, a_row, a_col}, right{b, b_row, b_col};
  // Each element is given once: they are added to.
  const auto store = [&](int64_t row, int64_t col, int64_t count, const T* acc) {
    T* out = c + row * n + col;
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) out[i] += acc[i];
  };
  if (b_col == 1) gc_small_gemm<T>(m, n, k, left, right, store);
  else gc_dot_gemm<T>(m, n, k, left, right, store);
}

GC_EXPORT void small_f32(int64_t m, int64_t n, int64_t k, const float* a, int64_t a_row, int64_t a_col, const float* b,
                         int64_t b_row, int64_t b_col, float* c) {
  small_product(m, n, k, a, a_row, a_col, b, b_row, b_col, c);
}

GC_EXPORT void small_f64(int64_t m, int64_t n, int64_t k, const double* a, int64_t a_row, int64_t a_col,
                         const double* b, int64_t b_row, int64_t b_col, double* c) {
  small_product(m, n, k, a, a_row, a_col, b, b_row, b_col, c);
}

// relu(a b^T + bias), as a fully connected layer with its activation.
GC_EXPORT void fully_connected_f32(int64_t m, int64_t n, int64_t k, const float* a, const float* b, const float* bias,
                                   float* y) {
  gc_gemm<float>(m, n, k, {a, k, 1}, {b, 1, k}, [&](int64_t row, int64_t col, int64_t count, const float* acc) {
    float* out = y + row * n + col;
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) out[i] = gc_max(acc[i] + bias[col + i], 0.0f);
  });
}

GC_EXPORT void batched_f32(int64_t batch, int64_t m, int64_t n, int64_t k, const float* a, int64_t a_batch,
                           const float* b, int64_t b_batch, float* c) {
  gc_gemm_batched<float>(batch, m, n, k, {a, k, 1}, a_batch, {b, n, 1}, b_batch,
                         [&](int64_t index, int64_t row, int64_t col, int64_t count, const float* acc) {
                           float* out = c + (index * m + row) * n + col;
#pragma omp simd
                           for (int64_t i = 0; i < count; ++i) out[i] = acc[i];
                         });
}

extern "C" void omp_set_num_threads(int) noexcept;

// Sets the number of threads and returns the one before.
GC_EXPORT int exchange_threads(int threads) {
  int before = omp_get_max_threads();
  omp_set_num_threads(threads);
  return before;
}
