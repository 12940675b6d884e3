// Convolution of images whose channels lie together: x (batch, height, width, in_channels), y (batch, out_height,
// out_width, out_channels), one group; w (out_channels, in_channels, kernel_height, kernel_width) is packed first.
//
//   gc_pixels_pack_weight<float>(shape, w, packed);      // filter * gc_round_up(out_channels, lanes) elements
//   gc_pixels_forward<float>(shape, x, packed, [&](int64_t pixel, int64_t channel, int64_t count, const float* acc) {
//     float* out = y + pixel * out_channels + channel;   // pixels of all images are one axis
//     #pragma omp simd
//     for (int64_t i = 0; i < count; ++i) out[i] = gc_max(acc[i] + bias[channel + i], 0.0f);
//   });
//
// Images of few channels (the stem of a network) have a form of their own, whose weight is packed in whole panels:
//
//   gc_pixels_pack_lines<float>(shape, w, packed);   gc_pixels_lines<float>(shape, x, packed, epilogue);
//
// One product: its rows are pixels, its columns out channels, its sums run over places in the kernel and in channels, in
// that order. Rows of the image are read where they lie, or copied by runs of channels, zeros where they are padding.
//
// Epilogue   once for each segment of finished sums, from any thread.
// Order, threads, workspace: as in gemm.h.
#ifndef GC_CHANNELS_LAST_H
#define GC_CHANNELS_LAST_H

#include "image.h"

// Rows k .. k + steps and columns n .. n + count of the weight as right operand: row (place in the kernel, in channel),
// column out channel; one panel, zeros beyond its columns.
template <class T>
GC_NOINLINE void gc_pixels_pack_panel(const gc_conv_shape& s, const T* w, int64_t k, int64_t steps, int64_t n,
                                      int64_t count, T* to) {
  constexpr int64_t L = GC_LANES(T), W = GC_TILE_VECTORS * L;
  const int64_t width = count > L ? W : L;
  if (s.kernel() == 1) {
    gc_pack_panel(w + k + n * s.in_channels, (int64_t)1, s.in_channels, steps, count, width, to);
    return;
  }
  int64_t place = k / s.in_channels, channel = k % s.in_channels;
  for (int64_t i = 0; i < steps; ++i, to += width) {
    const T* from = w + (n * s.in_channels + channel) * s.kernel() + place;
    for (int64_t j = 0; j < count; ++j) to[j] = from[j * s.filter()];
    for (int64_t j = count; j < width; ++j) to[j] = 0;
    if (++channel == s.in_channels) channel = 0, ++place;
  }
}

// Blocks of k as a product reads them (packed.h).
template <class T>
GC_NOINLINE void gc_pixels_pack_weight(const gc_conv_shape& s, const T* w, T* packed) {
  gc_pack_blocks<T>(s.filter(), s.out_channels, packed, [&](int64_t k, int64_t steps, int64_t n, int64_t count, T* to) {
    gc_pixels_pack_panel(s, w, k, steps, n, count, to);
  });
}

template <class T>
GC_INLINE void gc_copy_run(int64_t count, const T* GC_RESTRICT from, T* GC_RESTRICT to) {
  constexpr int64_t L = GC_LANES(T);
  typedef gc_vector_unaligned<T> memory;
  if (count < L) {
    for (int64_t i = 0; i < count; ++i) to[i] = from[i];
    return;
  }
  for (int64_t i = 0; i + L < count; i += L) *(memory*)(to + i) = *(const memory*)(from + i);
  *(memory*)(to + count - L) = *(const memory*)(from + count - L);
}

// Left operand: row (image, pixel), column (place in the kernel, in channel).
template <class T>
struct gc_pixel_rows {
  const T* data;
  gc_conv_shape shape;

  // Places of the kernel whose channels lie end to end: those of one of its rows, unless it is dilated.
  int64_t joined() const { return shape.dilation_width == 1 ? shape.kernel_width : 1; }

  gc_rows<T> rows(int64_t m, int64_t rows, int64_t k, int64_t depth, int64_t reuse, T* scratch) const {
    constexpr int64_t step = GC_DEEPEST(T) + 16;
    gc_pixel pixel(shape, m);
    if (const T* from = in_place(pixel, rows, k, depth, reuse)) return {from, shape.stride_width * shape.in_channels, 1};
    const int64_t run = joined() * shape.in_channels, line = k / run, offset = k % run;
    for (int64_t i = 0; i < rows; ++i, pixel.step(shape, 1)) copy(pixel, line, offset, depth, scratch + i * step);
    return {scratch, step, 1};
  }

  gc_ahead<T> ahead(int64_t, int64_t, int64_t, int64_t) const { return {nullptr, 0, 0, 0}; }

