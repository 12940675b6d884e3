// Images as operands of a product: the shape of a convolution, pieces of padded rows, and three views that pack.
//
// Called by conv.h only. Nothing here divides by a stride where it can help it, nor copies an element by itself: most
// of the cost of a convolution beyond its multiplications is in these copies.
#ifndef GC_IMAGE_H
#define GC_IMAGE_H

#include "gemm.h"

// One spatial axis: height 1; two: the depths as they are given here.
struct gc_conv_shape {
  int64_t batch, groups, in_channels, out_channels;
  int64_t height, width, out_height, out_width;
  int64_t kernel_height, kernel_width, stride_height, stride_width;
  int64_t pad_height, pad_width, dilation_height, dilation_width;
  int64_t depth = 1, out_depth = 1, kernel_depth = 1, stride_depth = 1, pad_depth = 0, dilation_depth = 1;

  int64_t group_in() const { return in_channels / groups; }
  int64_t group_out() const { return out_channels / groups; }
  int64_t plane() const { return height * width; }
  int64_t pixels() const { return out_height * out_width; }
  int64_t volume() const { return depth * plane(); }
  int64_t out_volume() const { return out_depth * pixels(); }

  // A volume is convolved as images: each output slice is an image of its own, whose channels are the slices of x that
  // the kernel's slices meet, a channel's one after the other as they lie in the weight.
  int64_t slices() const { return batch * out_depth; }
  int64_t group_planes() const { return group_in() * kernel_depth; }
  int64_t kernel() const { return kernel_height * kernel_width; }
  int64_t kernel_volume() const { return kernel_depth * kernel(); }
  int64_t filter() const { return group_planes() * kernel(); }  // elements of one output channel's weight
  bool depthwise() const { return group_in() == 1 && group_out() == 1; }

  // The plane of x that plane `channel` of a group is for the output slice `image`; null beside the volume. `data`
  // begins with the group's first channel.
  template <class T>
  T* plane_of(T* data, int64_t image, int64_t channel) const {
    if (kernel_depth == 1 && out_depth == 1 && depth == 1 && pad_depth == 0)
      return data + (image * in_channels + channel) * plane();
    const int64_t tap = channel % kernel_depth * dilation_depth - pad_depth;
    const int64_t z = image % out_depth * stride_depth + tap;
    if (z < 0 || z >= depth) return nullptr;
    return data + ((image / out_depth * in_channels + channel / kernel_depth) * depth + z) * plane();
  }

  // A kernel of one pixel sees an image as one long row.
  __attribute__((always_inline)) gc_conv_shape flattened() const {
    gc_conv_shape flat = *this;
    const bool dense = stride_depth == 1 && stride_height == 1 && stride_width == 1;
    if (kernel_volume() == 1 && dense && pad_depth == 0 && pad_height == 0 && pad_width == 0) {
      flat.depth = flat.out_depth = flat.height = flat.out_height = 1;
      flat.width = flat.out_width = volume();
    }
    return flat;
  }
};

// One row of the filter: an input plane and a place in the kernel. Steps from row to row without dividing.
struct gc_tap {
  int64_t channel, y, x;

  gc_tap(const gc_conv_shape& s, int64_t row)
      : channel(row / s.kernel()), y(row % s.kernel() / s.kernel_width), x(row % s.kernel_width) {}

  void step(const gc_conv_shape& s) {
    if (++x == s.kernel_width) x = 0, ++y;
    if (y == s.kernel_height) y = 0, ++channel;
  }
};

// One column of the image's matrix: an output pixel of an image, or of a slice.
struct gc_pixel {
  int64_t image, y, x;

  gc_pixel(const gc_conv_shape& s, int64_t index)
      : image(index / s.pixels()), y(index % s.pixels() / s.out_width), x(index % s.pixels() % s.out_width) {}

  // Whole output rows that the next `count` pixels begin with; 1 for a part of one.
  int64_t lines(const gc_conv_shape& s, int64_t count) const {
    return x == 0 && count >= s.out_width ? gc_min_of(count / s.out_width, s.out_height - y) : 1;
  }

  void step(const gc_conv_shape& s, int64_t count) {
    x += count;
    if (x >= s.out_width) y += x / s.out_width, x = 0;
    if (y == s.out_height) y = 0, ++image;
  }
};

// ---- epilogues ----

// An epilogue behind a pointer: one instance of each template serves every convolution of a program, which is most of its
// compile time. A call costs a few nanoseconds and gives a row of an image at least.
template <class T>
struct gc_segments {  // (image, channel, pixel, count, sums)
  const void* epilogue;
  void (*call)(const void*, int64_t, int64_t, int64_t, int64_t, const T*);

