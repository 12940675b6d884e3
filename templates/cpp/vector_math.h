// Scalar mathematics that vectorises: every function is branch-free, or a libm call with a vector variant.
//
// Called from generated loops under `#pragma omp simd`. Overloaded on float and double: gc_exp(x), gc_tanh(x), ...
// f32 exp, expm1, log, log1p, tanh, sigmoid and erf are ours (they vectorise on any target and compiler); the rest and
// all of f64 are libm's, which GCC vectorises through glibc's libmvec (link -lmvec -lm) and calls one by one elsewhere.
// Errors: ours at most 2.5 ulp, libmvec's at most 4 ulp; NaN and infinity are right. gc_exp, gc_sigmoid and gc_softplus
// flush results below 2^-126 to zero.
// Coefficients: minimax fits over the reduced range (Lawson's reweighted least squares), rounded to f32.
#ifndef GC_VECTOR_MATH_H
#define GC_VECTOR_MATH_H

#include "prelude.h"

#if defined(__x86_64__) && defined(__GLIBC__) && !defined(__clang__)
#if __GLIBC_PREREQ(2, 35)
#define GC_SIMD_CALL __attribute__((simd("notinbranch"), const))
#endif
#endif
#ifndef GC_SIMD_CALL
#define GC_SIMD_CALL __attribute__((const))
#endif

// A libm function as gc_NAME: declare f32 and f64, overload on the type.
#define GC_LIBM_F64(name)                                       \
  extern "C" GC_SIMD_CALL double name(double) noexcept;         \
  GC_INLINE double gc_##name(double x) { return name(x); }
#define GC_LIBM(name)                                           \
  extern "C" GC_SIMD_CALL float name##f(float) noexcept;        \
  GC_INLINE float gc_##name(float x) { return name##f(x); }     \
  GC_LIBM_F64(name)
#define GC_LIBM_BINARY(name)                                               \
  extern "C" GC_SIMD_CALL float name##f(float, float) noexcept;            \
  extern "C" GC_SIMD_CALL double name(double, double) noexcept;            \
  GC_INLINE float gc_##name(float x, float y) { return name##f(x, y); }    \
  GC_INLINE double gc_##name(double x, double y) { return name(x, y); }
// Without a vector variant: called lane by lane.
#define GC_LIBM_SCALAR(name)                                                                \
  GC_INLINE float gc_##name(float x) { return __builtin_##name##f(x); }                     \
  GC_INLINE double gc_##name(double x) { return __builtin_##name(x); }

GC_LIBM_F64(exp) GC_LIBM_F64(expm1) GC_LIBM_F64(log) GC_LIBM_F64(log1p) GC_LIBM_F64(tanh) GC_LIBM_F64(erf)
GC_LIBM(exp2) GC_LIBM(log2) GC_LIBM(log10)
GC_LIBM(sin) GC_LIBM(cos) GC_LIBM(tan) GC_LIBM(asin) GC_LIBM(acos) GC_LIBM(atan)
GC_LIBM(sinh) GC_LIBM(cosh) GC_LIBM(asinh) GC_LIBM(acosh) GC_LIBM(atanh)
GC_LIBM(cbrt) GC_LIBM(erfc)
GC_LIBM_BINARY(pow) GC_LIBM_BINARY(atan2) GC_LIBM_BINARY(hypot)
GC_LIBM_SCALAR(lgamma) GC_LIBM_SCALAR(tgamma)

// Instructions, where the target has them. gc_rint rounds halves to even (torch.round), gc_round away from zero.
GC_LIBM_SCALAR(floor) GC_LIBM_SCALAR(ceil) GC_LIBM_SCALAR(trunc) GC_LIBM_SCALAR(rint) GC_LIBM_SCALAR(sqrt)
GC_LIBM_SCALAR(fabs)

