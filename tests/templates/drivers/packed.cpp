// packed.h and matvec.h the way generated code calls them.
#include "gemm.h"
#include "matvec.h"

template <class T>
static void product(int64_t m, int64_t n, int64_t k, const T* a, int64_t a_row, int64_t a_col, const T* b,
                    int64_t b_row, int64_t b_col, T* packed, T* c) {
  gc_pack_right<T>(k, n, b, b_row, b_col, packed);
  gc_contract<T>(m, n, k, gc_matrix<T>{a, a_row, a_col}, gc_packed<T>{packed, k, n},
                 [&](int64_t row, int64_t col, int64_t count, const T* acc) {
                   for (int64_t i = 0; i < count; ++i) c[row * n + col + i] = acc[i];
                 });
}

GC_EXPORT void packed_f32(int64_t m, int64_t n, int64_t k, const float* a, int64_t a_row, int64_t a_col, const float* b,
                          int64_t b_row, int64_t b_col, float* packed, float* c) {
  product(m, n, k, a, a_row, a_col, b, b_row, b_col, packed, c);
}

GC_EXPORT void packed_f64(int64_t m, int64_t n, int64_t k, const double* a, int64_t a_row, int64_t a_col,
                          const double* b, int64_t b_row, int64_t b_col, double* packed, double* c) {
  product(m, n, k, a, a_row, a_col, b, b_row, b_col, packed, c);
}

// y[item, n] = x[item] B[item]; as a column each sum comes by itself.
GC_EXPORT void matvec_f32(int64_t column, int64_t batch, int64_t n, int64_t k, const float* x, const float* b,
                          int64_t n_stride, int64_t k_stride, float* y) {
  if (column)
    gc_matrix_vector<float>(batch, n, k, {x, k}, {b, n * k, n_stride, k_stride},
                            [&](int64_t item, int64_t row, int64_t, int64_t, const float* acc) { y[item * n + row] = acc[0]; });
  else
    gc_vector_matrix<float>(batch, n, k, {x, k}, {b, n * k, n_stride, k_stride},
                            [&](int64_t item, int64_t, int64_t col, int64_t count, const float* acc) {
                              for (int64_t i = 0; i < count; ++i) y[item * n + col + i] = acc[i];
                            });
}

extern "C" void omp_set_num_threads(int) noexcept;

// Sets the number of threads and returns the one before.
GC_EXPORT int exchange_threads(int threads) {
  int before = omp_get_max_threads();
  omp_set_num_threads(threads);
  return before;
}
