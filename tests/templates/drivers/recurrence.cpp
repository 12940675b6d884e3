// The scans of recurrence.h and recurrence_gradient.h behind plain functions, a suffix for each element type.
#include "recurrence_gradient.h"

extern "C" void omp_set_num_threads(int) noexcept;
extern "C" void threads(int64_t count) { omp_set_num_threads((int)count); }

#define DRIVERS(T, suffix)                                                                                             \
  extern "C" void rnn_##suffix(int64_t steps, int64_t rows, int64_t units, int64_t reverse, int64_t relu, const T* x,  \
                               const T* weight, T* packed, const T* first, T* h) {                                     \
    const gc_sequence s{steps, rows, units, reverse != 0};                                                             \
    if (relu) gc_recurrence<T>(s, weight, packed, first, h, gc_rnn<T, true>{rows, units, x, h});                       \
    else gc_recurrence<T>(s, weight, packed, first, h, gc_rnn<T, false>{rows, units, x, h});                           \
  }                                                                                                                    \
  extern "C" void lstm_##suffix(int64_t steps, int64_t rows, int64_t units, int64_t reverse, const T* x,               \
                                const T* weight, T* packed, const T* first, const T* cell, T* h, T* c, T* held,        \
                                T* gates, double bound) {                                                              \
    const gc_sequence s{steps, rows, units, reverse != 0};                                                             \
    if (bound > 0)                                                                                                     \
      gc_recurrence<T>(s, weight, packed, first, h,                                                                    \
                       gc_lstm<T, true>{rows, units, x, cell, h, c, held, gates, (T)-bound, (T)bound});                \
    else                                                                                                               \
      gc_recurrence<T>(s, weight, packed, first, h,                                                                    \
                       gc_lstm<T, false>{rows, units, x, cell, h, c, held, gates, 0, 0});                              \
  }                                                                                                                    \
  extern "C" void gru_##suffix(int64_t steps, int64_t rows, int64_t units, int64_t reverse, const T* x,                \
                               const T* weight, T* packed, const T* first, const T* bias, T* h, T* gates) {            \
    gc_recurrence<T>({steps, rows, units, reverse != 0}, weight, packed, first, h,                                     \
                     gc_gru<T>{rows, units, x, first, bias, h, gates});                                                \
  }                                                                                                                    \
  extern "C" void rnn_gradient_##suffix(int64_t steps, int64_t rows, int64_t units, int64_t reverse, int64_t relu,     \
                                        const T* dh, const T* weight, T* packed, const T* h, T* carried, T* dx,        \
                                        T* dh0) {                                                                      \
    const gc_sequence s{steps, rows, units, reverse != 0};                                                             \
    if (relu)                                                                                                          \
      gc_recurrence_gradient<T>(s, weight, packed, carried, dx, dh0, gc_rnn_gradient<T, true>{rows, units, dh, h, dx}); \
    else                                                                                                               \
      gc_recurrence_gradient<T>(s, weight, packed, carried, dx, dh0,                                                   \
                                gc_rnn_gradient<T, false>{rows, units, dh, h, dx});                                    \
  }                                                                                                                    \
  extern "C" void lstm_gradient_##suffix(int64_t steps, int64_t rows, int64_t units, int64_t reverse, const T* dh,     \
                                         const T* weight, T* packed, const T* cell, const T* c, const T* gates,        \
                                         const T* dc, T* carried, T* dx, T* dh0, T* dc0, double bound) {               \
    const gc_sequence s{steps, rows, units, reverse != 0};                                                             \
    if (bound > 0)                                                                                                     \
      gc_recurrence_gradient<T>(                                                                                       \
          s, weight, packed, carried, dx, dh0,                                                                         \
          gc_lstm_gradient<T, true>{rows, units, dh, cell, c, gates, dc, dc0, dx, (T)-bound, (T)bound});               \
    else                                                                                                               \
      gc_recurrence_gradient<T>(s, weight, packed, carried, dx, dh0,                                                   \
                                gc_lstm_gradient<T, false>{rows, units, dh, cell, c, gates, dc, dc0, dx, 0, 0});       \
  }                                                                                                                    \
  extern "C" void gru_gradient_##suffix(int64_t steps, int64_t rows, int64_t units, int64_t reverse, const T* dh,      \
                                        const T* weight, T* packed, const T* first, const T* h, const T* gates,        \
                                        T* carried, T* dx, T* ds, T* dh0) {                                            \
    const gc_sequence s{steps, rows, units, reverse != 0};                                                             \
    if (dx)                                                                                                            \
      gc_recurrence_gradient<T>(s, weight, packed, carried, ds, dh0,                                                   \
                                gc_gru_gradient<T, true>{rows, units, dh, first, h, gates, dx, ds});                   \
    else                                                                                                               \
      gc_recurrence_gradient<T>(s, weight, packed, carried, ds, dh0,                                                   \
                                gc_gru_gradient<T, false>{rows, units, dh, first, h, gates, dx, ds});                  \
  }

DRIVERS(float, f32)
DRIVERS(double, f64)
