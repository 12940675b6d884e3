// depthwise.h the way generated code calls it; shapes as in conv.cpp.
#include "depthwise.h"

template <class T>
static void forward(const gc_conv_shape& s, const T* x, const T* w, T* y) {
  gc_depthwise_forward<T>(s, x, w, [&](int64_t image, int64_t channel, int64_t pixel, int64_t count, const T* acc) {
    T* out = y + (image * s.groups + channel) * s.pixels() + pixel;
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) out[i] = acc[i];
  });
}

template <class T>
static void data_gradient(const gc_conv_shape& s, const T* dy, const T* w, T* dx) {
  gc_depthwise_data_gradient<T>(s, dy, w,
                                [&](int64_t image, int64_t channel, int64_t pixel, int64_t count, const T* acc) {
                                  T* out = dx + (image * s.groups + channel) * s.plane() + pixel;
#pragma omp simd
                                  for (int64_t i = 0; i < count; ++i) out[i] = acc[i];
                                });
}

template <class T>
static void weight_gradient(const gc_conv_shape& s, const T* x, const T* dy, T* dw) {
  gc_depthwise_kernel_gradient<T>(s, x, dy, [&](int64_t channel, int64_t offset, int64_t count, const T* acc) {
    for (int64_t i = 0; i < count; ++i) dw[channel * s.kernel() + offset + i] = acc[i];
  });
}

GC_EXPORT void forward_f32(const gc_conv_shape* s, const float* x, const float* w, float* y) { forward(*s, x, w, y); }
GC_EXPORT void forward_f64(const gc_conv_shape* s, const double* x, const double* w, double* y) {
  forward(*s, x, w, y);
}
GC_EXPORT void data_gradient_f32(const gc_conv_shape* s, const float* dy, const float* w, float* dx) {
  data_gradient(*s, dy, w, dx);
}
GC_EXPORT void data_gradient_f64(const gc_conv_shape* s, const double* dy, const double* w, double* dx) {
  data_gradient(*s, dy, w, dx);
}
GC_EXPORT void weight_gradient_f32(const gc_conv_shape* s, const float* x, const float* dy, float* dw) {
  weight_gradient(*s, x, dy, dw);
}
GC_EXPORT void weight_gradient_f64(const gc_conv_shape* s, const double* x, const double* dy, double* dw) {
  weight_gradient(*s, x, dy, dw);
}

// Bytes of a thread's scratch, for the forward pass and both gradients.
template <class T>
static void scratch(const gc_conv_shape& s, int64_t* bytes) {
  const gc_depthwise image = gc_depthwise_of_image(s), gradient = gc_depthwise_of_gradient(s);
  bytes[0] = gc_depthwise_memory<T>::bytes(image, image.lines * image.width, 0);
  bytes[1] = gc_depthwise_memory<T>::bytes(gradient, gradient.lines * s.stride_height * s.width, 0);
  bytes[2] = gc_depthwise_memory<T>::bytes(image, 0, gc_depthwise_channels<T>(s));
}

GC_EXPORT void scratch_f32(const gc_conv_shape* s, int64_t* bytes) { scratch<float>(*s, bytes); }
GC_EXPORT void scratch_f64(const gc_conv_shape* s, int64_t* bytes) { scratch<double>(*s, bytes); }

extern "C" void omp_set_num_threads(int) noexcept;

// Sets the number of threads and returns the one before.
GC_EXPORT int exchange_threads(int threads) {
  int before = omp_get_max_threads();
  omp_set_num_threads(threads);
  return before;
}
