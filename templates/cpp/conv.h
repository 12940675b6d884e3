// Convolution of rows, images and volumes, its gradient to the data and its gradient to the weight, as products that
// build their operand from the image on the way (no im2col buffer).
//
// Called by generated code with a shape (image.h) and contiguous tensors
//   x (batch, in_channels, [[depth,] height,] width), w (out_channels, in_channels / groups, [[kernel_depth, ...),
//   y (batch, out_channels, [[out_depth, ...), out = (in + 2 pad - dilation (kernel - 1) - 1) / stride + 1:
//
//   gc_conv_forward<float>(shape, x, w, [&](int64_t image, int64_t channel, int64_t pixel, int64_t count,
//                                           const float* acc) {
//     float* out = y + (image * out_channels + channel) * pixels + pixel;   // pixels = out_height * out_width, ...
//     #pragma omp simd
//     for (int64_t i = 0; i < count; ++i) out[i] = gc_max(acc[i] + bias[channel], 0.0f);
//   });
//   gc_conv_data_gradient<float>(shape, dy, w, dx, epilogue);     // epilogue(image, in channel, pixel, count, acc)
//   gc_conv_weight_gradient<float>(shape, x, dy, epilogue);       // epilogue(out channel, offset, count, acc), where
//                                                                 // dw[out channel * filter + offset + i] = acc[i]
//
// Epilogue   once for each segment of finished sums, from any thread. The data gradient sums in `dx` itself: its acc
//            points into dx, and its epilogue may overwrite those elements or do nothing.
// Order      every sum runs in an order fixed by the shape: results do not depend on the number of threads.
// Threads, workspace: as in gemm.h. Nothing to provide.
#ifndef GC_CONV_H
#define GC_CONV_H

#include "runs.h"

// For the gradient to the data the kernel is turned round, and its channels exchanged: to[i][o][place] from
// [o][i][place].
template <class T>
GC_NOINLINE void gc_turn_weight(int64_t out, int64_t in, int64_t kernel, const T* w, T* to) {
  for (int64_t i = 0; i < in; ++i)
    for (int64_t o = 0; o < out; ++o)
      for (int64_t place = 0; place < kernel; ++place)
        to[(i * out + o) * kernel + place] = w[(o * in + i) * kernel + kernel - 1 - place];
}

template <class T, bool Turned, class Epilogue>
void gc_conv_shifted(const gc_conv_shape& s, const gc_shifts& p, const T* x, const T* w, const Epilogue& epilogue) {
  const int64_t items = s.groups * s.slices() * p.bands;
  const int64_t weights = s.group_out() * s.filter();
  const int64_t threads = gc_min_of(items, gc_threads_for((double)items * weights * p.lines * p.pitch));
  const gc_scratch_view team = gc_scratch_now;
#pragma omp parallel num_threads((int)threads) if (threads > 1)
  {
    const gc_scratch_scope share(team, omp_get_thread_num());
    auto& work = *(gc_workspace<T>*)gc_thread_workspace();
    gc_fill_offsets(s, p, work.offsets);
    int64_t turned = -1;  // the group whose weight lies turned in the workspace
#pragma omp for schedule(static)
    for (int64_t item = 0; item < items; ++item) {
      const int64_t group = item / p.bands / s.slices(), image = item / p.bands % s.slices();
      const int64_t line = item % p.bands * p.lines, lines = gc_min_of(p.lines, s.out_height - line);
      const T* weight = w + group * weights;
      if (Turned) {
        if (turned != group) gc_turn_weight(s.group_in(), s.group_out(), s.kernel_volume(), weight, work.weight);
        turned = group;
        weight = work.weight;
      }
      gc_copy_band(s, p, x + group * s.group_in() * s.volume(), image, line, work.right);
      const int64_t first = image % s.out_depth * s.pixels() + line * s.out_width;
      gc_contract_region<T>(0, s.group_out(), 0, (lines - 1) * p.pitch + s.out_width, s.filter(),
                            gc_matrix<T>{weight, s.filter(), 1}, gc_shifted_image<T>{work.right, work.offsets},
                            [&](int64_t m, int64_t rows, int64_t n, int64_t columns, const T* sums, int64_t sums_row) {
                              for (int64_t i = 0; i < rows; ++i) {
                                if (p.apart) {
                                  epilogue(image / s.out_depth, group * s.group_out() + m + i, first + n, columns,
                                           sums + i * sums_row);
                                  continue;
                                }
                                int64_t y = n / p.pitch, at = n % p.pitch;
                                for (int64_t j = 0; j < columns; j += p.pitch - at, at = 0, ++y) {
                                  const int64_t count = gc_min_of(columns - j, s.out_width - at);
                                  if (count > 0)
                                    epilogue(image / s.out_depth, group * s.group_out() + m + i,
                                             first + y * s.out_width + at, count, sums + i * sums_row + j);
                                }
                              }
                            });
    }
  }
}

