// Convolution with a 3x3 kernel and stride 1 in a quarter of the multiplications: Winograd's F(4x4, 3x3) as in Lavin and
// Gray, "Fast Algorithms for Convolutional Neural Networks" (2015).
//
//   y = A^T [(G w G^T) * (B^T x B)] A   for each 4x4 tile of outputs, summed over channels before A.
//
// The sums over channels are 36 products, one for each point: (tiles, in channels) by (in channels, out channels). Lanes
// are channels, in x, in w and in y alike, so images of any size waste nothing.
//
// Called by generated code, which has chosen it by cost (graphc/codegen/cpp/winograd.py) and knows its sizes:
//
//   gc_winograd_pack_weight(shape, false, 0, out_channels, w, packed);   // (G w G^T): once, where w is constant
//   gc_winograd<float>(shape, plan, x, packed, epilogue);                // epilogue as that of gc_conv_forward
//   gc_winograd_forward<float>(shape, plan, x, w, packed, epilogue);        // both; `packed` may be smaller, see plan
//   gc_winograd_data_gradient<float>(shape, plan, dy, w, dx, packed, epilogue);   // epilogue as that of conv.h
//
// Needs      kernel 3x3, stride 1, dilation 1, one group; a data gradient also pad <= 2.
// Error      about 10 times that of direct sums: 1e-6 of the largest output in f32. A NaN or an infinity in the image
//            spreads over the tiles that it touches; images or weights beyond 1e35 may overflow where direct sums do not.
// Order      every sum in an order fixed by the shape and the plan, not by the number of threads.
// Scratch    gc_winograd_sizes::bytes() a thread, see scratch.h.
#ifndef GC_WINOGRAD_H
#define GC_WINOGRAD_H

#include "conv.h"

#define GC_POINTS 36
#define GC_WINOGRAD_PIECE 16  // tiles of one output strip that are transformed together

// How the work is cut: `tiles` of a block, `outputs` of it that are summed at once, `packed` outputs' weights at once.
struct gc_winograd_plan {
  int64_t tiles, outputs, packed;
};

// Sizes in elements: rows lie a cache line further apart than they need, so that they do not fight for the same lines.
template <class T>
struct gc_winograd_sizes {
  int64_t inputs, image_row, image_point, sums_row, sums_point, piece;

  gc_winograd_sizes(const gc_conv_shape& s, const gc_winograd_plan& p)
      : inputs(s.in_channels),
        image_row(gc_round_up(s.in_channels, GC_LANES(T)) + 16),
        image_point(p.tiles * image_row + 16),
        sums_row(p.outputs + 16),
        sums_point(p.tiles * sums_row + 16),
        piece((4 * GC_WINOGRAD_PIECE + 2) * 6 * GC_LANES(T) + GC_LANES(T) * GC_LANES(T)) {}

  // With room to begin at a cache line, wherever the scratch begins.
  int64_t bytes() const { return (GC_POINTS * (image_point + sums_point) + 2 * piece) * (int64_t)sizeof(T) + 64; }
};

// ---- one dimension of the transforms ----

// The points 0, NEAR, -NEAR, FAR, -FAR and infinity, whose powers below are exact: a quarter of the error that the usual
// 1 and 2 make. Points of opposite sign share their even and their odd part.
constexpr double GC_NEAR = 0.625, GC_FAR = 1.5, GC_NEAR2 = GC_NEAR * GC_NEAR, GC_FAR2 = GC_FAR * GC_FAR;
constexpr double GC_NEAR_NORM = 1 / (2 * GC_NEAR2 * (GC_NEAR2 - GC_FAR2));
constexpr double GC_FAR_NORM = 1 / (2 * GC_FAR2 * (GC_FAR2 - GC_NEAR2));

