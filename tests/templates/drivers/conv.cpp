// conv.h the way generated code calls it; the shape comes as integers in the order of gc_conv_shape.
#include "conv.h"

template <class T>
static void forward(const gc_conv_shape& s, const T* x, const T* w, T* y) {
  gc_conv_forward<T>(s, x, w, [&](int64_t image, int64_t channel, int64_t pixel, int64_t count, const T* acc) {
    T* out = y + (image * s.out_channels + channel) * s.out_volume() + pixel;
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) out[i] = acc[i];
  });
}

template <class T>
static void weight_gradient(const gc_conv_shape& s, const T* x, const T* dy, T* dw) {
  gc_conv_weight_gradient<T>(s, x, dy, [&](int64_t channel, int64_t offset, int64_t count, const T* acc) {
    T* out = dw + channel * s.filter() + offset;
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) out[i] = acc[i];
  });
}

template <class T>
static void data_gradient(const gc_conv_shape& s, const T* dy, const T* w, T* dx) {
  gc_conv_data_gradient<T>(s, dy, w, dx, [](int64_t, int64_t, int64_t, int64_t, const T*) {});
}

GC_EXPORT void forward_f32(const gc_conv_shape* s, const float* x, const float* w, float* y) { forward(*s, x, w, y); }
GC_EXPORT void forward_f64(const gc_conv_shape* s, const double* x, const double* w, double* y) {
  forward(*s, x, w, y);
}

GC_EXPORT void weight_gradient_f32(const gc_conv_shape* s, const float* x, const float* dy, float* dw) {
  weight_gradient(*s, x, dy, dw);
}

GC_EXPORT void weight_gradient_f64(const gc_conv_shape* s, const double* x, const double* dy, double* dw) {
  weight_gradient(*s, x, dy, dw);
}

GC_EXPORT void data_gradient_f32(const gc_conv_shape* s, const float* dy, const float* w, float* dx) {
  data_gradient(*s, dy, w, dx);
}

GC_EXPORT void data_gradient_f64(const gc_conv_shape* s, const double* dy, const double* w, double* dx) {
  data_gradient(*s, dy, w, dx);
}

// relu(conv + bias), in one pass over the output.
GC_EXPORT void forward_bias_relu_f32(const gc_conv_shape* s, const float* x, const float* w, const float* bias,
                                     float* y) {
  gc_conv_forward<float>(*s, x, w, [&](int64_t image, int64_t channel, int64_t pixel, int64_t count, const float* acc) {
    float* out = y + (image * s->out_channels + channel) * s->out_volume() + pixel;
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) out[i] = gc_max(acc[i] + bias[channel], 0.0f);
  });
}

extern "C" void omp_set_num_threads(int) noexcept;

// Sets the number of threads and returns the one before.
GC_EXPORT int exchange_threads(int threads) {
  int before = omp_get_max_threads();
  omp_set_num_threads(threads);
  return before;
}

// Both gradients by runs, whatever they cost; false where the shape has none.
template <class T>
static bool in_runs(const gc_conv_shape& s, const T* x, const T* w, const T* dy, T* dx, T* dw) {
  const gc_runs runs = gc_runs_of<T>(s);
  if (!runs.fits) return false;
  gc_data_gradient_in_runs<T>(s, runs, dy, w, dx, [](int64_t, int64_t, int64_t, int64_t, const T*) {});
  gc_weight_gradient_in_runs<T>(s, runs, x, dy, [&](int64_t channel, int64_t offset, int64_t count, const T* acc) {
    for (int64_t i = 0; i < count; ++i) dw[channel * s.filter() + offset + i] = acc[i];
  });
  return true;
}

GC_EXPORT int in_runs_f32(const gc_conv_shape* s, const float* x, const float* w, const float* dy, float* dx,
                          float* dw) {
  return in_runs(*s, x, w, dy, dx, dw);
}

GC_EXPORT int in_runs_f64(const gc_conv_shape* s, const double* x, const double* w, const double* dy, double* dx,
                          double* dw) {
  return in_runs(*s, x, w, dy, dx, dw);
}
