// Both gradients of a convolution over images whose pixels hold all their channels: what the weights across the kernel
// meet is then one contiguous run.
//
// Called by conv.h only, for images (no volumes). One image of few pixels gives a product little to do in NCHW: its
// rows are shorter than a register, and each is copied or added by itself. Laid out [height][width][channel], the
// weights of one row of the kernel, for all channels, meet kernel_width * channels neighbours, at a distance that only
// the pixel tells. Lanes are such runs, rows the output channels (to the weight) or pixels (to the data).
#ifndef GC_RUNS_H
#define GC_RUNS_H

#include "shifts.h"

struct gc_runs {
  bool fits;
  int64_t taps, run;       // runs of a filter, elements of one
  int64_t height, width;   // of the padded image, as far as outputs reach
  int64_t image, slack;    // elements of such an image, and of what whole registers write beyond its end
  int64_t images;          // that a product takes at once
  int64_t to_weight, to_data;  // multiply-adds of an image and a group, what is copied among them
};

template <class T>
GC_INLINE gc_runs gc_runs_of(const gc_conv_shape& s) {
  constexpr int64_t L = GC_LANES(T), W = GC_TILE_VECTORS * L;
  gc_runs p = {};
  const bool dense = s.dilation_width == 1;
  p.taps = dense ? s.kernel_height : s.kernel();
  p.run = dense ? s.kernel_width * s.group_in() : s.group_in();
  p.height = (s.out_height - 1) * s.stride_height + (s.kernel_height - 1) * s.dilation_height + 1;
  p.width = (s.out_width - 1) * s.stride_width + (s.kernel_width - 1) * s.dilation_width + 1;
  p.image = p.height * p.width * s.group_in();
  p.slack = W + L;
  const int64_t pixels = s.pixels();
  if (pixels < 1 || s.filter() < 1 || s.group_out() < 1 || s.batch < 1) return p;
  p.images = gc_max_of<int64_t>(1, GC_DEEPEST(T) / pixels);
  // An image beside the planes that it is made from or becomes, each in whole registers.
  const int64_t planes = gc_round_up(s.plane(), L) * gc_round_up(s.group_in(), L);
  const int64_t room = GC_RIGHT_BYTES / (int64_t)sizeof(T) - 2 * planes - 4 * p.slack;
  p.images = gc_min_of(p.images, room / gc_max_of<int64_t>(1, p.image));
  const bool plane = s.depth == 1 && s.out_depth == 1 && s.kernel_depth == 1 && s.pad_depth == 0;
  const int64_t weights = gc_round_up(s.filter(), L) * s.group_out();
  p.fits = plane && s.kernel() > 1 && p.images >= 1 && p.images * pixels <= GC_MOST_OFFSETS &&
           weights + p.slack <= GC_WEIGHT_BYTES / (int64_t)sizeof(T) &&
           s.out_channels * s.filter() <= GC_WEIGHT_BYTES / (int64_t)sizeof(T);
  const int64_t rows = gc_max_of<int64_t>(8, s.group_out());  // fewer do not fill the multipliers
  p.to_weight = pixels * (p.taps * gc_round_up(p.run, L) * (rows + 2) + 4 * s.group_out()) + 4 * p.image;
  p.to_data = pixels * (gc_round_up(s.filter(), L) * (s.group_out() + 5) + 770 * p.taps) + 8 * p.image;
  return p;
}

// to[pixel][channel] = from[channel][pixel]. Whole registers are written, up to one beyond the end: blocks of channels
// from the last one on, so that each pixel's first channels come last.
template <class T>
GC_NOINLINE void gc_channels_last(int64_t channels, int64_t pixels, const T* from, T* to) {
  constexpr int64_t L = GC_LANES(T);
  for (int64_t i = (channels - 1) / L * L; i >= 0; i -= L)
    for (int64_t j = 0; j < pixels; j += L) {
      const int64_t high = gc_min_of(L, channels - i), wide = gc_min_of(L, pixels - j);
      const T* corner = from + i * pixels + j;
      if (wide == L) gc_transpose_square(high, corner, pixels, to + j * channels + i, channels);
      else gc_transpose_edge(high, wide, corner, pixels, to + j * channels + i, channels);
    }
}

