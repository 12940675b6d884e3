// The image as shifts of itself: one copy in which each weight meets a contiguous run, for products and for dot products.
//
// Called by conv.h only.
#ifndef GC_SHIFTS_H
#define GC_SHIFTS_H

#include "image.h"

// A band of the padded image is copied once, rows of `pitch` elements end to end, one plane for each phase of the
// stride. For the weight at one place in the kernel, all outputs of the band then meet one contiguous run of it: the
// operand is the copy itself, its rows found by offsets. Between output rows lie pitch - out_width results that nobody
// reads; where rows are short, each place across the kernel has a plane of its own instead, and nothing lies between.

struct gc_shifts {
  bool worthwhile, apart;   // apart: a plane for each place across the kernel
  int64_t pitch, halo;      // elements of a row; rows that a band needs beyond its own
  int64_t lines, bands;     // output rows of a band, bands of an image
  int64_t across;           // planes for one phase down
  int64_t phases, channel;  // planes of a channel, elements of a channel
  int64_t computed;         // results of an image and a channel, with those that nobody reads
  int64_t cost;             // multiply-adds for a channel of an image
};

#define GC_COPY_COST 12  // of an element that is copied or packed, in multiply-adds

template <class T>
GC_INLINE gc_shifts gc_shifts_laid(const gc_conv_shape& s, bool apart) {
  gc_shifts p = {};
  const int64_t reach = (s.kernel_width - 1) * s.dilation_width / s.stride_width;
  p.apart = apart;
  p.pitch = s.out_width + (apart ? 0 : reach);
  p.across = apart ? s.kernel_width : s.stride_width;
  p.halo = (s.kernel_height - 1) * s.dilation_height / s.stride_height;
  p.phases = s.stride_height * p.across;
  const int64_t row = s.group_planes() * p.phases * p.pitch;
  const int64_t room = GC_WEIGHT_BYTES / (int64_t)sizeof(T);
  const int64_t most = row > 0 ? room / row - p.halo : 0;
  if (most < 1 || s.out_height < 1) return p;
  p.bands = gc_ceil_div(s.out_height, most);
  p.lines = gc_ceil_div(s.out_height, p.bands);
  p.channel = p.phases * (p.lines + p.halo) * p.pitch;
  p.computed = gc_round_up((p.lines - 1) * p.pitch + s.out_width, GC_LANES(T)) * p.bands;
  const int64_t rows = gc_max_of<int64_t>(4, s.group_out());  // fewer do not fill the multipliers
  p.cost = s.kernel() * p.computed * rows + GC_COPY_COST * p.bands * p.channel;
  return p;
}

// Whether to shift and how is decided by the shape alone: a literal shape leaves one of the two ways in the program.
template <class T>
GC_INLINE gc_shifts gc_shifts_of(const gc_conv_shape& s) {
  const gc_shifts together = gc_shifts_laid<T>(s, false), apart = gc_shifts_laid<T>(s, true);
  gc_shifts p = apart.lines > 0 && apart.cost < together.cost ? apart : together;
  if (p.lines < 1 || s.filter() > GC_MOST_OFFSETS) return p;
  // Against the packing of every pixel, in rows of the product; and weights too large for the cache should meet more
  // pixels at once than one small image has.
  const int64_t rows = gc_max_of<int64_t>(4, s.group_out());
  const bool cheaper = p.cost < s.kernel() * s.pixels() * (rows + GC_COPY_COST);
  const bool streams = s.group_out() * s.filter() * (int64_t)sizeof(T) > (1 << 19) && s.pixels() < 192;
  p.worthwhile = s.kernel() > 1 && p.lines >= gc_min_of<int64_t>(4, s.out_height) && cheaper && !streams;
  return p;
}

template <class T>
struct gc_shifted_image {
  const T* data;
  const int32_t* offsets;
  static constexpr bool gathers = true;

  gc_panels<T> panels(int64_t k, int64_t n, int64_t columns) const {
    constexpr int64_t W = GC_TILE_VECTORS * GC_LANES(T);
    return {data + n, W, 0, data + n + (columns - 1) / W * W, 0, offsets + k};
  }
};