GC_INLINE float gc_copysign(float magnitude, float sign) {
  return gc_float((gc_bits(magnitude) & 0x7fffffffu) | (gc_bits(sign) & 0x80000000u));
}
GC_INLINE double gc_copysign(double magnitude, double sign) {
  return gc_double((gc_bits(magnitude) & ~(1ull << 63)) | (gc_bits(sign) & (1ull << 63)));
}
template <class T> GC_INLINE T gc_round(T x) {
  T whole = gc_trunc(x);
  return gc_fabs(x - whole) >= (T)0.5 ? whole + gc_copysign((T)1, x) : whole;
}
template <class T> GC_INLINE T gc_rsqrt(T x) { return (T)1 / gc_sqrt(x); }
// The remainder with the sign of the divisor, as Python and torch.remainder have it; exact for any quotient.
GC_INLINE float gc_fmod(float x, float y) { return __builtin_fmodf(x, y); }
GC_INLINE double gc_fmod(double x, double y) { return __builtin_fmod(x, y); }
template <class T> GC_INLINE T gc_mod(T x, T y) {
  T remainder = gc_fmod(x, y);
  return remainder != 0 && (remainder < 0) != (y < 0) ? remainder + y : remainder;
}

// e^x = 2^n e^r with n = round(x / ln 2), |r| <= ln(2) / 2. Adding 1.5 * 2^23 rounds, and leaves n in the low bits.
GC_INLINE float gc_exp_in_range(float x) {
  const float round = 0x1.8p23f;
  float shifted = x * 0x1.715476p+0f + round;
  float n = shifted - round;
  float r = x - n * 0x1.62e4p-1f;  // ln 2 in two parts; n times the first is exact
  r = r - n * 0x1.7f7d1cp-20f;
  float q = 0x1.6a21acp-10f;
  q = q * r + 0x1.123b6ap-7f;
  q = q * r + 0x1.5558fap-5f;
  q = q * r + 0x1.55549p-3f;
  q = q * r + 0x1.fffffcp-2f;
  float p = q * (r * r) + r + 1.0f;
  return gc_float(gc_bits(p) + (gc_bits(shifted) << 23));
}

GC_INLINE float gc_exp(float x) {
  float y = x < -0x1.5d589ep+6f ? 0.0f : gc_exp_in_range(x);
  return x <= 0x1.62e42ep+6f ? y : x + GC_INFINITY;  // NaN takes the second arm
}

// e^x - 1 = 2 (2^(n-1) (e^r - 1) + 2^(n-1) - 1/2): neither cancels near zero nor overflows before the result does.
GC_INLINE float gc_expm1_in_range(float x) {
  const float round = 0x1.8p23f;
  float shifted = x * 0x1.715476p+0f + round;
  float n = shifted - round;
  float r = x - n * 0x1.62e4p-1f;
  r = r - n * 0x1.7f7d1cp-20f;
  float q = 0x1.6bebcep-10f;
  q = q * r + 0x1.1228e6p-7f;
  q = q * r + 0x1.555676p-5f;
  q = q * r + 0x1.5554aep-3f;
  q = q * r + 0x1.fffffep-2f;
  float p = q * (r * r) + r;
  float half_scale = gc_float((gc_bits(shifted) << 23) + (126u << 23));
  float half = p * half_scale + (half_scale - 0.5f);
  return half + half;
}

GC_INLINE float gc_expm1(float x) {
  float y = x < -17.5f ? -1.0f : gc_expm1_in_range(x);
  return x <= 0x1.62e42ep+6f ? y : x + GC_INFINITY;
}

// log(1 + m) for m in [-1/4, 1/2], plus exponent * ln 2.
GC_INLINE float gc_log_reduced(float m, float exponent) {
  float q = -0x1.6fe64cp-5f;
  q = q * m + 0x1.abf6b6p-4f;
  q = q * m + -0x1.0d9002p-3f;
  q = q * m + 0x1.2897b6p-3f;
  q = q * m + -0x1.54f23ep-3f;
  q = q * m + 0x1.99685ap-3f;
  q = q * m + -0x1.000024p-2f;
  q = q * m + 0x1.5555a6p-2f;
  q = q * m + -0.5f;
  return exponent * 0x1.62e43p-1f + (q * (m * m) + m);
}