// to[channel * to_row + pixel] = from[pixel][channel]; reads and writes whole registers, up to one beyond either end.
template <class T>
GC_NOINLINE void gc_channels_first(int64_t channels, int64_t pixels, const T* from, T* to, int64_t to_row) {
  constexpr int64_t L = GC_LANES(T);
  for (int64_t i = 0; i < channels; i += L)
    for (int64_t j = 0; j < pixels; j += L)
      gc_transpose_square(gc_min_of(L, pixels - j), from + j * channels + i, channels, to + i * to_row + j, to_row);
}

// The rows and columns of an image that outputs reach, beside its padding.
struct gc_reach {
  gc_span down, across;  // of the image

  gc_reach(const gc_conv_shape& s, const gc_runs& p)
      : down{gc_max_of<int64_t>(0, -s.pad_height), gc_min_of(s.height, p.height - s.pad_height)},
        across{gc_max_of<int64_t>(0, -s.pad_width), gc_min_of(s.width, p.width - s.pad_width)} {
    if (down.end <= down.begin || across.end <= across.begin) down = across = {0, 0};
  }
  bool whole(const gc_conv_shape& s, const gc_runs& p) const {
    return s.pad_height == 0 && s.pad_width == 0 && p.height == s.height && p.width == s.width;
  }
};

// One image of a group, its planes at `from`, laid out as runs; `planes` is scratch.
template <class T>
GC_NOINLINE void gc_image_as_runs(const gc_conv_shape& s, const gc_runs& p, const T* from, T* to, T* planes) {
  const int64_t channels = s.group_in();
  const gc_reach reach(s, p);
  if (reach.whole(s, p)) return gc_channels_last(channels, s.plane(), from, to);
  gc_channels_last(channels, s.plane(), from, planes);
  __builtin_memset(to, 0, p.image * sizeof(T));
  const int64_t count = (reach.across.end - reach.across.begin) * channels;
  for (int64_t y = reach.down.begin; y < reach.down.end; ++y)
    __builtin_memcpy(to + ((y + s.pad_height) * p.width + reach.across.begin + s.pad_width) * channels,
                     planes + (y * s.width + reach.across.begin) * channels, count * sizeof(T));
}

// And back: the planes of a group's image, each in whole registers, from its runs.
template <class T>
GC_NOINLINE void gc_runs_as_image(const gc_conv_shape& s, const gc_runs& p, const T* from, T* pixels, T* planes) {
  const int64_t channels = s.group_in(), row = gc_round_up(s.plane(), GC_LANES(T));
  const gc_reach reach(s, p);
  if (reach.whole(s, p)) return gc_channels_first(channels, s.plane(), from, planes, row);
  __builtin_memset(pixels, 0, s.plane() * channels * sizeof(T));
  const int64_t count = (reach.across.end - reach.across.begin) * channels;
  for (int64_t y = reach.down.begin; y < reach.down.end; ++y)
    __builtin_memcpy(pixels + (y * s.width + reach.across.begin) * channels,
                     from + ((y + s.pad_height) * p.width + reach.across.begin + s.pad_width) * channels,
                     count * sizeof(T));
  gc_channels_first(channels, s.plane(), (const T*)pixels, planes, row);
}

// Where in the padded image the kernel lies for one output pixel, and where there a run begins.
GC_INLINE int64_t gc_run_at(const gc_conv_shape& s, const gc_runs& p, int64_t y, int64_t x) {
  return (y * s.stride_height * p.width + x * s.stride_width) * s.group_in();
}
GC_INLINE int64_t gc_run_of_tap(const gc_conv_shape& s, const gc_runs& p, int64_t tap) {
  const int64_t across = p.taps == s.kernel_height ? 1 : s.kernel_width;
  return (tap / across * s.dilation_height * p.width + tap % across * s.dilation_width) * s.group_in();
}

// ---- to the weight: out channels by runs, summed over images and pixels ----

