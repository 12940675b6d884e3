// Half-precision conversions and Philox as array loops.
#include "philox.h"

GC_EXPORT void bf16_to_f32(const gc_bf16* GC_RESTRICT x, float* GC_RESTRICT y, int64_t count) {
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) y[i] = gc_to_f32(x[i]);
}

GC_EXPORT void f32_to_bf16(const float* GC_RESTRICT x, gc_bf16* GC_RESTRICT y, int64_t count) {
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) y[i] = gc_to_bf16(x[i]);
}

GC_EXPORT void f16_to_f32(const gc_f16* GC_RESTRICT x, float* GC_RESTRICT y, int64_t count) {
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) y[i] = gc_to_f32(x[i]);
}

GC_EXPORT void f32_to_f16(const float* GC_RESTRICT x, gc_f16* GC_RESTRICT y, int64_t count) {
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) y[i] = gc_to_f16(x[i]);
}

GC_EXPORT void philox_uniform(uint64_t seed, uint64_t step, uint32_t stream, uint64_t first, float* GC_RESTRICT y,
                              int64_t count) {
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) y[i] = gc_philox_uniform(seed, step, stream, first + (uint64_t)i);
}