// x = 2^e (1 + m), 3/4 <= 1 + m < 3/2. Denormal inputs are scaled up first.
GC_INLINE float gc_log(float x) {
  float scaled = x < 0x1p-126f ? x * 0x1p24f : x;
  float offset = x < 0x1p-126f ? -24.0f : 0.0f;
  uint32_t power = (gc_bits(scaled) - 0x3f400000u) & 0xff800000u;
  float m = gc_float(gc_bits(scaled) - power) - 1.0f;
  float exponent = (float)((int32_t)power >> 23) + offset;
  float y = gc_log_reduced(m, exponent);
  y = x == 0.0f ? -GC_INFINITY : y;
  y = x < GC_INFINITY ? y : x;
  return x < 0.0f ? GC_NAN : y;
}

// The power of two comes from 1 + x, the mantissa from x itself, so that no bit of a small x is lost.
GC_INLINE float gc_log1p(float x) {
  uint32_t power = (gc_bits(1.0f + x) - 0x3f400000u) & 0xff800000u;
  float quarter_scale = gc_float(0x40800000u - power);  // 4 * 2^-e: stays normal for the largest x
  float m = (x * quarter_scale) * 0.25f + (quarter_scale * 0.25f - 1.0f);
  float y = gc_log_reduced(m, (float)((int32_t)power >> 23));
  y = x == -1.0f ? -GC_INFINITY : y;
  y = x < GC_INFINITY ? y : x;
  return x < -1.0f ? GC_NAN : y;
}

// tanh t = -m / (m + 2) with m = e^(-2t) - 1; from t = 10 on it is 1 in f32. The comparison keeps NaN.
GC_INLINE float gc_tanh(float x) {
  float t = gc_fabs(x);
  t = t > 10.0f ? 10.0f : t;
  float m = gc_expm1_in_range(-2.0f * t);
  return gc_copysign(m / (m + 2.0f), x);
}

// x + x P(x^2) for |x| < 0.9, else 1 - exp(t P(t)) with t = min(|x|, 3.93), where erf has reached 1 in f32.
// Both are of degree 5, so choosing the coefficients costs less than evaluating both.
GC_INLINE float gc_erf(float x) {
  float t = gc_fabs(x);
  t = t > 3.93f ? 3.93f : t;
  bool tail = t >= 0.9f;
  float v = tail ? t : t * t;
  float p = tail ? 0x1.c11cf4p-13f : -0x1.3f4fbp-11f;
  p = p * v + (tail ? -0x1.a5963p-9f : 0x1.4876dap-8f);
  p = p * v + (tail ? 0x1.771d1cp-6f : -0x1.b6bee6p-6f);
  p = p * v + (tail ? -0x1.af302p-4f : 0x1.ce1dd2p-4f);
  p = p * v + (tail ? -0x1.457bf2p-1f : -0x1.8126fap-2f);
  p = p * v + (tail ? -0x1.20e676p+0f : 0x1.06eba6p-3f);
  p = p * t;
  float y = tail ? 1.0f - gc_exp_in_range(p) : p + t;
  return gc_copysign(y, x);
}

// x^(quarters / 4) by roots and products, as pow has it for zeros, infinities and NaN.
template <int quarters, class T> GC_INLINE T gc_pow_quarters(T x) {
  constexpr int count = quarters < 0 ? -quarters : quarters;
  T positive = x == -(T)GC_INFINITY ? (T)GC_INFINITY : x;
  T root = gc_sqrt(positive), y = 1;
#pragma GCC unroll 8
  for (int whole = 0; whole < count / 4; ++whole) y *= positive;
  if (count & 2) y *= root;
  if (count & 1) y *= gc_sqrt(root);
  y = quarters < 0 ? (T)1 / y : y;
  return x == 0 ? (quarters < 0 ? (T)GC_INFINITY : (T)0) : y;  // a root of -0 is -0
}

template <class T> GC_INLINE T gc_sigmoid(T x) { return (T)1 / ((T)1 + gc_exp(-x)); }
// log(1 + e^x) without overflow.
template <class T> GC_INLINE T gc_softplus(T x) { return gc_max(x, (T)0) + gc_log1p(gc_exp(-gc_fabs(x))); }
// -1, 0 or 1; 0 for NaN.
template <class T> GC_INLINE T gc_sign(T x) { return (T)(x > 0) - (T)(x < 0); }

#endif