// ---- forward ----

// A segment that runs over several images becomes one for each.
template <class T, class Epilogue>
GC_INLINE void gc_for_each_image(int64_t pixels, int64_t n, int64_t count, const T* acc, const Epilogue& epilogue) {
  while (count > 0) {
    const int64_t pixel = n % pixels, piece = gc_min_of(count, pixels - pixel);
    epilogue(n / pixels, pixel, piece, acc);
    n += piece;
    acc += piece;
    count -= piece;
  }
}

// The image packed block by block: images and pixels are one long axis, so that small images share a block.
template <class T, class Epilogue>
void gc_conv_packed(const gc_conv_shape& s, const T* x, const T* w, const Epilogue& epilogue) {
  const int64_t columns = s.slices() * s.pixels();
  gc_contract_many<T>(s.groups, s.group_out(), columns, s.filter(), [&](int64_t group, const auto& run) {
    run(gc_matrix<T>{w + group * s.group_out() * s.filter(), s.filter(), 1},
        gc_image_columns<T>{x + group * s.group_in() * s.volume(), s},
        [&](int64_t m, int64_t rows, int64_t n, int64_t count, const T* sums, int64_t sums_row) {
          for (int64_t i = 0; i < rows; ++i)
            gc_for_each_image(s.out_volume(), n, count, sums + i * sums_row,
                              [&](int64_t image, int64_t pixel, int64_t count, const T* acc) {
                                epilogue(image, group * s.group_out() + m + i, pixel, count, acc);
                              });
        });
  });
}

template <class T, class Epilogue>
GC_INLINE void gc_conv_forward(const gc_conv_shape& shape, const T* x, const T* w, const Epilogue& epilogue) {
  const gc_conv_shape s = shape.flattened();
  const gc_shifts shifts = gc_shifts_of<T>(s);
  if (shifts.worthwhile) gc_conv_shifted<T, false>(s, shifts, x, w, gc_segments_of<T>(epilogue));
  else gc_conv_packed<T>(s, x, w, gc_segments_of<T>(epilogue));
}

// ---- gradient to the weight ----

// One channel of the image to one of the output: a product of numbers has nothing to reuse, so each weight is a dot
// product of two planes.
template <class T, class Epilogue>
void gc_depthwise_weight_gradient(const gc_conv_shape& s, const T* x, const T* dy, const Epilogue& epilogue) {
  const int64_t taps = s.kernel_volume();
  const int64_t threads = gc_min_of(s.groups, gc_threads_for((double)s.slices() * s.groups * taps * s.pixels() / 4));
#pragma omp parallel for schedule(static) num_threads((int)threads) if (threads > 1)
  for (int64_t item = 0; item < s.groups * taps; ++item) {
    const int64_t group = item / taps, place = item % taps;
    const int64_t offset_y = place / s.kernel_width % s.kernel_height * s.dilation_height - s.pad_height;
    const int64_t offset_x = place % s.kernel_width * s.dilation_width - s.pad_width;
    const gc_span down = gc_inside(0, s.out_height, s.height, s.stride_height, 0, offset_y);
    const gc_span across = gc_inside(0, s.out_width, s.width, s.stride_width, 0, offset_x);
    T sum = 0;
    for (int64_t image = 0; image < s.slices(); ++image) {
      const T* plane = s.plane_of(x + group * s.volume(), image, place / s.kernel());
      if (plane == nullptr) continue;
      const T* out = dy + (image / s.out_depth * s.out_channels + group) * s.out_volume();
      out += image % s.out_depth * s.pixels();
      for (int64_t y = down.begin; y < down.end; ++y) {
        const T* GC_RESTRICT a = plane + (y * s.stride_height + offset_y) * s.width + offset_x;
        const T* GC_RESTRICT b = out + y * s.out_width;
        if (s.stride_width == 1) {
#pragma omp simd reduction(+ : sum)
          for (int64_t i = across.begin; i < across.end; ++i) sum += a[i] * b[i];
        } else {
          for (int64_t i = across.begin; i < across.end; ++i) sum += a[i * s.stride_width] * b[i];
        }
      }
    }
    epilogue(group, place, (int64_t)1, (const T*)&sum);
  }
}

