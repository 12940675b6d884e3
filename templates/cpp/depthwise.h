// Depthwise convolution: each channel by its own kernel, and both gradients. Called by generated code, as conv.h is:
//
//   gc_depthwise_forward<float>(shape, x, w, epilogue);                 // epilogue(image, channel, pixel, count, acc)
//   gc_depthwise_data_gradient<float>(shape, dy, w, epilogue);          // epilogue(image, channel, pixel, count, acc)
//   gc_depthwise_kernel_gradient<float>(shape, x, dy, epilogue);        // epilogue(channel, 0, kernel, acc)
//
// A band of a plane is copied once into rows of one pitch, zeros around it, a plane for each phase of the stride. What
// one weight meets is then one contiguous run, so that lanes are pixels whatever the width, and a small image is a few
// registers long. Between output rows lie a few results that nobody reads.
//
// Needs      groups = in channels = out channels; any kernel, stride, pad, dilation.
// Order      every sum in an order fixed by the shape.
// Scratch    gc_depthwise::bytes a thread (graphc/codegen/cpp/depthwise.py knows the same number).
#ifndef GC_DEPTHWISE_H
#define GC_DEPTHWISE_H

#include "conv.h"

#define GC_DEPTHWISE_ROOM 6144  // elements of a band: with its results they stay in L1
#define GC_DEPTHWISE_VECTORS 4

// How a band lies in memory. `taps` weights meet runs of it; `runs` of them are computed for each band.
struct gc_depthwise {
  int64_t pitch, halo;     // elements of a row; rows beyond those of the runs
  int64_t height, width;   // of the plane of runs
  int64_t lines, bands;    // rows of runs in a band, bands of a plane
  int64_t planes, taps;    // copies of a band, one for each phase; weights
  int64_t results;         // of a band that lie side by side

  // Runs of height by width over rows that reach `halo` and `beyond` further.
  gc_depthwise(int64_t h, int64_t w, int64_t reach_down, int64_t reach_across, int64_t phases, int64_t weights,
               int64_t outputs = 1)
      : pitch(w + reach_across),
        halo(reach_down),
        height(h),
        width(w),
        planes(phases),
        taps(weights),
        results(outputs) {
    const int64_t most = GC_DEPTHWISE_ROOM / gc_max_of<int64_t>(1, gc_max_of(phases, results) * pitch) - halo;
    lines = gc_max_of<int64_t>(1, gc_min_of(h, most));
    bands = gc_ceil_div(h, lines);
  }

  int64_t plane() const { return (lines + halo) * pitch; }
  int64_t run(int64_t rows) const { return (rows - 1) * pitch + width; }
  template <class T>
  int64_t slack() const {
    return GC_DEPTHWISE_VECTORS * GC_LANES(T);
  }
  template <class T>
  int64_t band() const {  // a run may read and write a few registers further
    return gc_round_up(planes * plane(), 16) + slack<T>();
  }
  template <class T>
  int64_t result() const {
    return gc_round_up(lines * pitch, 16) + slack<T>();
  }
};

// The forward pass and the gradient to the weight: phases of x, runs are outputs.
GC_INLINE gc_depthwise gc_depthwise_of_image(const gc_conv_shape& s) {
  return gc_depthwise(s.out_height, s.out_width, (s.kernel_height - 1) * s.dilation_height / s.stride_height + 1,
                      (s.kernel_width - 1) * s.dilation_width / s.stride_width + 1, s.stride_height * s.stride_width,
                      s.kernel());
}

// Floor of a / b, b > 0.
GC_INLINE int64_t gc_reach_floor(int64_t a, int64_t b) { return a >= 0 ? a / b : -gc_ceil_div(-a, b); }

// The gradient to the data: runs are every stride-th element of dx, over one copy of dy.
struct gc_depthwise_reach {
  int64_t first, last;  // rows (columns) of dy that an element of dx meets, seen from its own
};
GC_INLINE gc_depthwise_reach gc_reach(int64_t kernel, int64_t stride, int64_t pad, int64_t dilation) {
  return {gc_reach_floor(pad - (kernel - 1) * dilation, stride), gc_reach_floor(stride - 1 + pad, stride)};
}

GC_INLINE gc_depthwise gc_depthwise_of_gradient(const gc_conv_shape& s) {
  const gc_depthwise_reach down = gc_reach(s.kernel_height, s.stride_height, s.pad_height, s.dilation_height);
  const gc_depthwise_reach across = gc_reach(s.kernel_width, s.stride_width, s.pad_width, s.dilation_width);
  return gc_depthwise(gc_ceil_div(s.height, s.stride_height), gc_ceil_div(s.width, s.stride_width),
                      down.last - down.first, across.last - across.first, 1, s.kernel(),
                      s.stride_width == 2 ? 2 * s.stride_height : 1);
}