// B^T: six inputs to six points.
template <class T, class V>
GC_INLINE void gc_winograd_image(const V (&d)[6], V (&to)[6]) {
  const V near_even = d[4] - (T)GC_FAR2 * d[2], near_odd = d[3] - (T)GC_FAR2 * d[1];
  const V far_even = d[4] - (T)GC_NEAR2 * d[2], far_odd = d[3] - (T)GC_NEAR2 * d[1];
  to[0] = (T)(GC_NEAR2 * GC_FAR2) * d[0] - (T)(GC_NEAR2 + GC_FAR2) * d[2] + d[4];
  to[1] = near_even + (T)GC_NEAR * near_odd;
  to[2] = near_even - (T)GC_NEAR * near_odd;
  to[3] = far_even + (T)GC_FAR * far_odd;
  to[4] = far_even - (T)GC_FAR * far_odd;
  to[5] = (T)(GC_NEAR2 * GC_FAR2) * d[1] - (T)(GC_NEAR2 + GC_FAR2) * d[3] + d[5];
}

// G: three weights to six points.
template <class T, class V>
GC_INLINE void gc_winograd_weight(const V (&g)[3], V (&to)[6]) {
  const V near_even = (T)GC_NEAR_NORM * g[0] + (T)(GC_NEAR_NORM * GC_NEAR2) * g[2];
  const V far_even = (T)GC_FAR_NORM * g[0] + (T)(GC_FAR_NORM * GC_FAR2) * g[2];
  to[0] = (T)(1 / (GC_NEAR2 * GC_FAR2)) * g[0];
  to[1] = near_even + (T)(GC_NEAR_NORM * GC_NEAR) * g[1];
  to[2] = near_even - (T)(GC_NEAR_NORM * GC_NEAR) * g[1];
  to[3] = far_even + (T)(GC_FAR_NORM * GC_FAR) * g[1];
  to[4] = far_even - (T)(GC_FAR_NORM * GC_FAR) * g[1];
  to[5] = g[2];
}

// A^T: six points to four outputs.
template <class T, class V>
GC_INLINE void gc_winograd_result(const V (&m)[6], V (&to)[4]) {
  const V near = m[1] + m[2], far = m[3] + m[4];
  const V near_odd = (T)GC_NEAR * (m[1] - m[2]), far_odd = (T)GC_FAR * (m[3] - m[4]);
  to[0] = m[0] + near + far;
  to[1] = near_odd + far_odd;
  to[2] = (T)GC_NEAR2 * near + (T)GC_FAR2 * far;
  to[3] = (T)GC_NEAR2 * near_odd + (T)GC_FAR2 * far_odd + m[5];
}

// to[column][lane] = from[lane * from_row + column]; may write up to a register beyond, never reads beyond `end`.
template <class T>
GC_INLINE void gc_lanes_from_rows(int64_t rows, int64_t columns, const T* from, int64_t from_row, const T* end, T* to) {
  constexpr int64_t L = GC_LANES(T);
  for (int64_t j = 0; j < columns; j += L) {
    if (rows == L && from + j + (L - 1) * from_row + L <= end)
      gc_transpose_square(L, from + j, from_row, to + j * L, L);
    else gc_transpose_edge(rows, gc_min_of(L, columns - j), from + j, from_row, to + j * L, L);
  }
}

// ---- the weight ----

// packed[point][panel][in channel][panel's width]: panels of up to two registers of out channels, `first` to `last` of
// them; gc_winograd_packed_size elements. Turned: for the gradient to the data, whose out channels are the
// convolution's in channels; `s` is then the turned shape.
GC_INLINE int64_t gc_winograd_packed_size(const gc_conv_shape& s, int64_t outputs, int64_t lanes) {
  return GC_POINTS * s.in_channels * gc_round_up(outputs, lanes);
}