// A small weight leaves too few rows to share out: each of a fixed number of chunks of images makes a weight gradient
// of its own, in the calling thread's workspace, and these are added in order. Many groups are chunks enough.
GC_INLINE int64_t gc_weight_chunks(const gc_conv_shape& s) {
  return s.groups >= 16 ? 1 : gc_min_of<int64_t>(s.batch, 8);
}

// A group's weight gradient from images `first` on, to out (group_out, filter): the product.
template <class T>
GC_NOINLINE void gc_weight_gradient_product(const gc_conv_shape& s, int64_t group, int64_t first, int64_t images,
                                            const T* x, const T* dy, T* out) {
  gc_contract_region<T>(
      0, s.filter(), 0, s.group_out(), images * s.out_volume(),
      gc_image_rows<T>{x + (first * s.in_channels + group * s.group_in()) * s.volume(), s},
      gc_pixels_by_channel<T>{dy + (first * s.out_channels + group * s.group_out()) * s.out_volume(), s},
      [&](int64_t m, int64_t rows, int64_t n, int64_t columns, const T* sums, int64_t sums_row) {
        for (int64_t j = 0; j < columns; ++j)
          for (int64_t i = 0; i < rows; ++i) out[(n + j) * s.filter() + m + i] = sums[i * sums_row + j];
      });
}

template <class T, class Epilogue>
void gc_weight_gradient_in_chunks(const gc_conv_shape& s, const T* x, const T* dy, const Epilogue& epilogue) {
  const int64_t chunks = gc_weight_chunks(s), size = s.out_channels * s.filter();
  const int64_t threads = gc_min_of(s.groups * chunks, gc_threads_for((double)size * s.slices() * s.pixels()));
  T* const partial = ((gc_workspace<T>*)gc_thread_workspace())->weight;
  const gc_shifts planes = gc_shifts_laid<T>(s, true);
  const bool dots = gc_weight_dots_cost<T>(s) < gc_weight_product_cost<T>(s);
  const gc_scratch_view team = gc_scratch_now;
#pragma omp parallel for schedule(static) num_threads((int)threads) if (threads > 1)
  for (int64_t item = 0; item < s.groups * chunks; ++item) {
    const gc_scratch_scope share(team, omp_get_thread_num());
    const int64_t group = item / chunks, chunk = item % chunks;
    const int64_t first = s.batch * chunk / chunks, images = s.batch * (chunk + 1) / chunks - first;
    T* const out = partial + chunk * size + group * s.group_out() * s.filter();
    if (dots) gc_weight_gradient_dots(s, planes, group, first, images, x, dy, out);
    else gc_weight_gradient_product(s, group, first, images, x, dy, out);
  }
  for (int64_t chunk = 1; chunk < chunks; ++chunk)
#pragma omp simd
    for (int64_t i = 0; i < size; ++i) partial[i] += partial[chunk * size + i];
  for (int64_t channel = 0; channel < s.out_channels; ++channel)
    epilogue(channel, (int64_t)0, s.filter(), (const T*)partial + channel * s.filter());
}

// dw^T = (image rows) (dy by channel): the long sum runs over images and pixels.
template <class T, class Epilogue>
void gc_weight_gradient_whole(const gc_conv_shape& s, const T* x, const T* dy, const Epilogue& epilogue) {
  const int64_t depth = s.slices() * s.pixels();
  gc_contract_many<T>(s.groups, s.filter(), s.group_out(), depth, [&](int64_t group, const auto& run) {
    run(gc_image_rows<T>{x + group * s.group_in() * s.volume(), s},
        gc_pixels_by_channel<T>{dy + group * s.group_out() * s.out_volume(), s},
        [&](int64_t m, int64_t rows, int64_t n, int64_t columns, const T* sums, int64_t sums_row) {
          T piece[GC_TILE_ROWS];
          for (int64_t j = 0; j < columns; ++j) {
            for (int64_t i = 0; i < rows; ++i) piece[i] = sums[i * sums_row + j];
            epilogue(group * s.group_out() + n + j, m, rows, (const T*)piece);
          }
        });
  });
}

