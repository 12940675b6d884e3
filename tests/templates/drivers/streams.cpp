// Loops whose results go past the cache, with targets that begin anywhere.
#include "half.h"

#define EXPORT extern "C" __attribute__((visibility("default")))

// a[i] = 2 x[i], b[i] = x[i] + 1, c[i] = x[i] rounded to bf16, d[i] to f16.
EXPORT void streams_any(const float* x, int64_t count, float* a, float* b, gc_bf16* c, gc_f16* d) {
  gc_for_streams<64>(count, [&](int64_t lane, int64_t slot, auto& tiles) GC_LAMBDA_INLINE {
    tiles[0][slot] = 2.0f * x[lane];
    tiles[1][slot] = x[lane] + 1.0f;
    tiles[2][slot] = x[lane];
    tiles[3][slot] = x[lane];
  }, a, b, c, d);
  gc_stream_fence();
}

EXPORT void streams_half_first(const float* x, int64_t count, gc_f16* d) {
  gc_for_streams<64>(count, [&](int64_t lane, int64_t slot, auto& tiles) GC_LAMBDA_INLINE {
    tiles[0][slot] = x[lane];
  }, d);
  gc_stream_fence();
}

EXPORT void streams_even(const float* x, int64_t count, float* a, gc_bf16* c) {
  gc_for_streams_evenly<32>(count, [&](int64_t lane, int64_t slot, auto& tiles) GC_LAMBDA_INLINE {
    tiles[0][slot] = 2.0f * x[lane];
    tiles[1][slot] = x[lane];
  }, a, c);
  gc_stream_fence();
}