// Elements of a plane, every stride-th from (top, left) on, into rows of a band; columns beside the plane stay as they
// are (zero), rows beside it become zero.
template <class T>
GC_NOINLINE void gc_depthwise_copy(const T* plane, int64_t height, int64_t width, int64_t top, int64_t left,
                                   int64_t stride_height, int64_t stride_width, int64_t rows, int64_t columns, T* to,
                                   int64_t pitch) {
  const gc_span down = gc_inside(0, rows, height, stride_height, -top, 0);
  const gc_span across = gc_inside(0, columns, width, stride_width, -left, 0);
  for (int64_t i = 0; i < down.begin * pitch; ++i) to[i] = 0;
  for (int64_t i = down.end * pitch; i < rows * pitch; ++i) to[i] = 0;
  const int64_t count = across.end - across.begin, repeats = down.end - down.begin;
  if (count <= 0 || repeats <= 0) return;
  const T* from = plane + (down.begin * stride_height + top) * width + across.begin * stride_width + left;
  T* target = to + down.begin * pitch + across.begin;
  gc_copy_pieces(count, repeats, from, stride_width, stride_height * width, target, pitch);
}

// out[i] = sum over taps of weights[tap] * band[offsets[tap] + i].
template <class T>
GC_NOINLINE void gc_depthwise_run(int64_t count, int64_t taps, const T* weights, const int64_t* offsets, const T* band,
                                  T* out) {
  typedef gc_vector<T> vec;
  typedef gc_vector_unaligned<T> memory;
  constexpr int64_t L = GC_LANES(T), V = GC_DEPTHWISE_VECTORS;
  for (int64_t i = 0; i < count; i += V * L) {
    vec sum[V] = {};
    for (int64_t tap = 0; tap < taps; ++tap) {
      const T* from = band + offsets[tap] + i;
      const T weight = weights[tap];
#pragma GCC unroll 4
      for (int64_t v = 0; v < V; ++v) sum[v] += weight * *(const memory*)(from + v * L);
    }
#pragma GCC unroll 4
    for (int64_t v = 0; v < V; ++v) *(memory*)(out + i + v * L) = sum[v];
  }
}

// sums[tap][lanes] += band[offsets[tap] + i] * gradient[i] for R taps, V registers at a time; the gradient is zero between
// its rows and behind them.
template <class T, int R, int V>
GC_NOINLINE void gc_depthwise_dots_of(int64_t count, const int64_t* offsets, const T* band, const T* gradient, T* sums) {
  typedef gc_vector<T> vec;
  typedef gc_vector_unaligned<T> memory;
  constexpr int64_t L = GC_LANES(T);
  const T* from[R];
  vec sum[V][R] = {};
#pragma GCC unroll 9
  for (int64_t r = 0; r < R; ++r) from[r] = band + offsets[r];
  for (int64_t i = 0; i < count; i += V * L)
#pragma GCC unroll 4
    for (int64_t v = 0; v < V; ++v) {
      const vec of = *(const memory*)(gradient + i + v * L);
#pragma GCC unroll 9
      for (int64_t r = 0; r < R; ++r) sum[v][r] += of * *(const memory*)(from[r] + i + v * L);
    }
#pragma GCC unroll 9
  for (int64_t r = 0; r < R; ++r) {
    vec whole = sum[0][r];
#pragma GCC unroll 4
    for (int64_t v = 1; v < V; ++v) whole += sum[v][r];
    *(memory*)(sums + r * L) += whole;
  }
}

template <class T>
GC_NOINLINE void gc_depthwise_dots(int64_t count, int64_t taps, const int64_t* offsets, const T* band,
                                   const T* gradient, T* sums) {
  constexpr int64_t L = GC_LANES(T);
  int64_t tap = 0;
  for (; tap + 9 <= taps; tap += 9) gc_depthwise_dots_of<T, 9, 1>(count, offsets + tap, band, gradient, sums + tap * L);
  for (; tap + 3 <= taps; tap += 3) gc_depthwise_dots_of<T, 3, 2>(count, offsets + tap, band, gradient, sums + tap * L);
  for (; tap < taps; ++tap) gc_depthwise_dots_of<T, 1, 4>(count, offsets + tap, band, gradient, sums + tap * L);
}