// One register of out channels at `output`, all in channels.
template <class T>
GC_NOINLINE void gc_winograd_pack_lanes(const gc_conv_shape& s, bool turned, int64_t output, int64_t outputs,
                                        const T* w, T* to, int64_t row, int64_t point) {
  typedef gc_vector<T> vec;
  constexpr int64_t L = GC_LANES(T), block = 16;
  alignas(64) T taps[(9 * block + L) * L];
  const T* const end = w + s.in_channels * s.out_channels * 9;
  const int64_t each = turned ? 1 : block;  // in channels whose taps lie side by side
  for (int64_t c = 0; c < s.in_channels; c += each) {
    const int64_t count = gc_min_of(each, s.in_channels - c);
    if (turned) gc_lanes_from_rows(outputs, (int64_t)9, w + (c * s.out_channels + output) * 9, (int64_t)9, end, taps);
    else gc_transpose(outputs, count * 9, w + (output * s.in_channels + c) * 9, s.in_channels * 9, taps, L);
    for (int64_t i = 0; i < count; ++i) {
      const vec* from = (const vec*)(taps + i * 9 * L);
      vec half[6][3];
#pragma GCC unroll 3
      for (int x = 0; x < 3; ++x) {
        vec column[3], points[6];
#pragma GCC unroll 3
        for (int y = 0; y < 3; ++y) column[y] = from[turned ? 8 - (y * 3 + x) : y * 3 + x];
        gc_winograd_weight<T>(column, points);
#pragma GCC unroll 6
        for (int y = 0; y < 6; ++y) half[y][x] = points[y];
      }
#pragma GCC unroll 6
      for (int y = 0; y < 6; ++y) {
        vec points[6];
        gc_winograd_weight<T>(half[y], points);
#pragma GCC unroll 6
        for (int x = 0; x < 6; ++x)
          *(gc_vector_unaligned<T>*)(to + (y * 6 + x) * point + (c + i) * row) = points[x];
      }
    }
  }
}

template <class T>
GC_NOINLINE void gc_winograd_pack_weight(const gc_conv_shape& s, bool turned, int64_t first, int64_t last, const T* w,
                                         T* packed) {
  constexpr int64_t L = GC_LANES(T), W = GC_TILE_VECTORS * L;
  const int64_t width = gc_round_up(last - first, L), point = s.in_channels * width;
  const int64_t threads = gc_min_of(width / L, gc_threads_for(4.0 * (double)point * GC_POINTS));
#pragma omp parallel for schedule(static) num_threads((int)threads) if (threads > 1)
  for (int64_t lane = 0; lane < width; lane += L) {
    const int64_t panel = lane / W * W, row = gc_min_of(W, width - panel);
    gc_winograd_pack_lanes(s, turned, first + lane, gc_min_of(L, last - first - lane), w,
                           packed + panel * s.in_channels + (lane - panel), row, point);
  }
}

// ---- pieces: tiles side by side in one strip of an image ----

struct gc_winograd_piece {
  int64_t image, y, x, tiles;  // x and y count tiles

  gc_winograd_piece(const gc_conv_shape& s, int64_t tile, int64_t most) {
    const int64_t across = gc_ceil_div(s.out_width, 4), down = gc_ceil_div(s.out_height, 4);
    image = tile / (across * down);
    y = tile / across % down;
    x = tile % across;
    tiles = gc_min_of(gc_min_of<int64_t>(most, GC_WINOGRAD_PIECE), across - x);
  }
};

// Planes of one image as lanes: to[rows][columns][lanes] from (top, left) on, zero beside the plane.
template <class T>
struct gc_winograd_window {
  const T* planes;  // `channels` of them, those of the first lanes
  const T* end;     // of the tensor
  int64_t channels, height, width;

  gc_winograd_window(const T* data, int64_t batch, int64_t all, int64_t image, int64_t channel, int64_t h, int64_t w)
      : planes(data + (image * all + channel) * h * w),
        end(data + batch * all * h * w),
        channels(gc_min_of(GC_LANES(T), all - channel)),
        height(h),
        width(w) {}
};

template <class T>
GC_NOINLINE void gc_winograd_stage(const gc_winograd_window<T>& s, int64_t top, int64_t left, int64_t rows,
                                   int64_t columns, T* to) {
  constexpr int64_t L = GC_LANES(T);
  const int64_t begin = gc_min_of(columns, gc_max_of<int64_t>(0, -left));
  const int64_t stop = gc_max_of(begin, gc_min_of(columns, s.width - left));
  for (int64_t y = top; y < top + rows; ++y, to += columns * L) {
    const bool inside = y >= 0 && y < s.height;
    const int64_t first = inside ? begin : columns, last = inside ? stop : columns;
    for (int64_t j = 0; j < first * L; ++j) to[j] = 0;
    if (first < last)
      gc_lanes_from_rows(s.channels, last - first, s.planes + y * s.width + left + first, s.height * s.width, s.end,
                         to + first * L);
    for (int64_t j = last * L; j < columns * L; ++j) to[j] = 0;
  }
}

