// Every function of vector_math.h as an array loop, the way generated code calls it.
#include "vector_math.h"

#define UNARY_AS(name, suffix, type)                                                                 \
  GC_EXPORT void name##_##suffix(const type* GC_RESTRICT x, type* GC_RESTRICT y, int64_t count) {     \
    _Pragma("omp simd") for (int64_t i = 0; i < count; ++i) y[i] = gc_##name(x[i]);                   \
  }
#define UNARY(name) UNARY_AS(name, f32, float) UNARY_AS(name, f64, double)
#define BINARY_AS(name, suffix, type)                                                                \
  GC_EXPORT void name##_##suffix(const type* GC_RESTRICT x, const type* GC_RESTRICT z, type* GC_RESTRICT y, \
                                 int64_t count) {                                                    \
    _Pragma("omp simd") for (int64_t i = 0; i < count; ++i) y[i] = gc_##name(x[i], z[i]);             \
  }
#define BINARY(name) BINARY_AS(name, f32, float) BINARY_AS(name, f64, double)

UNARY(exp) UNARY(expm1) UNARY(log) UNARY(log1p) UNARY(tanh) UNARY(erf) UNARY(sigmoid) UNARY(softplus)
UNARY(exp2) UNARY(log2) UNARY(log10) UNARY(sin) UNARY(cos) UNARY(tan) UNARY(asin) UNARY(acos) UNARY(atan)
UNARY(sinh) UNARY(cosh) UNARY(asinh) UNARY(acosh) UNARY(atanh) UNARY(cbrt) UNARY(erfc) UNARY(lgamma) UNARY(tgamma)
UNARY(floor) UNARY(ceil) UNARY(trunc) UNARY(rint) UNARY(round) UNARY(sqrt) UNARY(rsqrt) UNARY(fabs) UNARY(sign)
BINARY(pow) BINARY(atan2) BINARY(hypot) BINARY(mod) BINARY(max) BINARY(min)

GC_EXPORT float reduce_max_f32(const float* x, int64_t count) {
  float m = -GC_INFINITY;
#pragma omp simd reduction(gc_max : m)
  for (int64_t i = 0; i < count; ++i) m = gc_max(m, x[i]);
  return m;
}

GC_EXPORT double reduce_min_f64(const double* x, int64_t count) {
  double m = GC_INFINITY;
#pragma omp simd reduction(gc_min : m)
  for (int64_t i = 0; i < count; ++i) m = gc_min(m, x[i]);
  return m;
}