// Where each weight's run begins in the band of x.
GC_NOINLINE void gc_depthwise_offsets(const gc_conv_shape& s, const gc_depthwise& d, int64_t* offsets) {
  for (int64_t i = 0; i < s.kernel_height; ++i)
    for (int64_t j = 0; j < s.kernel_width; ++j) {
      const int64_t y = i * s.dilation_height, x = j * s.dilation_width;
      const int64_t phase = y % s.stride_height * s.stride_width + x % s.stride_width;
      *offsets++ = phase * d.plane() + y / s.stride_height * d.pitch + x / s.stride_width;
    }
}

template <class T>
GC_NOINLINE void gc_depthwise_band(const gc_conv_shape& s, const gc_depthwise& d, const T* plane, int64_t line, T* to) {
  for (int64_t phase = 0; phase < d.planes; ++phase, to += d.plane())
    gc_depthwise_copy(plane, s.height, s.width, line * s.stride_height + phase / s.stride_width - s.pad_height,
                      phase % s.stride_width - s.pad_width, s.stride_height, s.stride_width, d.lines + d.halo, d.pitch,
                      to, d.pitch);
}

// A thread's scratch: the band, its results or the rows of dy, sums of some channels, weights, results without gaps; of each
// tap where its run begins, in the gradient to the data also which one it is and its phase.
template <class T>
struct gc_depthwise_memory {
  T *band, *result, *whole, *sums, *weights;
  int64_t *offsets, *order, *phases;

  static int64_t bytes(const gc_depthwise& d, int64_t whole, int64_t channels) {
    const int64_t elements = d.band<T>() + d.results * d.result<T>() + whole + d.taps * (channels * GC_LANES(T) + 1);
    return gc_round_up(elements + 2 * GC_LANES(T), 16) * (int64_t)sizeof(T) + 3 * d.taps * 8 + 128;
  }

  // Zeroes the band and the results: what nobody writes must read as zero.
  gc_depthwise_memory(const gc_depthwise& d, int64_t rest, int64_t channels) {
    offsets = (int64_t*)gc_round_up((int64_t)gc_scratch(bytes(d, rest, channels)), 64);
    order = offsets + d.taps;
    phases = order + d.taps;
    band = (T*)gc_round_up((int64_t)(phases + d.taps), 64);
    result = band + d.band<T>();
    sums = result + d.results * d.result<T>();
    weights = sums + channels * d.taps * GC_LANES(T);
    whole = weights + d.taps;
    __builtin_memset(band, 0, (d.band<T>() + d.results * d.result<T>()) * sizeof(T));
  }
};

template <class T, class Epilogue>
void gc_depthwise_forward(const gc_conv_shape& s, const T* x, const T* w, const Epilogue& epilogue) {
  const gc_depthwise d = gc_depthwise_of_image(s);
  const int64_t planes = s.batch * s.groups;
  const int64_t threads = gc_min_of(planes * d.bands, gc_threads_for((double)planes * s.pixels() * s.kernel() / 4));
  const gc_scratch_view team = gc_scratch_now;
#pragma omp parallel num_threads((int)threads) if (threads > 1)
  {
    const gc_scratch_scope share(team, omp_get_thread_num());
    const gc_depthwise_memory<T> m(d, d.lines * d.width, 0);
    gc_depthwise_offsets(s, d, m.offsets);
#pragma omp for schedule(static)
    for (int64_t item = 0; item < planes * d.bands; ++item) {
      const int64_t plane = item / d.bands, line = item % d.bands * d.lines, channel = plane % s.groups;
      const int64_t lines = gc_min_of(d.lines, d.height - line);
      gc_depthwise_band(s, d, x + plane * s.plane(), line, m.band);
      gc_depthwise_run(d.run(lines), d.taps, w + channel * d.taps, (const int64_t*)m.offsets, (const T*)m.band,
                       m.result);
      gc_copy_pieces(d.width, lines, (const T*)m.result, (int64_t)1, d.pitch, m.whole, d.width);
      epilogue(plane / s.groups, channel, line * d.width, lines * d.width, (const T*)m.whole);
    }
  }
}

// ---- gradient to the data ----

