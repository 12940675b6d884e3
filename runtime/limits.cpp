// What this machine can do at most, as generated code could reach it: bytes a second and multiply-adds a second.
// Each function runs once over its arrays on all threads of the OpenMP team; the caller takes the time.
#include <stddef.h>
#include <stdint.h>

#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#elif defined(__AVX__)
#define VECTOR_BYTES 32
#else
#define VECTOR_BYTES 16
#endif

typedef float vector __attribute__((vector_size(VECTOR_BYTES), may_alias));
#define LANES (VECTOR_BYTES / sizeof(float))

// A store that leaves no copy in the cache, so that the old line need not be read first.
static inline void stream(float* target, vector value) {
#if defined(__clang__)
  __builtin_nontemporal_store(value, (vector*)target);
#elif defined(__AVX512F__)
  __builtin_ia32_movntps512(target, value);
#elif defined(__AVX__)
  __builtin_ia32_movntps256(target, value);
#elif defined(__SSE__)
  __builtin_ia32_movntps(target, value);
#else
  *(vector*)target = value;
#endif
}

#define EXPORT extern "C" __attribute__((visibility("default")))

// Arrays are 64-byte aligned and `count` is a multiple of 16. Threads touch the same part in each function.

EXPORT void graphc_limit_fill(float* a, int64_t count, float value) {
#pragma omp parallel for schedule(static)
  for (int64_t i = 0; i < count; i += LANES) *(vector*)(a + i) = vector{} + value;
}

EXPORT void graphc_limit_copy(const float* a, float* b, int64_t count) {
#pragma omp parallel for schedule(static)
  for (int64_t i = 0; i < count; i += LANES) *(vector*)(b + i) = *(const vector*)(a + i);
}

EXPORT void graphc_limit_triad(const float* a, const float* b, float* c, int64_t count) {
#pragma omp parallel for schedule(static)
  for (int64_t i = 0; i < count; i += LANES)
    *(vector*)(c + i) = *(const vector*)(a + i) + 3.0f * *(const vector*)(b + i);
}

EXPORT void graphc_limit_stream_copy(const float* a, float* b, int64_t count) {
#pragma omp parallel for schedule(static)
  for (int64_t i = 0; i < count; i += LANES) stream(b + i, *(const vector*)(a + i));
}

EXPORT void graphc_limit_stream_triad(const float* a, const float* b, float* c, int64_t count) {
#pragma omp parallel for schedule(static)
  for (int64_t i = 0; i < count; i += LANES)
    stream(c + i, *(const vector*)(a + i) + 3.0f * *(const vector*)(b + i));
}

EXPORT float graphc_limit_read(const float* a, int64_t count) {
  float sum = 0;
#pragma omp parallel reduction(+ : sum)
  {
    vector s0 = {}, s1 = {}, s2 = {}, s3 = {};
#pragma omp for schedule(static)
    for (int64_t i = 0; i < count / (4 * (int64_t)LANES); ++i) {
      const vector* x = (const vector*)a + 4 * i;
      s0 += x[0], s1 += x[1], s2 += x[2], s3 += x[3];
    }
    s0 += s1, s2 += s3, s0 += s2;
    for (size_t lane = 0; lane < LANES; ++lane) sum += s0[lane];
  }
  return sum;
}

// `count` fused multiply-adds in each lane of 16 independent accumulators on each thread; returns the team's size.
EXPORT int32_t graphc_limit_fma(int64_t count, float factor, float* sink) {
  int32_t threads = 0;
#pragma omp parallel reduction(+ : threads)
  {
    vector x = vector{} + factor, y = vector{} + 1.0f - factor;
    vector s[16];
    for (int k = 0; k < 16; ++k) s[k] = vector{} + (float)k;
    for (int64_t i = 0; i < count; ++i)
      for (int k = 0; k < 16; ++k) s[k] = s[k] * x + y;
    vector sum = {};
    for (int k = 0; k < 16; ++k) sum += s[k];
    float total = 0;
    for (size_t lane = 0; lane < LANES; ++lane) total += sum[lane];
#pragma omp critical
    *sink += total;
    threads += 1;
  }
  return threads;
}

EXPORT int32_t graphc_limit_lanes() { return LANES; }