template <class T, class Epilogue>
GC_INLINE void gc_conv_weight_gradient(const gc_conv_shape& shape, const T* x, const T* dy, const Epilogue& epilogue) {
  const gc_conv_shape s = shape.flattened();
  if (s.depthwise()) {
    gc_depthwise_weight_gradient<T>(s, x, dy, gc_weights_of<T>(epilogue));
    return;
  }
  const gc_runs runs = gc_runs_of<T>(s);
  if (runs.fits && runs.to_weight < gc_weight_product_cost<T>(s) && runs.to_weight < gc_weight_dots_cost<T>(s)) {
    gc_weight_gradient_in_runs<T>(s, runs, x, dy, gc_weights_of<T>(epilogue));
    return;
  }
  const int64_t chunks = gc_weight_chunks(s);
  const bool fits = chunks * s.out_channels * s.filter() <= GC_WEIGHT_BYTES / (int64_t)sizeof(T);
  if ((s.batch > 1 || s.groups > 1) && chunks > 0 && fits) {
    gc_weight_gradient_in_chunks<T>(s, x, dy, gc_weights_of<T>(epilogue));
    return;
  }
  gc_weight_gradient_whole<T>(s, x, dy, gc_weights_of<T>(epilogue));
}

// ---- gradient to the data ----

// Adds pixels of one row of w^T dy, row (plane, place in the kernel), to the dx of images where the kernel lay: whole
// output rows together, the ragged ends one by one.
template <class T>
GC_NOINLINE void gc_scatter_row(const gc_conv_shape& s, gc_tap tap, gc_pixel pixel, int64_t count, const T* acc,
                                T* dx) {
  const int64_t offset_y = tap.y * s.dilation_height, offset_x = tap.x * s.dilation_width;
  while (count > 0) {
    const int64_t piece = gc_min_of(count, s.out_width - pixel.x), lines = pixel.lines(s, count);
    if (T* const plane = s.plane_of(dx, pixel.image, tap.channel)) {
      const gc_span down = gc_inside(pixel.y, pixel.y + lines, s.height, s.stride_height, s.pad_height, offset_y);
      const gc_span across = gc_inside(pixel.x, pixel.x + piece, s.width, s.stride_width, s.pad_width, offset_x);
      const T* from = acc + (down.begin - pixel.y) * piece + (across.begin - pixel.x);
      T* to = plane + (down.begin * s.stride_height - s.pad_height + offset_y) * s.width +
              across.begin * s.stride_width - s.pad_width + offset_x;
      gc_add_pieces(across.end - across.begin, down.end - down.begin, from, piece, to, s.stride_width,
                    s.stride_height * s.width);
    }
    acc += lines * piece;
    count -= lines * piece;
    pixel.step(s, lines * piece);
  }
}

// How many images' pixels make one product: small ones alone would leave registers empty and read the weight too often.
GC_INLINE int64_t gc_images_at_once(const gc_conv_shape& s) {
  return s.out_volume() < 256 ? gc_max_of<int64_t>(1, GC_BLOCK_COLUMNS / gc_max_of<int64_t>(1, s.out_volume())) : 1;
}

// dy as the right operand of a product, its images end to end: a convolution with a kernel of one pixel reads it so.
GC_INLINE gc_conv_shape gc_rows_of_images(const gc_conv_shape& s) {
  const int64_t pixels = s.out_volume();
  return {s.batch, s.groups, s.out_channels, s.out_channels, 1, pixels, 1, pixels, 1, 1, 1, 1, 0, 0, 1, 1};
}