// B^T x B for the tiles of a staged piece.
template <class T>
GC_NOINLINE void gc_winograd_image_tiles(int64_t tiles, const T* from, T* to, int64_t tile_step, int64_t point) {
  typedef gc_vector<T> vec;
  constexpr int64_t L = GC_LANES(T);
  const int64_t row = (4 * tiles + 2) * L;
  for (int64_t tile = 0; tile < tiles; ++tile, from += 4 * L, to += tile_step) {
    vec half[6][6];
#pragma GCC unroll 6
    for (int x = 0; x < 6; ++x) {
      vec column[6], points[6];
#pragma GCC unroll 6
      for (int y = 0; y < 6; ++y) column[y] = *(const vec*)(from + y * row + x * L);
      gc_winograd_image<T>(column, points);
#pragma GCC unroll 6
      for (int y = 0; y < 6; ++y) half[y][x] = points[y];
    }
#pragma GCC unroll 6
    for (int y = 0; y < 6; ++y) {
      vec points[6];
      gc_winograd_image<T>(half[y], points);
#pragma GCC unroll 6
      for (int x = 0; x < 6; ++x) *(vec*)(to + (y * 6 + x) * point) = points[x];
    }
  }
}

// A^T m A for the tiles of a piece: to[pixel][lanes], `rows` rows of `columns` pixels.
template <class T>
GC_NOINLINE void gc_winograd_result_tiles(int64_t tiles, int64_t rows, int64_t columns, const T* from,
                                          int64_t tile_step, int64_t point, T* to) {
  typedef gc_vector<T> vec;
  constexpr int64_t L = GC_LANES(T);
  for (int64_t tile = 0; tile < tiles; ++tile, from += tile_step) {
    vec half[4][6];
#pragma GCC unroll 6
    for (int x = 0; x < 6; ++x) {
      vec column[6], outputs[4];
#pragma GCC unroll 6
      for (int y = 0; y < 6; ++y) column[y] = *(const vec*)(from + (y * 6 + x) * point);
      gc_winograd_result<T>(column, outputs);
#pragma GCC unroll 4
      for (int y = 0; y < 4; ++y) half[y][x] = outputs[y];
    }
    const int64_t wide = gc_min_of<int64_t>(4, columns - 4 * tile);
#pragma GCC unroll 4
    for (int y = 0; y < 4; ++y) {
      if (y >= rows) break;
      vec outputs[4];
      gc_winograd_result<T>(half[y], outputs);
      T* row = to + (y * columns + 4 * tile) * L;
#pragma GCC unroll 4
      for (int x = 0; x < 4; ++x)
        if (x < wide) *(vec*)(row + x * L) = outputs[x];
    }
  }
}

// ---- a block: tiles from `tile` on, outputs `first` to `last` of the packed ones, which begin with `base` ----

template <class T>
GC_NOINLINE void gc_winograd_image_block(const gc_conv_shape& s, const gc_winograd_sizes<T>& z, int64_t tile,
                                         int64_t tiles, const T* x, T* image, T* stage) {
  for (int64_t t = 0; t < tiles;) {
    const gc_winograd_piece piece(s, tile + t, tiles - t);
    for (int64_t c = 0; c < s.in_channels; c += GC_LANES(T)) {
      const gc_winograd_window<T> window(x, s.batch, s.in_channels, piece.image, c, s.height, s.width);
      gc_winograd_stage(window, 4 * piece.y - s.pad_height, 4 * piece.x - s.pad_width, 6, 4 * piece.tiles + 2, stage);
      gc_winograd_image_tiles(piece.tiles, stage, image + t * z.image_row + c, z.image_row, z.image_point);
    }
    t += piece.tiles;
  }
}

