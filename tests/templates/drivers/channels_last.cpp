// channels_last.h the way generated code calls it; the shape comes as sixteen integers in the order of gc_conv_shape.
#include "winograd_last.h"

template <class T>
static void forward(const gc_conv_shape& s, const T* x, const T* packed, T* y) {
  gc_pixels_forward<T>(s, x, packed, [&](int64_t pixel, int64_t channel, int64_t count, const T* acc) {
    T* out = y + pixel * s.out_channels + channel;
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) out[i] = acc[i];
  });
}

GC_EXPORT void forward_f32(const gc_conv_shape* s, const float* x, const float* p, float* y) { forward(*s, x, p, y); }
GC_EXPORT void forward_f64(const gc_conv_shape* s, const double* x, const double* p, double* y) {
  forward(*s, x, p, y);
}

GC_EXPORT void pack_f32(const gc_conv_shape* s, const float* w, float* packed) { gc_pixels_pack_weight(*s, w, packed); }
GC_EXPORT void pack_f64(const gc_conv_shape* s, const double* w, double* packed) {
  gc_pixels_pack_weight(*s, w, packed);
}

// relu(conv + bias), in one pass over the output.
GC_EXPORT void bias_relu_f32(const gc_conv_shape* s, const float* x, const float* packed, const float* bias, float* y) {
  gc_pixels_forward<float>(*s, x, packed, [&](int64_t pixel, int64_t channel, int64_t count, const float* acc) {
    float* out = y + pixel * s->out_channels + channel;
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) out[i] = gc_max(acc[i] + bias[channel + i], 0.0f);
  });
}

static auto storing(const gc_conv_shape* s, float* y) {
  return [=](int64_t pixel, int64_t channel, int64_t count, const float* acc) {
    float* out = y + pixel * s->out_channels + channel;
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) out[i] = acc[i];
  };
}

GC_EXPORT void pack_lines(const gc_conv_shape* s, const float* w, float* packed) { gc_pixels_pack_lines(*s, w, packed); }
GC_EXPORT void lines(const gc_conv_shape* s, const float* x, const float* packed, float* y) {
  gc_pixels_lines<float>(*s, x, packed, storing(s, y));
}

GC_EXPORT void winograd_packing(const gc_conv_shape* s, const gc_winograd_plan* p, const float* x, const float* w,
                                float* packed, float* y) {
  gc_pixels_winograd_packing<float>(*s, *p, x, w, packed, storing(s, y));
}

GC_EXPORT void winograd_packing_five(const gc_conv_shape* s, const gc_winograd_plan* p, const float* x, const float* w,
                                     float* packed, float* y) {
  gc_pixels_winograd_packing<float, 5>(*s, *p, x, w, packed, storing(s, y));
}

GC_EXPORT void winograd_packed(const gc_conv_shape* s, const gc_winograd_plan* p, const float* x, const float* packed,
                               float* y) {
  gc_pixels_winograd<float>(*s, *p, x, packed, storing(s, y));
}

extern "C" void omp_set_num_threads(int) noexcept;

// Sets the number of threads and returns the one before.
GC_EXPORT int exchange_threads(int threads) {
  int before = omp_get_max_threads();
  omp_set_num_threads(threads);
  return before;
}