  // Where pixels side by side lie apart evenly and touch no padding; null where they are copied: many columns pay for
  // it, and rows a power of two apart would fight for the same cache lines.
  const T* in_place(const gc_pixel& pixel, int64_t rows, int64_t k, int64_t depth, int64_t reuse) const {
    const int64_t run = joined() * shape.in_channels, line = k / run;
    const bool clash = shape.stride_width * shape.in_channels * (int64_t)sizeof(T) % 2048 == 0;
    if (reuse > 128 || clash || (k + depth - 1) / run != line || pixel.x + rows > shape.out_width) return nullptr;
    const int64_t each = shape.kernel_width / joined();
    const int64_t y = pixel.y * shape.stride_height - shape.pad_height + line / each * shape.dilation_height;
    const int64_t x = pixel.x * shape.stride_width - shape.pad_width + line % each * shape.dilation_width;
    const int64_t first = x + k % run / shape.in_channels;
    const int64_t last = x + (rows - 1) * shape.stride_width + (k % run + depth - 1) / shape.in_channels;
    if (y < 0 || y >= shape.height || first < 0 || last >= shape.width) return nullptr;
    return data + ((pixel.image * shape.height + y) * shape.width + x) * shape.in_channels + k % run;
  }

  // `depth` columns of a pixel's row, from `offset` in run number `line` on.
  void copy(const gc_pixel& pixel, int64_t line, int64_t offset, int64_t depth, T* to) const {
    const int64_t channels = shape.in_channels, places = joined(), run = places * channels;
    const int64_t each = shape.kernel_width / places;
    for (; depth > 0; offset = 0, ++line) {
      const int64_t count = gc_min_of(depth, run - offset);
      const int64_t y = pixel.y * shape.stride_height - shape.pad_height + line / each * shape.dilation_height;
      const int64_t x = pixel.x * shape.stride_width - shape.pad_width + line % each * shape.dilation_width;
      int64_t begin = gc_max_of<int64_t>(0, -x * channels - offset);
      int64_t end = gc_min_of(count, (shape.width - x) * channels - offset);
      if (y < 0 || y >= shape.height || begin >= end) begin = end = count;
      const T* from = data + ((pixel.image * shape.height + y) * shape.width + x) * channels + offset;
      for (int64_t i = 0; i < begin; ++i) to[i] = 0;
      if (begin < end) gc_copy_run(end - begin, from + begin, to + begin);
      for (int64_t i = end; i < count; ++i) to[i] = 0;
      to += count;
      depth -= count;
    }
  }
};

template <class T>
void gc_pixels_product(const gc_conv_shape& s, const T* x, const T* packed, const gc_weights<T>& epilogue) {
  const gc_packed<T> weight = {packed, s.filter(), s.out_channels};
  const int64_t pixels = s.batch * s.pixels();
  const bool plain = s.kernel() == 1 && s.stride_height == 1 && s.stride_width == 1 && !s.pad_height && !s.pad_width;
  if (plain) gc_contract<T>(pixels, s.out_channels, s.filter(), gc_matrix<T>{x, s.in_channels, 1}, weight, epilogue);
  else gc_contract<T>(pixels, s.out_channels, s.filter(), gc_pixel_rows<T>{x, s}, weight, epilogue);
}

template <class T, class Epilogue>
GC_INLINE void gc_pixels_forward(const gc_conv_shape& s, const T* x, const T* packed, const Epilogue& epilogue) {
  gc_pixels_product<T>(s, x, packed, gc_weights_of<T>(epilogue));
}

// ---- few channels: a kernel's row is a short run, and pixels share most of it ----
//
// A band of the padded image is copied once; a tile of pixels side by side then reads each line of it in place.

template <class T>
GC_NOINLINE void gc_pixels_pack_lines(const gc_conv_shape& s, const T* w, T* packed) {
  constexpr int64_t W = GC_TILE_VECTORS * GC_LANES(T);
  for (int64_t n = 0; n < s.out_channels; n += W)
    gc_pixels_pack_panel(s, w, 0, s.filter(), n, gc_min_of(W, s.out_channels - n), packed + n * s.filter());
}

// c[R][V lanes] = sum over lines and the run of each: a[line][R][run] b[line][run][V lanes].
template <class T, int R, int V>
GC_NOINLINE void gc_tile_lines(int64_t lines, int64_t run, const T* GC_RESTRICT a, int64_t a_line, int64_t a_row,
                               const T* GC_RESTRICT b, T* GC_RESTRICT c, int64_t c_row) {
  typedef gc_vector<T> vec;
  typedef gc_vector_unaligned<T> memory;
  constexpr int L = GC_LANES(T);
  vec sum[R][V] = {};
  for (int64_t line = 0; line < lines; ++line, a += a_line - run)
    for (int64_t k = 0; k < run; ++k, ++a, b += V * L) {
      vec right[V];
#pragma GCC unroll 8
      for (int j = 0; j < V; ++j) right[j] = *(const memory*)(b + j * L);
#pragma GCC unroll 16
      for (int i = 0; i < R; ++i) {
        const T left = a[i * a_row];
#pragma GCC unroll 8
        for (int j = 0; j < V; ++j) sum[i][j] += left * right[j];
      }
    }
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i)
#pragma GCC unroll 8
    for (int j = 0; j < V; ++j) *(memory*)(c + i * c_row + j * L) = sum[i][j];
}