// All points' sums over the in channels, for outputs from `first` on.
template <class T>
GC_NOINLINE void gc_winograd_products(const gc_winograd_sizes<T>& z, int64_t tiles, int64_t first, int64_t outputs,
                                      int64_t packed_outputs, const T* image, const T* packed, T* sums) {
  constexpr int64_t L = GC_LANES(T), W = GC_TILE_VECTORS * L;
  const int64_t depth = gc_max_of<int64_t>(1, gc_ceil_div(z.inputs, gc_ceil_div(z.inputs, GC_BLOCK_DEPTH(T))));
  const int64_t last = (outputs - 1) / W * W, width = outputs - last > L ? W : L;
  for (int64_t point = 0; point < GC_POINTS; ++point)
    for (int64_t k = 0; k < z.inputs; k += depth) {
      const int64_t steps = gc_min_of(depth, z.inputs - k);
      const T* weight = packed + (point * packed_outputs + first) * z.inputs;
      const gc_panels<T> panels = {weight + k * W, W * z.inputs, W, weight + last * z.inputs + k * width, width, nullptr};
      for (int64_t t = 0; t < tiles;) {
        const int64_t left = tiles - t, rows = left == GC_TILE_ROWS + 2 ? left / 2 : gc_min_of<int64_t>(left, GC_TILE_ROWS);
        gc_row_panel<T, false>(rows, outputs, steps, image + point * z.image_point + t * z.image_row + k, z.image_row, 1,
                               panels, sums + point * z.sums_point + t * z.sums_row, z.sums_row, k > 0, gc_ahead<T>{});
        t += rows;
      }
    }
}

// Finished outputs of a piece and a register of channels: channel i at to + i * row, pixels of `rows` output rows.
template <class T>
GC_NOINLINE int64_t gc_winograd_finish(int64_t tiles, int64_t rows, int64_t columns, const T* sums, int64_t sums_row,
                                       int64_t sums_point, T* pixels, T* to) {
  constexpr int64_t L = GC_LANES(T);
  gc_winograd_result_tiles(tiles, rows, columns, sums, sums_row, sums_point, pixels);
  const int64_t row = gc_round_up(rows * columns, L);
  gc_transpose(rows * columns, L, pixels, L, to, row);
  return row;
}

template <class T, class Epilogue>
void gc_winograd_block(const gc_conv_shape& s, const gc_winograd_plan& p, int64_t tile, int64_t tiles, int64_t base,
                       int64_t first, int64_t last, int64_t packed_outputs, const T* x, const T* packed,
                       const Epilogue& epilogue) {
  constexpr int64_t L = GC_LANES(T);
  const gc_winograd_sizes<T> z(s, p);
  T* const image = (T*)gc_round_up((int64_t)gc_scratch(z.bytes()), 64);
  T* const sums = image + GC_POINTS * z.image_point;
  T* const stage = sums + GC_POINTS * z.sums_point;
  gc_winograd_image_block(s, z, tile, tiles, x, image, stage);
  for (int64_t output = first; output < last; output += p.outputs) {
    const int64_t outputs = gc_round_up(gc_min_of(p.outputs, last - output), L);
    gc_winograd_products(z, tiles, output, outputs, gc_round_up(packed_outputs, L), image, packed, sums);
    for (int64_t t = 0; t < tiles;) {
      const gc_winograd_piece piece(s, tile + t, tiles - t);
      const int64_t y = 4 * piece.y, left = 4 * piece.x;
      const int64_t rows = gc_min_of<int64_t>(4, s.out_height - y);
      const int64_t columns = gc_min_of(4 * piece.tiles, s.out_width - left);
      // Whole rows lie end to end; parts of rows are segments of their own.
      const int64_t segments = columns == s.out_width ? 1 : rows, count = rows * columns / segments;
      for (int64_t o = 0; o < outputs; o += L) {
        const int64_t row = gc_winograd_finish(piece.tiles, rows, columns, sums + t * z.sums_row + o, z.sums_row,
                                               z.sums_point, stage, stage + z.piece);
        const int64_t channels = gc_min_of(L, last - output - o);
        for (int64_t i = 0; i < channels; ++i)
          for (int64_t segment = 0; segment < segments; ++segment)
            epilogue(piece.image, base + output + o + i, (y + segment) * s.out_width + left, count,
                     (const T*)(stage + z.piece + i * row + segment * count));
      }
      t += piece.tiles;
    }
  }
}