GC_NOINLINE void gc_fill_offsets(const gc_conv_shape& s, const gc_shifts& p, int32_t* offsets) {
  for (int64_t channel = 0; channel < s.group_planes(); ++channel)
    for (int64_t i = 0; i < s.kernel_height; ++i)
      for (int64_t j = 0; j < s.kernel_width; ++j) {
        const int64_t y = i * s.dilation_height, x = j * s.dilation_width;
        const int64_t phase = y % s.stride_height * p.across + (p.apart ? j : x % s.stride_width);
        *offsets++ = (int32_t)(channel * p.channel + (phase * (p.lines + p.halo) + y / s.stride_height) * p.pitch +
                               (p.apart ? 0 : x / s.stride_width));
      }
}

// Output rows from `line` on: their part of the padded image, each phase that the kernel touches, or each place across
// it, a plane of its own.
template <class T>
GC_NOINLINE void gc_copy_band(const gc_conv_shape& s, const gc_shifts& p, const T* group, int64_t image, int64_t line,
                              T* to) {
  for (int64_t channel = 0; channel < s.group_planes(); ++channel) {
    const T* plane = s.plane_of(group, image, channel);
    for (int64_t phase = 0; phase < p.phases; ++phase, to += (p.lines + p.halo) * p.pitch)
      gc_copy_lines(s, plane, phase / p.across, phase % p.across * (p.apart ? s.dilation_width : 1), line,
                    p.lines + p.halo, (int64_t)0, p.pitch, to);
  }
}

// ---- dot products ----
//
// The gradient to the weight of few output channels: a product would leave most lanes of its columns empty. Here lanes
// are pixels, each row of the filter a run of the shifted image, and a tile of sums of rows by output channels stays in
// registers over an image.

#if defined(__AVX512F__) || defined(__aarch64__)
#define GC_DOT_ROWS 6  // 24 accumulators of 32 registers
#else
#define GC_DOT_ROWS 2  // 8 of 16
#endif
#define GC_DOT_OUTPUTS 4

// sums[o][r][lanes] += dy[o][i] x[offsets[r] + i] for i < count, which is at least a register; rows of sums lie
// `sums_row` apart.
template <class T, int O, int R>
GC_NOINLINE void gc_dot_tile(int64_t count, const T* x, const int32_t* offsets, const T* dy, int64_t dy_row, T* sums,
                             int64_t sums_row) {
  typedef gc_vector<T> vec;
  typedef gc_vector_unaligned<T> memory;
  constexpr int L = GC_LANES(T);
  const T* rows[R];
  vec sum[O][R];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) rows[r] = x + offsets[r];
#pragma GCC unroll 4
  for (int o = 0; o < O; ++o)
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) sum[o][r] = *(const memory*)(sums + o * sums_row + r * L);
  int64_t i = 0;
  for (; i + L <= count; i += L) {
    vec y[O];
#pragma GCC unroll 4
    for (int o = 0; o < O; ++o) y[o] = *(const memory*)(dy + o * dy_row + i);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      vec in = *(const memory*)(rows[r] + i);
#if defined(__AVX512F__)
      asm("" : "+v"(in));  // or else each multiplication loads it again, across two cache lines
#endif
#pragma GCC unroll 4
      for (int o = 0; o < O; ++o) sum[o][r] += y[o] * in;
    }
  }
  if (i < count) {
    // The last register once more, without what is counted.
    vec lane;
    for (int j = 0; j < L; ++j) lane[j] = (T)j;
    const auto fresh = lane >= (vec{} + (T)(L - (count - i)));
    i = count - L;
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const vec in = fresh ? (vec) * (const memory*)(rows[r] + i) : vec{};
#pragma GCC unroll 4
      for (int o = 0; o < O; ++o) sum[o][r] += (fresh ? (vec) * (const memory*)(dy + o * dy_row + i) : vec{}) * in;
    }
  }