  void operator()(int64_t image, int64_t channel, int64_t pixel, int64_t count, const T* acc) const {
    call(epilogue, image, channel, pixel, count, acc);
  }
};

template <class T, class Epilogue>
GC_INLINE gc_segments<T> gc_segments_of(const Epilogue& epilogue) {
  return {&epilogue, [](const void* of, int64_t image, int64_t channel, int64_t pixel, int64_t count, const T* acc) {
            (*(const Epilogue*)of)(image, channel, pixel, count, acc);
          }};
}

template <class T>
struct gc_weights {  // (channel, offset, count, sums)
  const void* epilogue;
  void (*call)(const void*, int64_t, int64_t, int64_t, const T*);

  void operator()(int64_t channel, int64_t offset, int64_t count, const T* acc) const {
    call(epilogue, channel, offset, count, acc);
  }
};

template <class T, class Epilogue>
GC_INLINE gc_weights<T> gc_weights_of(const Epilogue& epilogue) {
  return {&epilogue, [](const void* of, int64_t channel, int64_t offset, int64_t count, const T* acc) {
            (*(const Epilogue*)of)(channel, offset, count, acc);
          }};
}

// ---- operands of another type ----

// to[i] = from[i] in the type of the sums.
template <class T, class S>
void gc_widen(int64_t count, const S* from, T* to) {
  const int64_t block = 1 << 14, blocks = gc_ceil_div(count, block);
  const int64_t threads = gc_min_of(blocks, gc_threads_for((double)count));
#pragma omp parallel for schedule(static) num_threads((int)threads) if (threads > 1)
  for (int64_t b = 0; b < blocks; ++b)
    gc_convert<T>(gc_min_of(block, count - b * block), from + b * block, (int64_t)1, to + b * block);
}

// ---- pieces of image rows ----

struct gc_span {
  int64_t begin, end;
};

// Those outputs of [begin, end) whose input, output * stride - pad + offset, lies in [0, extent).
GC_INLINE gc_span gc_inside(int64_t begin, int64_t end, int64_t extent, int64_t stride, int64_t pad, int64_t offset) {
  const bool dense = stride == 1;  // a division costs more than all the rest
  int64_t first = gc_max_of(begin, dense ? pad - offset : gc_ceil_div(pad - offset, stride));
  int64_t last = gc_min_of(end, dense ? extent + pad - offset : gc_ceil_div(extent + pad - offset, stride));
  return first < last ? gc_span{first, last} : gc_span{end, end};
}

// `repeats` pieces of P <= count <= 2 P elements, each as two that overlap.
template <class T, int P>
GC_INLINE void gc_copy_short(int64_t count, int64_t repeats, const T* from, int64_t from_step, T* to, int64_t to_step) {
  typedef T piece __attribute__((vector_size(P * sizeof(T)), aligned(sizeof(T)), may_alias));
  for (int64_t r = 0; r < repeats; ++r, from += from_step, to += to_step) {
    const piece first = *(const piece*)from, last = *(const piece*)(from + count - P);
    *(piece*)to = first;
    *(piece*)(to + count - P) = last;
  }
}

// to[i] = from[2 i] for P elements, from as many beside each other as are needed and no more.
template <class T, int P>
GC_INLINE void gc_copy_every_second(const T* from, T* to) {
  typedef T piece __attribute__((vector_size(P * sizeof(T)), aligned(sizeof(T)), may_alias));
  const piece x = *(const piece*)from, y = *(const piece*)(from + P - 1);
  if constexpr (P == 16)
    *(piece*)to = __builtin_shufflevector(x, y, 0, 2, 4, 6, 8, 10, 12, 14, 17, 19, 21, 23, 25, 27, 29, 31);
  else if constexpr (P == 8) *(piece*)to = __builtin_shufflevector(x, y, 0, 2, 4, 6, 9, 11, 13, 15);
  else *(piece*)to = __builtin_shufflevector(x, y, 0, 2, 5, 7);
}

// to[i] = from[2 i], pieces of P and a last one that overlaps.
template <class T, int P>
GC_INLINE void gc_copy_halved(int64_t count, const T* from, T* to) {
  for (int64_t i = 0; i + P < count; i += P) gc_copy_every_second<T, P>(from + 2 * i, to + i);
  gc_copy_every_second<T, P>(from + 2 * (count - P), to + count - P);
}

