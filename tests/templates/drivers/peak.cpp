// The machine's multiply-add limit: chains in registers that wait for nobody, on every thread.
#include "gemm.h"

template <class T>
static double multiply_adds(int64_t repeats) {
  constexpr int chains = GC_TILE_ROWS > 8 ? 24 : 12;
  int64_t threads = 1;
#pragma omp parallel
  {
    gc_vector<T> sum[chains] = {}, factor = {}, addend = {};
    asm volatile("" : "+x"(factor), "+x"(addend));
    for (int64_t r = 0; r < repeats; ++r)
#pragma GCC unroll 24
      for (int i = 0; i < chains; ++i) {
        sum[i] = sum[i] * factor + addend;
        asm volatile("" : "+x"(sum[i]));
      }
#pragma omp single
    threads = omp_get_num_threads();
  }
  return (double)threads * repeats * chains * GC_LANES(T);
}

// Both return how many multiply-adds they did.
GC_EXPORT double multiply_adds_f32(int64_t repeats) { return multiply_adds<float>(repeats); }
GC_EXPORT double multiply_adds_f64(int64_t repeats) { return multiply_adds<double>(repeats); }