// Left operand: row `output channel`, column (image, pixel).
template <class T>
struct gc_channels_of_pixels {
  const T* data;  // of the first image, the group's first channel
  int64_t pixels, step;  // of an image; from image to image

  gc_rows<T> rows(int64_t m, int64_t rows, int64_t k, int64_t depth, int64_t, T* scratch) const {
    constexpr int64_t pitch = GC_DEEPEST(T) + 16;
    for (int64_t at = 0; at < depth;) {
      const int64_t pixel = (k + at) % pixels, count = gc_min_of(depth - at, pixels - pixel);
      const T* from = data + (k + at) / pixels * step + m * pixels + pixel;
      gc_copy_pieces(count, rows, from, (int64_t)1, pixels, scratch + at, pitch);
      at += count;
    }
    return {scratch, pitch, 1};
  }
  gc_ahead<T> ahead(int64_t, int64_t, int64_t, int64_t) const { return {}; }
};

// A group's weight gradient from images `first` on and some of its output channels, as [output][kernel][channel].
template <class T>
GC_NOINLINE void gc_weight_gradient_runs(const gc_conv_shape& s, const gc_runs& p, int64_t group, int64_t first,
                                         int64_t images, gc_span outputs, const T* x, const T* dy, T* out) {
  auto& work = *(gc_workspace<T>*)gc_thread_workspace();
  const int64_t pixels = s.pixels(), step = s.out_channels * pixels;
  T* const planes = work.right + p.images * p.image + p.slack;
  int32_t* offset = work.offsets;
  for (int64_t image = 0; image < p.images; ++image)
    for (int64_t y = 0; y < s.out_height; ++y)
      for (int64_t x = 0; x < s.out_width; ++x) *offset++ = (int32_t)(image * p.image + gc_run_at(s, p, y, x));
  for (int64_t done = 0; done == 0 || done < images; done += p.images) {
    const int64_t count = gc_min_of(p.images, images - done), depth = count * pixels;
    for (int64_t image = 0; image < count; ++image)
      gc_image_as_runs(s, p, x + ((first + done + image) * s.in_channels + group * s.group_in()) * s.plane(),
                       work.right + image * p.image, planes);
    const gc_channels_of_pixels<T> left{dy + (first + done) * step + group * s.group_out() * pixels, pixels, step};
    for (int64_t tap = 0; tap < p.taps; ++tap)
      gc_contract_region<T>(
          outputs.begin, outputs.end, 0, p.run, depth, left,
          gc_shifted_image<T>{work.right + gc_run_of_tap(s, p, tap), work.offsets},
          [&](int64_t m, int64_t rows, int64_t n, int64_t columns, const T* sums, int64_t sums_row) {
            for (int64_t i = 0; i < rows; ++i) {
              T* GC_RESTRICT to = out + (m + i) * s.filter() + tap * p.run + n;
              const T* GC_RESTRICT from = sums + i * sums_row;
              if (done == 0) {
                __builtin_memcpy(to, from, columns * sizeof(T));
              } else {
#pragma omp simd
                for (int64_t j = 0; j < columns; ++j) to[j] += from[j];
              }
            }
          });
  }
}

// How many chunks of images make weight gradients of their own, added in order: by the shape alone.
template <class T>
GC_INLINE int64_t gc_run_chunks(const gc_conv_shape& s) {
  const int64_t most = GC_WEIGHT_BYTES / (int64_t)sizeof(T) / (s.out_channels * s.filter());
  int64_t chunks = s.groups >= 16 ? 1 : 8;
  while (chunks > gc_max_of<int64_t>(1, gc_min_of(most, s.batch))) chunks /= 2;
  return chunks;
}