// ---- threads ----

// Outputs `first` to `last`, whose weights are packed: blocks of tiles are shared out, and few of them also by outputs.
template <class T, class Epilogue>
void gc_winograd_outputs(const gc_conv_shape& s, const gc_winograd_plan& p, int64_t first, int64_t last, const T* x,
                         const T* packed, const Epilogue& epilogue) {
  constexpr int64_t W = GC_TILE_VECTORS * GC_LANES(T);
  const int64_t tiles = s.batch * gc_ceil_div(s.out_height, 4) * gc_ceil_div(s.out_width, 4);
  const int64_t panels = gc_ceil_div(last - first, W);
  int64_t threads = gc_threads_for((double)tiles * GC_POINTS * s.in_channels * (last - first));
  int64_t blocks = gc_ceil_div(tiles, p.tiles), parts = 1;
  if (blocks < threads) parts = gc_min_of(panels, gc_ceil_div(threads, gc_max_of<int64_t>(1, blocks)));
  else blocks = gc_min_of(tiles, gc_round_up(blocks, threads));
  threads = gc_min_of(threads, blocks * parts);
  const gc_scratch_view team = gc_scratch_now;
#pragma omp parallel for schedule(static) num_threads((int)threads) if (threads > 1)
  for (int64_t item = 0; item < blocks * parts; ++item) {
    const gc_scratch_scope share(team, omp_get_thread_num());
    const int64_t block = item / parts, part = item % parts, begin = tiles * block / blocks;
    gc_winograd_block<T>(s, p, begin, tiles * (block + 1) / blocks - begin, first, panels * part / parts * W,
                         gc_min_of(last - first, panels * (part + 1) / parts * W), last - first, x, packed, epilogue);
  }
}

template <class T, class Epilogue>
GC_INLINE void gc_winograd(const gc_conv_shape& s, const gc_winograd_plan& p, const T* x, const T* packed,
                           const Epilogue& epilogue) {
  gc_winograd_outputs<T>(s, p, 0, s.out_channels, x, packed, gc_segments_of<T>(epilogue));
}

// The weight is packed `plan.packed` outputs at a time, so that what was packed is still in the cache when it is used.
template <class T, class Epilogue>
void gc_winograd_packing(const gc_conv_shape& s, const gc_winograd_plan& p, bool turned, const T* x, const T* w,
                         T* packed, const Epilogue& epilogue) {
  for (int64_t first = 0; first < s.out_channels; first += p.packed) {
    const int64_t last = gc_min_of(s.out_channels, first + p.packed);
    gc_winograd_pack_weight(s, turned, first, last, w, packed);
    gc_winograd_outputs<T>(s, p, first, last, x, (const T*)packed, epilogue);
  }
}

template <class T, class Epilogue>
GC_INLINE void gc_winograd_forward(const gc_conv_shape& s, const gc_winograd_plan& p, const T* x, const T* w, T* packed,
                                   const Epilogue& epilogue) {
  gc_winograd_packing<T>(s, p, false, x, w, packed, gc_segments_of<T>(epilogue));
}

template <class T, class Epilogue>
GC_INLINE void gc_winograd_data_gradient(const gc_conv_shape& s, const gc_winograd_plan& p, const T* dy, const T* w,
                                         T* dx, T* packed, const Epilogue& epilogue) {
  gc_winograd_packing<T>(
      gc_turned(s), p, true, dy, w, packed,
      gc_segments_of<T>([&](int64_t image, int64_t channel, int64_t pixel, int64_t count, const T* acc) {
        T* GC_RESTRICT sums = dx + (image * s.in_channels + channel) * s.plane() + pixel;
#pragma omp simd
        for (int64_t i = 0; i < count; ++i) sums[i] = acc[i];
        epilogue(image, channel, pixel, count, (const T*)sums);
      }));
}

#endif
