// winograd.h the way generated code calls it; the shape as in conv.cpp, the plan as three or two integers.
#include "winograd_gradient.h"

GC_EXPORT void forward(const gc_conv_shape* s, const gc_winograd_plan* p, const float* x, const float* w, float* packed,
                       float* y) {
  gc_winograd_forward<float>(*s, *p, x, w, packed,
                             [&](int64_t image, int64_t channel, int64_t pixel, int64_t count, const float* acc) {
                               float* out = y + (image * s->out_channels + channel) * s->pixels() + pixel;
#pragma omp simd
                               for (int64_t i = 0; i < count; ++i) out[i] = acc[i];
                             });
}

GC_EXPORT void pack_weight(const gc_conv_shape* s, const float* w, float* packed) {
  gc_winograd_pack_weight<float>(*s, false, 0, s->out_channels, w, packed);
}

// relu(conv + bias) with a weight packed before.
GC_EXPORT void packed_bias_relu(const gc_conv_shape* s, const gc_winograd_plan* p, const float* x, const float* packed,
                                const float* bias, float* y) {
  gc_winograd<float>(*s, *p, x, packed,
                     [&](int64_t image, int64_t channel, int64_t pixel, int64_t count, const float* acc) {
                       float* out = y + (image * s->out_channels + channel) * s->pixels() + pixel;
#pragma omp simd
                       for (int64_t i = 0; i < count; ++i) out[i] = gc_max(acc[i] + bias[channel], 0.0f);
                     });
}

GC_EXPORT void data_gradient(const gc_conv_shape* s, const gc_winograd_plan* p, const float* dy, const float* w,
                             float* packed, float* dx) {
  gc_winograd_data_gradient<float>(*s, *p, dy, w, packed,
                                   [&](int64_t image, int64_t channel, int64_t pixel, int64_t count, const float* acc) {
                                     float* out = dx + (image * s->in_channels + channel) * s->plane() + pixel;
#pragma omp simd
                                     for (int64_t i = 0; i < count; ++i) out[i] = acc[i];
                                   });
}

GC_EXPORT void weight_gradient(const gc_conv_shape* s, const gc_winograd_gradient_plan* p, const float* x,
                               const float* dy, float* shared, float* dw) {
  gc_winograd_weight_gradient<float>(*s, *p, x, dy, shared,
                                     [&](int64_t channel, int64_t offset, int64_t count, const float* acc) {
                                       float* out = dw + channel * s->filter() + offset;
#pragma omp simd
                                       for (int64_t i = 0; i < count; ++i) out[i] = acc[i];
                                     });
}

extern "C" void omp_set_num_threads(int) noexcept;

// Sets the number of threads and returns the one before.
GC_EXPORT int exchange_threads(int threads) {
  int before = omp_get_max_threads();
  omp_set_num_threads(threads);
  return before;
}