template <class T, class Epilogue>
void gc_weight_gradient_in_runs(const gc_conv_shape& s, const gc_runs& p, const T* x, const T* dy,
                                const Epilogue& epilogue) {
  const int64_t chunks = gc_run_chunks<T>(s), size = s.out_channels * s.filter(), items = s.groups * chunks;
  const int64_t threads = gc_threads_for((double)size * s.batch * s.pixels());
  // More threads than chunks share the output channels of one, each with a copy of its images.
  const int64_t parts = gc_max_of<int64_t>(
      1, gc_min_of(gc_ceil_div(threads, items), gc_ceil_div(s.group_out(), (int64_t)GC_TILE_ROWS)));
  T* const partial = ((gc_workspace<T>*)gc_thread_workspace())->weight;
  const gc_scratch_view team = gc_scratch_now;
#pragma omp parallel num_threads((int)threads) if (threads > 1)
  {
    const gc_scratch_scope share(team, omp_get_thread_num());
#pragma omp for schedule(static)
    for (int64_t item = 0; item < items * parts; ++item) {
      const int64_t group = item / parts / chunks, chunk = item / parts % chunks, part = item % parts;
      const int64_t first = s.batch * chunk / chunks, images = s.batch * (chunk + 1) / chunks - first;
      const gc_span outputs = {s.group_out() * part / parts, s.group_out() * (part + 1) / parts};
      gc_weight_gradient_runs(s, p, group, first, images, outputs, x, dy,
                              partial + chunk * size + group * s.group_out() * s.filter());
    }
    // Their sums, [kernel][channel] as it came, then [channel][kernel] as the weight lies.
    auto& work = *(gc_workspace<T>*)gc_thread_workspace();
    const int64_t kernel = s.kernel(), channels = s.group_in();
#pragma omp for schedule(static)
    for (int64_t channel = 0; channel < s.out_channels; ++channel) {
      T* GC_RESTRICT sums = work.right;
      T* GC_RESTRICT turned = work.sums;
      __builtin_memcpy(sums, partial + channel * s.filter(), s.filter() * sizeof(T));
      for (int64_t chunk = 1; chunk < chunks; ++chunk) {
        const T* GC_RESTRICT more = partial + chunk * size + channel * s.filter();
#pragma omp simd
        for (int64_t i = 0; i < s.filter(); ++i) sums[i] += more[i];
      }
      for (int64_t place = 0; place < kernel; ++place)
        for (int64_t i = 0; i < channels; ++i) turned[i * kernel + place] = sums[place * channels + i];
      epilogue(channel, (int64_t)0, s.filter(), (const T*)turned);
    }
  }
}

// ---- to the data: pixels by runs, summed over output channels, each added where the kernel lay ----

// Rows `pixel`, columns `output channel` of one image.
template <class T>
struct gc_pixels_of_channels {
  const T* data;
  int64_t pixels;

  gc_rows<T> rows(int64_t m, int64_t rows, int64_t k, int64_t depth, T* scratch) const {
    const T* from = data + k * pixels + m;
    // Channels a power of two apart would fight for the same cache lines.
    if (pixels * (int64_t)sizeof(T) % 1024 != 0) return {from, 1, pixels};
    for (int64_t i = 0; i < depth; ++i) __builtin_memcpy(scratch + i * rows, from + i * pixels, rows * sizeof(T));
    return {scratch, 1, rows};
  }
};

// Adds sums of one pixel, elements n .. n + count of its filters' runs, in whole registers.
template <class T>
GC_INLINE void gc_add_runs(const gc_conv_shape& s, const gc_runs& p, int64_t n, int64_t count, const T* from, T* to) {
  typedef gc_vector<T> vec;
  typedef gc_vector_unaligned<T> memory;
  constexpr int64_t L = GC_LANES(T);
  vec lane;
  for (int64_t j = 0; j < L; ++j) lane[j] = (T)j;
  int64_t tap = n / p.run, within = n % p.run;
  while (count > 0) {
    const int64_t piece = gc_min_of(count, p.run - within);
    T* const run = to + gc_run_of_tap(s, p, tap) + within;
    int64_t i = 0;
    for (; i + L <= piece; i += L) *(memory*)(run + i) += *(const memory*)(from + i);
    if (i < piece) {
      const vec before = *(const memory*)(run + i), more = *(const memory*)(from + i);
      *(memory*)(run + i) = lane < vec{} + (T)(piece - i) ? before + more : before;
    }
    from += piece;
    count -= piece;
    within = 0;
    ++tap;
  }
}