// Lines of the padded image from `top` on, each of `pitch` elements from the padding on the left.
template <class T>
GC_NOINLINE void gc_pixels_copy_lines(const gc_conv_shape& s, const T* image, int64_t top, int64_t lines, int64_t pitch,
                                      T* to) {
  const int64_t left = s.pad_width * s.in_channels, wide = s.width * s.in_channels;
  const int64_t begin = gc_min_of(pitch, left), end = gc_max_of(begin, gc_min_of(pitch, left + wide));
  for (int64_t y = top; y < top + lines; ++y, to += pitch) {
    const bool inside = y >= 0 && y < s.height;
    const int64_t first = inside ? begin : pitch, last = inside ? end : pitch;
    for (int64_t i = 0; i < first; ++i) to[i] = 0;
    if (first < last) gc_copy_run(last - first, image + y * wide, to + first);
    for (int64_t i = last; i < pitch; ++i) to[i] = 0;
  }
}

template <class T>
void gc_pixels_lines_of(const gc_conv_shape& s, const T* x, const T* packed, const gc_weights<T>& epilogue) {
  constexpr int64_t L = GC_LANES(T), W = GC_TILE_VECTORS * L;
  const int64_t run = s.kernel_width * s.in_channels, step = s.stride_width * s.in_channels;
  const int64_t pitch = (s.out_width - 1) * step + run, reach = (s.kernel_height - 1) * s.dilation_height + 1;
  const int64_t room = GC_WEIGHT_BYTES / (int64_t)sizeof(T) / 4 / pitch;  // lines of a band
  const int64_t most = gc_max_of<int64_t>(1, (room - reach) / s.stride_height + 1);
  const int64_t bands = gc_ceil_div(s.out_height, most), items = s.batch * bands;
  const int64_t threads = gc_min_of(items, gc_threads_for((double)items * most * s.out_width * s.out_channels * s.filter()));
  const gc_scratch_view team = gc_scratch_now;
#pragma omp parallel for schedule(static) num_threads((int)threads) if (threads > 1)
  for (int64_t item = 0; item < items; ++item) {
    const gc_scratch_scope share(team, omp_get_thread_num());
    auto& work = *(gc_workspace<T>*)gc_thread_workspace();
    const int64_t image = item / bands, band = item % bands;
    const int64_t y_begin = s.out_height * band / bands, y_end = s.out_height * (band + 1) / bands;
    const int64_t lines = (y_end - y_begin - 1) * s.stride_height + reach;
    gc_pixels_copy_lines(s, x + image * s.plane() * s.in_channels, y_begin * s.stride_height - s.pad_height, lines, pitch,
                         work.right);
    for (int64_t y = y_begin; y < y_end; ++y)
      for (int64_t at = 0; at < s.out_width; at += GC_TILE_ROWS)
        for (int64_t n = 0; n < s.out_channels; n += GC_BLOCK_COLUMNS) {
          const int64_t rows = gc_min_of<int64_t>(GC_TILE_ROWS, s.out_width - at);
          const int64_t columns = gc_min_of<int64_t>(GC_BLOCK_COLUMNS, s.out_channels - n);
          const T* from = work.right + (y - y_begin) * s.stride_height * pitch + at * step;
          for (int64_t j = 0; j < columns; j += W) {
            const T* weight = packed + (n + j) * s.filter();
            const int64_t line = s.dilation_height * pitch;
            gc_in_tiles(rows, [&](auto height, int64_t first) {
              constexpr int high = decltype(height)::rows;
              T* const to = work.sums + first * GC_BLOCK_COLUMNS + j;
              if (columns - j > L)
                gc_tile_lines<T, high, 2>(s.kernel_height, run, from + first * step, line, step, weight, to, GC_BLOCK_COLUMNS);
              else
                gc_tile_lines<T, high, 1>(s.kernel_height, run, from + first * step, line, step, weight, to, GC_BLOCK_COLUMNS);
            });
          }
          const int64_t pixel = (image * s.out_height + y) * s.out_width + at;
          for (int64_t i = 0; i < rows; ++i)
            epilogue(pixel + i, n, columns, (const T*)(work.sums + i * GC_BLOCK_COLUMNS));
        }
  }
}

template <class T, class Epilogue>
GC_INLINE void gc_pixels_lines(const gc_conv_shape& s, const T* x, const T* packed, const Epilogue& epilogue) {
  gc_pixels_lines_of<T>(s, x, packed, gc_weights_of<T>(epilogue));
}

#endif