template <class T, class Epilogue>
void gc_conv_scattered(const gc_conv_shape& s, const T* dy, const T* w, T* dx, const Epilogue& epilogue) {
  const int64_t at_once = gc_images_at_once(s), blocks = gc_ceil_div(s.batch, at_once), products = blocks * s.groups;
  const int64_t threads = gc_threads_for((double)s.batch * s.groups * s.group_out() * s.filter() * s.out_volume());
  // Few images: their channels are shared out too, evenly. Either way one thread owns the elements it adds to.
  int64_t parts = 1;
  while (products < 8 * threads && products * parts % threads != 0 && parts < gc_min_of(threads, s.group_in())) ++parts;
  const gc_scratch_view team = gc_scratch_now;
#pragma omp parallel for schedule(static) num_threads((int)threads) if (threads > 1)
  for (int64_t item = 0; item < products * parts; ++item) {
    const gc_scratch_scope share(team, omp_get_thread_num());
    const int64_t block = item / parts / s.groups, group = item / parts % s.groups, part = item % parts;
    const int64_t begin = s.batch * block / blocks, images = s.batch * (block + 1) / blocks - begin;
    const int64_t first = s.group_in() * part / parts, last = s.group_in() * (part + 1) / parts;
    T* const sums = dx + (begin * s.in_channels + group * s.group_in()) * s.volume();
    for (int64_t image = 0; image < images; ++image)
      __builtin_memset(sums + (image * s.in_channels + first) * s.volume(), 0, (last - first) * s.volume() * sizeof(T));
    const T* const from = dy + (begin * s.out_channels + group * s.group_out()) * s.out_volume();
    const auto product = [&](const auto& right) {
      gc_contract_region<T>(
          first * s.kernel_volume(), last * s.kernel_volume(), 0, images * s.out_volume(), s.group_out(),
          gc_matrix<T>{w + group * s.group_out() * s.filter(), 1, s.filter()}, right,
          [&](int64_t m, int64_t rows, int64_t n, int64_t columns, const T* acc, int64_t acc_row) {
            gc_tap tap(s, m);
            const gc_pixel pixel(s, n);
            for (int64_t i = 0; i < rows; ++i, tap.step(s))
              gc_scatter_row(s, tap, pixel, columns, acc + i * acc_row, sums);
          });
    };
    if (at_once > 1) product(gc_image_columns<T>{from, gc_rows_of_images(s)});
    else product(gc_matrix<T>{from, s.out_volume(), 1});
    for (int64_t image = 0; image < images; ++image)
      for (int64_t channel = first; channel < last; ++channel)
        epilogue(begin + image, group * s.group_in() + channel, (int64_t)0, s.volume(),
                 (const T*)sums + (image * s.in_channels + channel) * s.volume());
  }
}

// With stride 1 the gradient is itself a convolution, of dy with the turned kernel.
GC_INLINE gc_conv_shape gc_turned(const gc_conv_shape& s) {
  gc_conv_shape t = s;
  t.in_channels = s.out_channels, t.out_channels = s.in_channels;
  t.depth = s.out_depth, t.height = s.out_height, t.width = s.out_width;
  t.out_depth = s.depth, t.out_height = s.height, t.out_width = s.width;
  t.stride_depth = t.stride_height = t.stride_width = 1;
  t.pad_depth = s.dilation_depth * (s.kernel_depth - 1) - s.pad_depth;
  t.pad_height = s.dilation_height * (s.kernel_height - 1) - s.pad_height;
  t.pad_width = s.dilation_width * (s.kernel_width - 1) - s.pad_width;
  return t;
}

template <class T, class Epilogue>
GC_INLINE void gc_conv_data_gradient(const gc_conv_shape& shape, const T* dy, const T* w, T* dx,
                                     const Epilogue& epilogue) {
  const gc_conv_shape s = shape.flattened(), turned = gc_turned(s);
  const gc_shifts shifts = gc_shifts_of<T>(turned);
  const bool fits = s.group_out() * s.filter() <= GC_WEIGHT_BYTES / (int64_t)sizeof(T);
  // A small image grows by padding, and the product with it; adding up costs about 12 rows of the other product.
  const int64_t rows = gc_max_of<int64_t>(4, s.group_in());
  const bool cheaper =
      s.depth * shifts.computed * s.group_out() * rows < s.out_volume() * (s.group_out() + 12) * s.group_in();
  const bool dense = s.stride_depth == 1 && s.stride_height == 1 && s.stride_width == 1;
  const gc_runs runs = gc_runs_of<T>(s);
  const int64_t short_rows = 160 * s.out_depth * s.out_height;  // what it costs to add each by itself
  const int64_t scattered = (s.out_volume() * (s.group_out() + 12) + short_rows) * s.filter();
  const bool shifted = dense && shifts.worthwhile && fits && cheaper;
  if (runs.fits && runs.to_data < (shifted ? shifts.cost * s.group_out() : scattered))
    gc_data_gradient_in_runs<T>(s, runs, dy, w, dx, gc_segments_of<T>(epilogue));
  else if (shifted)
    gc_conv_shifted<T, true>(
        turned, shifts, dy, w,
        gc_segments_of<T>([&](int64_t image, int64_t channel, int64_t pixel, int64_t count, const T* acc) {
          T* GC_RESTRICT sums = dx + (image * s.in_channels + channel) * s.volume() + pixel;
#pragma omp simd
          for (int64_t i = 0; i < count; ++i) sums[i] = acc[i];
          epilogue(image, channel, pixel, count, (const T*)sums);
        }));
  else gc_conv_scattered<T>(s, dy, w, dx, gc_segments_of<T>(epilogue));
}

#endif