// Adds one image's gradient to its runs; the weight lies packed in the workspace. Few sums at a time, which stay in L1,
// yet all runs of a pixel: its neighbours add to the same elements, and should not have to wait for them.
template <class T>
GC_NOINLINE void gc_add_gradient(const gc_conv_shape& s, const gc_runs& p, gc_pixels_of_channels<T> left,
                                 gc_workspace<T>& work, T* runs) {
  constexpr int64_t most = 512;
  const gc_packed<T> weight{work.weight, s.group_out(), s.filter()};
  const int64_t depth = s.group_out(), block = gc_packed_depth<T>(depth);
  for (int64_t m = 0; m < s.pixels(); m += GC_TILE_ROWS) {
    const int64_t rows = gc_min_of<int64_t>(GC_TILE_ROWS, s.pixels() - m);
    for (int64_t n = 0; n < s.filter(); n += most) {
      const int64_t columns = gc_min_of(most, s.filter() - n), sums_row = gc_round_up(columns, GC_LANES(T)) + 16;
      for (int64_t k = 0; k < depth; k += block) {
        const int64_t steps = gc_min_of(block, depth - k);
        const gc_rows<T> a = left.rows(m, rows, k, steps, work.left);
        gc_row_panel<T, GC_ROWS>(rows, columns, steps, a.data, a.row, a.column, weight.panels(k, steps, n, columns),
                                 work.sums, sums_row, k > 0, gc_ahead<T>{});
      }
      gc_pixel pixel(s, m);
      for (int64_t i = 0; i < rows; ++i, pixel.step(s, 1))
        gc_add_runs(s, p, n, columns, (const T*)work.sums + i * sums_row, runs + gc_run_at(s, p, pixel.y, pixel.x));
    }
  }
}

template <class T, class Epilogue>
void gc_data_gradient_in_runs(const gc_conv_shape& s, const gc_runs& p, const T* dy, const T* w, T* dx,
                              const Epilogue& epilogue) {
  const int64_t items = s.groups * s.batch, weights = s.group_out() * s.filter(), pixels = s.pixels();
  const int64_t threads = gc_min_of(items, gc_threads_for((double)items * weights * pixels));
  const int64_t row = gc_round_up(s.plane(), GC_LANES(T)), channels = s.group_in();
  const gc_scratch_view team = gc_scratch_now;
#pragma omp parallel num_threads((int)threads) if (threads > 1)
  {
    const gc_scratch_scope share(team, omp_get_thread_num());
    auto& work = *(gc_workspace<T>*)gc_thread_workspace();
    T* const runs = work.right;
    T* const planes = runs + p.image + p.slack;
    T* const turned = planes + row * gc_round_up(channels, GC_LANES(T)) + p.slack;
    int64_t packed = -1;  // the group whose weight lies packed in the workspace
#pragma omp for schedule(static)
    for (int64_t item = 0; item < items; ++item) {
      const int64_t group = item / s.batch, image = item % s.batch;
      if (packed != group) {
        for (int64_t o = 0; o < s.group_out(); ++o)
          gc_channels_last(channels, s.kernel(), w + group * weights + o * s.filter(), work.right + o * s.filter());
        gc_pack_right<T>(s.group_out(), s.filter(), work.right, s.filter(), 1, work.weight);
        packed = group;
      }
      __builtin_memset(runs, 0, p.image * sizeof(T));
      gc_add_gradient(s, p, {dy + (image * s.out_channels + group * s.group_out()) * pixels, pixels}, work, runs);
      gc_runs_as_image(s, p, (const T*)runs, turned, planes);
      for (int64_t channel = 0; channel < channels; ++channel) {
        T* const to = dx + (image * s.in_channels + group * channels + channel) * s.plane();
        __builtin_memcpy(to, planes + channel * row, s.plane() * sizeof(T));
        epilogue(image, group * channels + channel, (int64_t)0, s.plane(), (const T*)to);
      }
    }
  }
}

#endif