// `repeats` pieces of `count` elements, every `stride`th of the source.
template <class T>
GC_NOINLINE void gc_copy_pieces(int64_t count, int64_t repeats, const T* GC_RESTRICT from, int64_t stride,
                                int64_t from_step, T* GC_RESTRICT to, int64_t to_step) {
  constexpr int L = GC_LANES(T);
  typedef gc_vector_unaligned<T> memory;
  if (count <= 0) return;
  if (stride == 2 && count >= 4) {
    constexpr int P = L < 8 ? 4 : 8;
    for (int64_t r = 0; r < repeats; ++r, from += from_step, to += to_step)
      if (L > 8 && count >= 16) gc_copy_halved<T, 16>(count, from, to);
      else if (count >= P) gc_copy_halved<T, P>(count, from, to);
      else gc_copy_halved<T, 4>(count, from, to);
  } else if (stride != 1 || count == 1) {
    for (int64_t r = 0; r < repeats; ++r)
      for (int64_t i = 0; i < count; ++i) to[r * to_step + i] = from[r * from_step + i * stride];
  } else if (count < L) {
    if (count >= L / 2) gc_copy_short<T, L / 2>(count, repeats, from, from_step, to, to_step);
    else if (count >= 4) gc_copy_short<T, 4>(count, repeats, from, from_step, to, to_step);
    else gc_copy_short<T, 2>(count, repeats, from, from_step, to, to_step);
  } else {
    for (int64_t r = 0; r < repeats; ++r, from += from_step, to += to_step) {
      for (int64_t i = 0; i + L < count; i += L) *(memory*)(to + i) = *(const memory*)(from + i);
      *(memory*)(to + count - L) = *(const memory*)(from + count - L);
    }
  }
}

template <class T>
GC_INLINE void gc_zero_pieces(int64_t count, int64_t repeats, T* to, int64_t to_step) {
  if (count > 0)
    for (int64_t r = 0; r < repeats; ++r)
      for (int64_t i = 0; i < count; ++i) to[r * to_step + i] = 0;
}

// Adds count modulo 2 P elements, as pieces of P, P / 2, ... lanes.
template <class T, int P>
GC_INLINE void gc_add_short(int64_t count, const T* from, T* to) {
  typedef T piece __attribute__((vector_size(P * sizeof(T)), aligned(sizeof(T)), may_alias));
  if (count & P) {
    *(piece*)to += *(const piece*)from;
    from += P;
    to += P;
  }
  if constexpr (P > 1) gc_add_short<T, P / 2>(count, from, to);
}

// Adds `repeats` pieces of `count` elements to every `stride`th of the destination.
template <class T>
GC_NOINLINE void gc_add_pieces(int64_t count, int64_t repeats, const T* GC_RESTRICT from, int64_t from_step,
                               T* GC_RESTRICT to, int64_t stride, int64_t to_step) {
  constexpr int L = GC_LANES(T);
  typedef gc_vector_unaligned<T> memory;
  for (int64_t r = 0; r < repeats; ++r, from += from_step, to += to_step) {
    if (stride == 1) {
      int64_t i = 0;
      for (; i + L <= count; i += L) *(memory*)(to + i) += *(const memory*)(from + i);
      gc_add_short<T, L / 2>(count, from + i, to + i);
    } else {
      for (int64_t i = 0; i < count; ++i) to[i * stride] += from[i];
    }
  }
}

// What a weight at (offset_y, offset_x) of the kernel meets: `lines` output rows from y on, `count` pixels of each from
// x; a plane that is null holds zeros.
template <class T>
GC_NOINLINE void gc_copy_lines(const gc_conv_shape& s, const T* plane, int64_t offset_y, int64_t offset_x, int64_t y,
                               int64_t lines, int64_t x, int64_t count, T* to) {
  if (plane == nullptr) return gc_zero_pieces(lines * count, 1, to, 0);
  const gc_span down = gc_inside(y, y + lines, s.height, s.stride_height, s.pad_height, offset_y);
  const gc_span across = gc_inside(x, x + count, s.width, s.stride_width, s.pad_width, offset_x);
  gc_zero_pieces((down.begin - y) * count, 1, to, 0);
  gc_zero_pieces((y + lines - down.end) * count, 1, to + (down.end - y) * count, 0);
  const int64_t repeats = down.end - down.begin;
  to += (down.begin - y) * count;
  gc_zero_pieces(across.begin - x, repeats, to, count);
  gc_zero_pieces(x + count - across.end, repeats, to + (across.end - x), count);
  const T* from = plane + (down.begin * s.stride_height - s.pad_height + offset_y) * s.width +
                  across.begin * s.stride_width - s.pad_width + offset_x;
  gc_copy_pieces(across.end - across.begin, repeats, from, s.stride_width, s.stride_height * s.width,
                 to + (across.begin - x), count);
}

// ---- the image as an operand ----

// Right operand: row (plane, kernel y, kernel x), column (image, pixel): what that weight meets at that pixel.
template <class T>
struct gc_image_columns {
  const T* data;  // of the group's first channel
  gc_conv_shape shape;
  static constexpr bool gathers = false;
  static constexpr int64_t row_stride = 0;

