// scatter.h the way generated code calls it.
#include "scatter.h"

GC_EXPORT void scatter_add_f32(int64_t count, int64_t width, int64_t rows, const int64_t* index, const float* source,
                               float* out) {
  gc_scatter_add_rows<float>(count, width, rows, [&](int64_t i) { return index[i]; }, source, out);
}

GC_EXPORT void scatter_add_f64(int64_t count, int64_t width, int64_t rows, const int64_t* index, const double* source,
                               double* out) {
  gc_scatter_add_rows<double>(count, width, rows, [&](int64_t i) { return index[i]; }, source, out);
}

extern "C" void omp_set_num_threads(int) noexcept;

// Sets the number of threads and returns the one before.
GC_EXPORT int exchange_threads(int threads) {
  int before = omp_get_max_threads();
  omp_set_num_threads(threads);
  return before;
}
