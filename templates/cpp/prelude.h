// The ground under every generated C++ file: types, lanes, bit casts, half precision, maxima that keep NaN.
//
// Included first by generated code; includes nothing but <stdint.h> and <stddef.h>, because the standard containers
// cost more compile time than a whole generated program. Every function is branch-free and `static inline`, so that a
// `#pragma omp simd` loop around it vectorises.
//
// Flags this code is written for (and never -ffast-math, which would lose NaN and infinity):
//   -std=c++17 -O3 -march=native -mprefer-vector-width=512 -fno-math-errno -fno-trapping-math -fno-signed-zeros
//   -fopenmp
#ifndef GC_PRELUDE_H
#define GC_PRELUDE_H

#include <stddef.h>
#include <stdint.h>

#define GC_RESTRICT __restrict__
#define GC_INLINE static inline __attribute__((always_inline, unused))
// One copy of a heavy function serves every caller: without noclone GCC compiles it again for each constant argument.
#if defined(__clang__)
#define GC_NOINLINE static __attribute__((noinline, unused))
#else
#define GC_NOINLINE static __attribute__((noinline, noclone, unused))
#endif
#define GC_EXPORT extern "C" __attribute__((visibility("default")))
#define GC_ASSUME_ALIGNED(pointer, bytes) ((decltype(pointer))__builtin_assume_aligned(pointer, bytes))
#define GC_INFINITY __builtin_inff()
#define GC_NAN __builtin_nanf("")

// Bytes of one vector register, and whether the target fuses a * b + c.
#if defined(__AVX512F__)
#define GC_VECTOR_BYTES 64
#elif defined(__AVX2__)
#define GC_VECTOR_BYTES 32
#else
#define GC_VECTOR_BYTES 16
#endif
#define GC_LANES(type) (GC_VECTOR_BYTES / (int64_t)sizeof(type))

// One register of T, and the same without the alignment promise (for loads and stores anywhere).
template <class T> struct gc_vector_of {
  typedef T type __attribute__((vector_size(GC_VECTOR_BYTES), may_alias));
  typedef T unaligned __attribute__((vector_size(GC_VECTOR_BYTES), aligned(sizeof(T)), may_alias));
};
template <class T> using gc_vector = typename gc_vector_of<T>::type;
template <class T> using gc_vector_unaligned = typename gc_vector_of<T>::unaligned;

template <class T> GC_INLINE T gc_min_of(T a, T b) { return a < b ? a : b; }
template <class T> GC_INLINE T gc_max_of(T a, T b) { return a > b ? a : b; }
GC_INLINE int64_t gc_ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
GC_INLINE int64_t gc_round_up(int64_t a, int64_t b) { return gc_ceil_div(a, b) * b; }

GC_INLINE uint32_t gc_bits(float x) { return __builtin_bit_cast(uint32_t, x); }
GC_INLINE uint64_t gc_bits(double x) { return __builtin_bit_cast(uint64_t, x); }
GC_INLINE float gc_float(uint32_t bits) { return __builtin_bit_cast(float, bits); }
GC_INLINE double gc_double(uint64_t bits) { return __builtin_bit_cast(double, bits); }

// Half precision is a storage type: convert, compute in f32, convert back (round to nearest even, NaN stays NaN).
struct gc_bf16 { uint16_t bits; };
struct gc_f16 { uint16_t bits; };

GC_INLINE float gc_to_f32(gc_bf16 x) { return gc_float((uint32_t)x.bits << 16); }

GC_INLINE gc_bf16 gc_to_bf16(float x) {
  uint32_t bits = gc_bits(x);
  uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  return {(uint16_t)(x != x ? 0x7fc0u | (bits >> 16) : rounded)};
}

GC_INLINE float gc_to_f32(gc_f16 x) {
  // The exponent moves by 112; multiplying rather than adding makes denormals right.
  uint32_t magnitude = (uint32_t)(x.bits & 0x7fff) << 13;
  float scaled = gc_float(magnitude) * 0x1p112f;
  uint32_t special = magnitude | 0x7f800000u;
  uint32_t bits = magnitude >= (0x7c00u << 13) ? special : gc_bits(scaled);
  return gc_float(bits | ((uint32_t)(x.bits & 0x8000) << 16));
}

GC_INLINE gc_f16 gc_to_f16(float x) {
  uint32_t bits = gc_bits(x);
  uint32_t magnitude = bits & 0x7fffffffu;
  uint32_t normal = (magnitude - (112u << 23) + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  // Adding 0.5 lines the binary point of a half denormal up with the last bit of the float, which then rounds it.
  uint32_t denormal = gc_bits(gc_float(magnitude) + 0.5f) - gc_bits(0.5f);
  uint32_t finite = magnitude < (113u << 23) ? denormal : normal;
  uint32_t special = magnitude > 0x7f800000u ? 0x7e00u : 0x7c00u;
  uint32_t result = magnitude >= 0x477ff000u ? special : finite;
  return {(uint16_t)(result | ((bits >> 16) & 0x8000u))};
}

// A stored element in the type in which it is summed.
template <class T, class S> GC_INLINE T gc_widened(S x) { return (T)x; }
template <class T> GC_INLINE T gc_widened(gc_bf16 x) { return gc_to_f32(x); }
template <class T> GC_INLINE T gc_widened(gc_f16 x) { return gc_to_f32(x); }

// Maximum and minimum as torch has them: NaN wins. Integers take the plain comparison.
template <class T> GC_INLINE T gc_max(T a, T b) { return a > b ? a : b; }
template <class T> GC_INLINE T gc_min(T a, T b) { return a < b ? a : b; }
GC_INLINE float gc_max(float a, float b) { float m = a > b ? a : b; return a != a ? a : m; }
GC_INLINE float gc_min(float a, float b) { float m = a < b ? a : b; return a != a ? a : m; }
GC_INLINE double gc_max(double a, double b) { double m = a > b ? a : b; return a != a ? a : m; }
GC_INLINE double gc_min(double a, double b) { double m = a < b ? a : b; return a != a ? a : m; }

// Reductions for `#pragma omp simd reduction(gc_max : m)`, which the built-in max and min do not do for NaN.
#pragma omp declare reduction(gc_max : float, double, int32_t, int64_t : omp_out = gc_max(omp_out, omp_in)) \
    initializer(omp_priv = omp_orig)
#pragma omp declare reduction(gc_min : float, double, int32_t, int64_t : omp_out = gc_min(omp_out, omp_in)) \
    initializer(omp_priv = omp_orig)

#endif