#pragma GCC unroll 4
  for (int o = 0; o < O; ++o)
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) *(memory*)(sums + o * sums_row + r * L) = sum[o][r];
}

// All rows of the filter by O output channels.
template <class T, int O>
GC_INLINE void gc_dot_rows(int64_t count, int64_t rows, const T* x, const int32_t* offsets, const T* dy, int64_t dy_row,
                           T* sums) {
  constexpr int64_t L = GC_LANES(T);
  int64_t r = 0;
  for (; r + GC_DOT_ROWS <= rows; r += GC_DOT_ROWS)
    gc_dot_tile<T, O, GC_DOT_ROWS>(count, x, offsets + r, dy, dy_row, sums + r * L, rows * L);
  for (; r < rows; ++r) gc_dot_tile<T, O, 1>(count, x, offsets + r, dy, dy_row, sums + r * L, rows * L);
}

// Whether dot products cost less than the product, and the image and the sums fit the workspace.
template <class T>
GC_INLINE bool gc_weight_dots_fit(const gc_conv_shape& s, const gc_shifts& p) {
  const int64_t sums = s.group_out() * s.filter() * GC_LANES(T);
  return p.bands == 1 && s.filter() <= GC_MOST_OFFSETS && s.pixels() >= GC_LANES(T) &&
         sums <= GC_SUMS(T);
}

template <class T>
GC_INLINE int64_t gc_weight_product_cost(const gc_conv_shape& s) {
  return s.pixels() * s.filter() * (gc_round_up(s.group_out(), GC_LANES(T)) + GC_COPY_COST);
}

template <class T>
GC_INLINE int64_t gc_weight_dots_cost(const gc_conv_shape& s) {
  const gc_shifts p = gc_shifts_laid<T>(s, true);
  if (!gc_weight_dots_fit<T>(s, p)) return INT64_MAX;
  const int64_t outputs = gc_round_up(s.group_out(), GC_DOT_OUTPUTS);
  return s.filter() * outputs * (s.pixels() + 48) + GC_COPY_COST * s.group_planes() * p.channel;
}

// A group's weight gradient from images `first` on, to out (group_out, filter).
template <class T>
GC_NOINLINE void gc_weight_gradient_dots(const gc_conv_shape& s, const gc_shifts& p, int64_t group, int64_t first,
                                         int64_t images, const T* x, const T* dy, T* out) {
  constexpr int64_t L = GC_LANES(T);
  auto& work = *(gc_workspace<T>*)gc_thread_workspace();
  const int64_t rows = s.filter(), outputs = s.group_out();
  gc_fill_offsets(s, p, work.offsets);
  __builtin_memset(work.sums, 0, outputs * rows * L * sizeof(T));
  for (int64_t image = first * s.out_depth; image < (first + images) * s.out_depth; ++image) {
    gc_copy_band(s, p, x + group * s.group_in() * s.volume(), image, (int64_t)0, work.right);
    const T* from = dy + (image / s.out_depth * s.out_channels + group * outputs) * s.out_volume();
    from += image % s.out_depth * s.pixels();
    int64_t o = 0;
    for (; o + GC_DOT_OUTPUTS <= outputs; o += GC_DOT_OUTPUTS)
      gc_dot_rows<T, GC_DOT_OUTPUTS>(s.pixels(), rows, work.right, work.offsets, from + o * s.out_volume(),
                                     s.out_volume(), work.sums + o * rows * L);
    for (; o < outputs; ++o)
      gc_dot_rows<T, 1>(s.pixels(), rows, work.right, work.offsets, from + o * s.out_volume(), s.out_volume(),
                        work.sums + o * rows * L);
  }
  for (int64_t i = 0; i < outputs * rows; ++i) {
    // Scratch need not begin at a cache line.
    const gc_vector<T> lanes = *(const gc_vector_unaligned<T>*)(work.sums + i * L);
    T sum = 0;
    for (int64_t j = 0; j < L; ++j) sum += lanes[j];
    out[i] = sum;
  }
}

#endif