// Taps in the order of the phases, elements (y, x) of dx modulo the stride, that meet them: which they are, and where their
// runs begin in the band of dy.
GC_NOINLINE void gc_depthwise_phases(const gc_conv_shape& s, const gc_depthwise& d, int64_t* offsets, int64_t* order,
                                     int64_t* phases) {
  const gc_depthwise_reach down = gc_reach(s.kernel_height, s.stride_height, s.pad_height, s.dilation_height);
  const gc_depthwise_reach across = gc_reach(s.kernel_width, s.stride_width, s.pad_width, s.dilation_width);
  for (int64_t y = 0; y < s.stride_height; ++y)
    for (int64_t x = 0; x < s.stride_width; ++x)
      for (int64_t i = 0; i < s.kernel_height; ++i)
        for (int64_t j = 0; j < s.kernel_width; ++j) {
          const int64_t from_y = y + s.pad_height - i * s.dilation_height;
          const int64_t from_x = x + s.pad_width - j * s.dilation_width;
          if (from_y % s.stride_height || from_x % s.stride_width) continue;
          *phases++ = y * s.stride_width + x;
          *order++ = i * s.kernel_width + j;
          *offsets++ =
              (from_y / s.stride_height - down.first) * d.pitch + from_x / s.stride_width - across.first;
        }
}

// to[2 i] = even[i], to[2 i + 1] = odd[i]; reads and writes up to a register and two beyond.
template <class T>
GC_INLINE void gc_depthwise_pairs(int64_t count, const T* even, const T* odd, T* to) {
  typedef gc_vector<T> vec;
  typedef gc_vector_unaligned<T> memory;
  constexpr int64_t L = GC_LANES(T);
  for (int64_t i = 0; i < count; i += L) {
    const vec x = *(const memory*)(even + i), y = *(const memory*)(odd + i);
    *(memory*)(to + 2 * i) = gc_interleave<vec, (int)L, false>(x, y);
    *(memory*)(to + 2 * i + L) = gc_interleave<vec, (int)L, true>(x, y);
  }
}

// Rows `line` to `line + lines` of dx divided by the stride, of one plane.
template <class T>
GC_NOINLINE void gc_depthwise_gradient_band(const gc_conv_shape& s, const gc_depthwise& d, const T* dy, const T* w,
                                            int64_t line, int64_t lines, const gc_depthwise_memory<T>& m) {
  const gc_depthwise_reach down = gc_reach(s.kernel_height, s.stride_height, s.pad_height, s.dilation_height);
  const gc_depthwise_reach across = gc_reach(s.kernel_width, s.stride_width, s.pad_width, s.dilation_width);
  gc_depthwise_copy(dy, s.out_height, s.out_width, line + down.first, across.first, (int64_t)1, (int64_t)1,
                    d.lines + d.halo, d.pitch, m.band, d.pitch);
  for (int64_t tap = 0; tap < d.taps; ++tap) m.weights[tap] = w[m.order[tap]];
  int64_t tap = 0;
  for (int64_t phase = 0; phase < s.stride_height * s.stride_width; ++phase) {
    const int64_t first = tap, y = phase / s.stride_width, x = phase % s.stride_width;
    while (tap < d.taps && m.phases[tap] == phase) ++tap;
    T* const result = m.result + (d.results > 1 ? phase * d.result<T>() : 0);
    gc_depthwise_run(d.run(lines), tap - first, (const T*)(m.weights + first), (const int64_t*)(m.offsets + first),
                     (const T*)m.band, result);
    if (d.results > 1) continue;
    const int64_t rows = gc_min_of(lines, gc_ceil_div(s.height - line * s.stride_height - y, s.stride_height));
    const int64_t columns = gc_ceil_div(s.width - x, s.stride_width);
    T* const to = m.whole + y * s.width + x;
    if (s.stride_width == 1) {
      gc_copy_pieces(columns, rows, (const T*)result, (int64_t)1, d.pitch, to, s.stride_height * s.width);
      continue;
    }
    for (int64_t row = 0; row < rows; ++row)
      for (int64_t i = 0; i < columns; ++i)
        to[row * s.stride_height * s.width + i * s.stride_width] = result[row * d.pitch + i];
  }
  if (d.results == 1) return;
  // Rows in order: what is written beyond one is part of the next.
  const int64_t rows = gc_min_of(lines * s.stride_height, s.height - line * s.stride_height);
  for (int64_t row = 0; row < rows; ++row) {
    const T* const even =
        m.result + row % s.stride_height * 2 * d.result<T>() + row / s.stride_height * d.pitch;
    gc_depthwise_pairs(d.width, even, even + d.result<T>(), m.whole + row * s.width);
  }
}