  bool direct(int64_t, int64_t) const { return false; }
  const T* at(int64_t, int64_t) const { return data; }

  void pack(int64_t k, int64_t depth, int64_t n, int64_t columns, int64_t width, T* out) const {
    if (columns < width) gc_zero_pieces(width - columns, depth, out + columns, width);
    int64_t image = n / shape.pixels(), y = n % shape.pixels() / shape.out_width, x = n % shape.out_width;
    for (int64_t j = 0; j < columns;) {
      const int64_t count = gc_min_of(columns - j, shape.out_width - x);
      pack_run(k, depth, image, y, x, count, width, out + j);
      j += count;
      x = 0;
      if (++y == shape.out_height) y = 0, ++image;
    }
  }

  // `count` pixels of one output row; for each place in the kernel, all its channels at once.
  void pack_run(int64_t k, int64_t depth, int64_t image, int64_t y, int64_t x, int64_t count, int64_t width,
                T* out) const {
    const gc_conv_shape& s = shape;
    const int64_t kernel = s.kernel_volume(), step = kernel * width;
    for (int64_t place = 0; place < kernel; ++place) {
      const int64_t channel = k > place ? gc_ceil_div(k - place, kernel) : 0;
      const int64_t row = channel * kernel + place - k;
      if (row >= depth) continue;
      const int64_t repeats = gc_ceil_div(depth - row, kernel);
      const int64_t offset_y = place / s.kernel_width % s.kernel_height * s.dilation_height;
      const int64_t offset_x = place % s.kernel_width * s.dilation_width;
      const int64_t in_y = y * s.stride_height - s.pad_height + offset_y;
      const T* plane = s.plane_of(data, image, channel * s.kernel_depth + place / s.kernel());
      gc_span in = gc_inside(x, x + count, s.width, s.stride_width, s.pad_width, offset_x);
      if (plane == nullptr || in_y < 0 || in_y >= s.height) in = {x + count, x + count};
      T* to = out + row * width;
      gc_zero_pieces(in.begin - x, repeats, to, step);
      const T* from = plane + in_y * s.width + in.begin * s.stride_width - s.pad_width + offset_x;
      gc_copy_pieces(in.end - in.begin, repeats, from, s.stride_width, s.volume(), to + (in.begin - x), step);
      gc_zero_pieces(x + count - in.end, repeats, to + (in.end - x), step);
    }
  }
};

// Left operand: the same matrix, panels of its rows.
template <class T>
struct gc_image_rows {
  const T* data;
  gc_conv_shape shape;

  gc_rows<T> rows(int64_t m, int64_t rows, int64_t k, int64_t depth, int64_t, T* scratch) const {
    constexpr int64_t step = GC_DEEPEST(T) + 16;
    gc_tap tap(shape, m);
    const gc_pixel pixel(shape, k);
    for (int64_t i = 0; i < rows; ++i, tap.step(shape)) copy_row(tap, pixel, depth, scratch + i * step);
    return {scratch, step, 1};
  }

  gc_ahead<T> ahead(int64_t, int64_t, int64_t, int64_t) const { return {}; }

  // `depth` pixels of one row: whole output rows together, the ragged ends one by one.
  void copy_row(gc_tap tap, gc_pixel pixel, int64_t depth, T* to) const {
    while (depth > 0) {
      const int64_t count = gc_min_of(depth, shape.out_width - pixel.x), lines = pixel.lines(shape, depth);
      gc_copy_lines(shape, shape.plane_of(data, pixel.image, tap.channel), tap.y * shape.dilation_height,
                    tap.x * shape.dilation_width, pixel.y, lines, pixel.x, count, to);
      to += lines * count;
      depth -= lines * count;
      pixel.step(shape, lines * count);
    }
  }
};

// Right operand of the weight gradient: row (image, pixel), column (output channel).
template <class T>
struct gc_pixels_by_channel {
  const T* data;  // of the group's first channel
  gc_conv_shape shape;
  static constexpr bool gathers = false;
  static constexpr int64_t row_stride = 0;

  bool direct(int64_t, int64_t) const { return false; }
  const T* at(int64_t, int64_t) const { return data; }

  void pack(int64_t k, int64_t depth, int64_t n, int64_t columns, int64_t width, T* out) const {
    const int64_t pixels = shape.out_volume();
    while (depth > 0) {
      const int64_t image = k / pixels, pixel = k % pixels, count = gc_min_of(depth, pixels - pixel);
      gc_pack_panel(data + (image * shape.out_channels + n) * pixels + pixel, (int64_t)1, pixels, count, columns, width,
                    out);
      out += count * width;
      k += count;
      depth -= count;
    }
  }
};

#endif
