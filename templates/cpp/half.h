// Rows of f16 and bf16 as tiles of floats and back, a vector at a time, also past the cache.
//
// Compilers do not vectorise the conversion of f16, and no loop over floats stores 16-bit elements past the cache.
#ifndef GC_HALF_H
#define GC_HALF_H

#include "lanes.h"

// As many 16-bit elements as a vector has floats.
typedef uint16_t gc_half_vector __attribute__((vector_size(GC_VECTOR_BYTES / 2)));
typedef uint16_t gc_half_vector_unaligned __attribute__((vector_size(GC_VECTOR_BYTES / 2), aligned(2), may_alias));

#if defined(__AVX512F__)
#define GC_HALF_CONVERTS 1
typedef int16_t gc_half_raw __attribute__((vector_size(32)));
GC_INLINE gc_vector<float> gc_widen_vector(gc_half_vector x) {
  return (gc_vector<float>)__builtin_ia32_vcvtph2ps512_mask((gc_half_raw)x, gc_vector<float>{}, (uint16_t)-1, 4);
}
GC_INLINE gc_half_vector gc_narrow_vector(gc_vector<float> x) {
  return (gc_half_vector)__builtin_ia32_vcvtps2ph512_mask(x, 0, gc_half_raw{}, (uint16_t)-1);
}
#elif defined(__AVX2__) && defined(__F16C__) && !defined(__clang__)
#define GC_HALF_CONVERTS 1
typedef int16_t gc_half_raw __attribute__((vector_size(16)));
GC_INLINE gc_vector<float> gc_widen_vector(gc_half_vector x) {
  return (gc_vector<float>)__builtin_ia32_vcvtph2ps256((gc_half_raw)x);
}
GC_INLINE gc_half_vector gc_narrow_vector(gc_vector<float> x) {
  return (gc_half_vector)__builtin_ia32_vcvtps2ph256(x, 0);
}
#endif

GC_INLINE gc_f16 gc_narrowed(float x, gc_f16) { return gc_to_f16(x); }
GC_INLINE gc_bf16 gc_narrowed(float x, gc_bf16) { return gc_to_bf16(x); }

// tile[i] = source[i], count below the tile's size.
GC_INLINE void gc_widen(float* tile, const gc_f16* source, int64_t count) {
  int64_t i = 0;
#if defined(GC_HALF_CONVERTS)
  for (; i + GC_LANES(float) <= count; i += GC_LANES(float)) {
    const gc_half_vector half = *(const gc_half_vector_unaligned*)(source + i);
    *(gc_vector_unaligned<float>*)(tile + i) = gc_widen_vector(half);
  }
#endif
#pragma omp simd
  for (int64_t k = i; k < count; ++k) tile[k] = gc_to_f32(source[k]);
}

// target[i] = tile[i], rounded to nearest even.
template <class H> GC_INLINE void gc_narrow(H* target, const float* tile, int64_t count) {
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) target[i] = gc_narrowed(tile[i], H{});
}
GC_INLINE void gc_narrow(gc_f16* target, const float* tile, int64_t count) {
  int64_t i = 0;
#if defined(GC_HALF_CONVERTS)
  for (; i + GC_LANES(float) <= count; i += GC_LANES(float)) {
    *(gc_half_vector_unaligned*)(target + i) = gc_narrow_vector(*(const gc_vector_unaligned<float>*)(tile + i));
  }
#endif
#pragma omp simd
  for (int64_t k = i; k < count; ++k) target[k] = gc_to_f16(tile[k]);
}

// The same past the cache: rounded into a local row of whole vectors, which lie as the target does.
template <class H> GC_INLINE void gc_stream(H* target, const float* tile, int64_t count) {
  constexpr int64_t lanes = GC_VECTOR_BYTES / 2, row = 256;
  const int64_t misaligned = (int64_t)((uintptr_t)target % GC_VECTOR_BYTES) / 2;
  const int64_t head = gc_min_of<int64_t>(count, misaligned ? lanes - misaligned : 0);
  gc_narrow(target, tile, head);
  alignas(64) H rounded[row];
  for (int64_t start = head; start < count; start += row) {
    const int64_t some = gc_min_of<int64_t>(row, count - start), whole = some / lanes * lanes;
    gc_narrow(rounded, tile + start, whole);
    for (int64_t i = 0; i < whole; i += lanes) {
      gc_stream_vector((float*)(void*)(target + start + i), (const float*)(const void*)(rounded + i));
    }
    gc_narrow(target + start + whole, tile + start + whole, some - whole);
  }
}

template <class H> GC_INLINE void gc_put(H* target, const float* tile, int64_t count) { gc_narrow(target, tile, count); }
template <class H, int64_t block> GC_INLINE void gc_stream_block(H* target, const float (&tile)[block]) {
  constexpr int64_t lanes = GC_VECTOR_BYTES / 2;
  alignas(64) H rounded[block];
  gc_narrow(rounded, tile, block);
  if ((uintptr_t)target % GC_VECTOR_BYTES != 0) {
    __builtin_memcpy(target, rounded, sizeof rounded);
    return;
  }
  for (int64_t i = 0; i < block; i += lanes) {
    gc_stream_vector((float*)(void*)(target + i), (const float*)(const void*)(rounded + i));
  }
}

#endif