template <class T, class Epilogue>
void gc_depthwise_data_gradient(const gc_conv_shape& s, const T* dy, const T* w, const Epilogue& epilogue) {
  const gc_depthwise d = gc_depthwise_of_gradient(s);
  const int64_t planes = s.batch * s.groups;
  const int64_t threads = gc_min_of(planes * d.bands, gc_threads_for((double)planes * s.pixels() * s.kernel() / 4));
  const gc_scratch_view team = gc_scratch_now;
#pragma omp parallel num_threads((int)threads) if (threads > 1)
  {
    const gc_scratch_scope share(team, omp_get_thread_num());
    const gc_depthwise_memory<T> m(d, d.lines * s.stride_height * s.width, 0);
    gc_depthwise_phases(s, d, m.offsets, m.order, m.phases);
#pragma omp for schedule(static)
    for (int64_t item = 0; item < planes * d.bands; ++item) {
      const int64_t plane = item / d.bands, line = item % d.bands * d.lines, channel = plane % s.groups;
      const int64_t lines = gc_min_of(d.lines, d.height - line), first = line * s.stride_height;
      const int64_t rows = gc_min_of(lines * s.stride_height, s.height - first);
      gc_depthwise_gradient_band(s, d, dy + plane * s.pixels(), w + channel * d.taps, line, lines, m);
      epilogue(plane / s.groups, channel, first * s.width, rows * s.width, (const T*)m.whole);
    }
  }
}

// ---- gradient to the weight ----

// How many channels' sums a thread keeps: planes of several that lie together are read one after another.
template <class T>
GC_INLINE int64_t gc_depthwise_channels(const gc_conv_shape& s) {
  constexpr int64_t room = 2 * GC_DEPTHWISE_ROOM;
  const int64_t most = gc_min_of<int64_t>(32, gc_ceil_div(s.groups, 8));
  const int64_t fitting = gc_min_of(room / gc_max_of<int64_t>(1, s.plane()), room / (s.kernel() * GC_LANES(T)));
  return gc_max_of<int64_t>(1, gc_min_of(most, fitting));
}

// Adds a plane's part to a channel's sums.
template <class T>
GC_NOINLINE void gc_depthwise_plane_dots(const gc_conv_shape& s, const gc_depthwise& d, const T* x, const T* dy,
                                         const gc_depthwise_memory<T>& m, T* sums) {
  for (int64_t line = 0; line < d.height; line += d.lines) {
    gc_depthwise_band(s, d, x, line, m.band);
    gc_depthwise_copy(dy, s.out_height, s.out_width, line, (int64_t)0, (int64_t)1, (int64_t)1, d.lines, d.width,
                      m.result, d.pitch);
    gc_depthwise_dots(d.run(gc_min_of(d.lines, d.height - line)), d.taps, (const int64_t*)m.offsets, (const T*)m.band,
                      (const T*)m.result, sums);
  }
}

template <class T, class Epilogue>
void gc_depthwise_kernel_gradient(const gc_conv_shape& s, const T* x, const T* dy, const Epilogue& epilogue) {
  constexpr int64_t L = GC_LANES(T);
  const gc_depthwise d = gc_depthwise_of_image(s);
  const int64_t channels = gc_depthwise_channels<T>(s), blocks = gc_ceil_div(s.groups, channels);
  const int64_t threads = gc_min_of(blocks, gc_threads_for((double)s.batch * s.groups * s.pixels() * s.kernel() / 4));
  const gc_scratch_view team = gc_scratch_now;
#pragma omp parallel num_threads((int)threads) if (threads > 1)
  {
    const gc_scratch_scope share(team, omp_get_thread_num());
    const gc_depthwise_memory<T> m(d, 0, channels);
    gc_depthwise_offsets(s, d, m.offsets);
#pragma omp for schedule(static)
    for (int64_t block = 0; block < blocks; ++block) {
      const int64_t first = block * channels, last = gc_min_of(s.groups, first + channels);
      __builtin_memset(m.sums, 0, channels * d.taps * L * sizeof(T));
      for (int64_t image = 0; image < s.batch; ++image)
        for (int64_t channel = first; channel < last; ++channel) {
          const int64_t plane = image * s.groups + channel;
          gc_depthwise_plane_dots(s, d, x + plane * s.plane(), dy + plane * s.pixels(), m,
                                  m.sums + (channel - first) * d.taps * L);
        }
      for (int64_t channel = first; channel < last; ++channel) {
        const T* const sums = m.sums + (channel - first) * d.taps * L;
        for (int64_t tap = 0; tap < d.taps; ++tap) {
          T sum = 0;
          for (int64_t i = 0; i < L; ++i) sum += sums[tap * L + i];
          m.weights[tap] = sum;
        }
        epilogue(channel, (int64_t)0, d.taps, (const T*)m.weights);
      }
    }
  }
}

#endif
