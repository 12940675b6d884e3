// The gradient to the weight of a 3x3 convolution with stride 1, by Winograd's F(3x3, 4x4) over the same points and tiles
// as winograd.h:
//
//   dw = A^T [sum over tiles of (B^T x B) * (G dy G^T)] A,   x in 6x6 tiles, dy in the 4x4 tiles between them.
//
// The sums over tiles are 36 products, one for each point: (in channels, tiles) by (tiles, out channels).
//
//   gc_winograd_weight_gradient<float>(shape, plan, x, dy, shared, epilogue);     // epilogue as that of conv.h
//
// Needs, error and order as in winograd.h; `shared`: gc_winograd_gradient_sizes(shape, plan).total elements and a
// cache line more, to begin at one.
#ifndef GC_WINOGRAD_GRADIENT_H
#define GC_WINOGRAD_GRADIENT_H

#include "winograd.h"

// `tiles` are transformed together, `outputs` (whole registers) summed together.
struct gc_winograd_gradient_plan {
  int64_t tiles, outputs;
};

template <class T>
struct gc_winograd_gradient_sizes {
  int64_t image_row, image_point, gradient_row, gradient_point, sums_row, sums_point, total;

  gc_winograd_gradient_sizes(const gc_conv_shape& s, const gc_winograd_gradient_plan& p)
      : image_row(gc_round_up(s.in_channels, GC_LANES(T)) + 16),
        image_point(p.tiles * image_row + 16),
        gradient_row(p.outputs + 16),
        gradient_point(p.tiles * gradient_row + 16),
        sums_row(p.outputs),
        sums_point(s.in_channels * sums_row + 16),
        total(GC_POINTS * (image_point + gradient_point + sums_point)) {}
};

// G: four elements of dy to six points.
template <class T, class V>
GC_INLINE void gc_winograd_gradient(const V (&g)[4], V (&to)[6]) {
  const V near_even = (T)GC_NEAR_NORM * g[0] + (T)(GC_NEAR_NORM * GC_NEAR2) * g[2];
  const V near_odd = (T)(GC_NEAR_NORM * GC_NEAR) * g[1] + (T)(GC_NEAR_NORM * GC_NEAR2 * GC_NEAR) * g[3];
  const V far_even = (T)GC_FAR_NORM * g[0] + (T)(GC_FAR_NORM * GC_FAR2) * g[2];
  const V far_odd = (T)(GC_FAR_NORM * GC_FAR) * g[1] + (T)(GC_FAR_NORM * GC_FAR2 * GC_FAR) * g[3];
  to[0] = (T)(1 / (GC_NEAR2 * GC_FAR2)) * g[0];
  to[1] = near_even + near_odd;
  to[2] = near_even - near_odd;
  to[3] = far_even + far_odd;
  to[4] = far_even - far_odd;
  to[5] = g[3];
}

// A^T: six points to three weights.
template <class T, class V>
GC_INLINE void gc_winograd_weight_result(const V (&m)[6], V (&to)[3]) {
  const V near = m[1] + m[2], far = m[3] + m[4];
  to[0] = m[0] + near + far;
  to[1] = (T)GC_NEAR * (m[1] - m[2]) + (T)GC_FAR * (m[3] - m[4]);
  to[2] = (T)GC_NEAR2 * near + (T)GC_FAR2 * far + m[5];
}

// G dy G^T for the tiles of a staged piece: from[4][4 tiles][lanes].
template <class T>
GC_NOINLINE void gc_winograd_gradient_tiles(int64_t tiles, const T* from, T* to, int64_t tile_step, int64_t point) {
  typedef gc_vector<T> vec;
  constexpr int64_t L = GC_LANES(T);
  const int64_t row = 4 * tiles * L;
  for (int64_t tile = 0; tile < tiles; ++tile, from += 4 * L, to += tile_step) {
    vec half[6][4];
#pragma GCC unroll 4
    for (int x = 0; x < 4; ++x) {
      vec column[4], points[6];
#pragma GCC unroll 4
      for (int y = 0; y < 4; ++y) column[y] = *(const vec*)(from + y * row + x * L);
      gc_winograd_gradient<T>(column, points);
#pragma GCC unroll 6
      for (int y = 0; y < 6; ++y) half[y][x] = points[y];
    }
#pragma GCC unroll 6
    for (int y = 0; y < 6; ++y) {
      vec points[6];
      gc_winograd_gradient<T>(half[y], points);
#pragma GCC unroll 6
      for (int x = 0; x < 6; ++x) *(vec*)(to + (y * 6 + x) * point) = points[x];
    }
  }
}

// Tiles from `tile` on: a register of channels of dy.
template <class T>
GC_NOINLINE void gc_winograd_gradient_lanes(const gc_conv_shape& s, int64_t tile, int64_t tiles, int64_t channel,
                                            const T* dy, T* to, int64_t row, int64_t point, T* stage) {
  for (int64_t t = 0; t < tiles;) {
    const gc_winograd_piece piece(s, tile + t, tiles - t);
    const gc_winograd_window<T> window(dy, s.batch, s.out_channels, piece.image, channel, s.out_height, s.out_width);
    gc_winograd_stage(window, 4 * piece.y, 4 * piece.x, 4, 4 * piece.tiles, stage);
    gc_winograd_gradient_tiles(piece.tiles, stage, to + t * row, row, point);
    t += piece.tiles;
  }
}

// One point's sums over a block of tiles, for in channels `first` to `last`.
template <class T>
GC_NOINLINE void gc_winograd_gradient_product(int64_t tiles, int64_t first, int64_t last, int64_t outputs,
                                              const T* image, int64_t image_row, const T* gradient,
                                              int64_t gradient_row, T* sums, int64_t sums_row, bool accumulate) {
  constexpr int64_t L = GC_LANES(T), W = GC_TILE_VECTORS * L;
  const gc_panels<T> panels = {gradient, W, gradient_row, gradient + (outputs - 1) / W * W, gradient_row, nullptr};
  for (int64_t c = first; c < last; c += GC_TILE_ROWS)
    gc_row_panel<T, false>(gc_min_of<int64_t>(GC_TILE_ROWS, last - c), outputs, tiles, image + c, 1, image_row, panels,
                           sums + c * sums_row, sums_row, accumulate, gc_ahead<T>{});
}

// A^T m A of a register of out channels and `count` <= 16 in channels: to[lane][9 count], rows `row` apart.
template <class T>
GC_NOINLINE void gc_winograd_gradient_result(int64_t count, const T* sums, int64_t sums_row, int64_t sums_point, T* to,
                                             int64_t row) {
  typedef gc_vector<T> vec;
  constexpr int64_t L = GC_LANES(T);
  alignas(64) T taps[16 * 9 * L];
  for (int64_t c = 0; c < count; ++c, sums += sums_row) {
    vec half[3][6];
#pragma GCC unroll 6
    for (int x = 0; x < 6; ++x) {
      vec column[6], weights[3];
#pragma GCC unroll 6
      for (int y = 0; y < 6; ++y) column[y] = *(const vec*)(sums + (y * 6 + x) * sums_point);
      gc_winograd_weight_result<T>(column, weights);
#pragma GCC unroll 3
      for (int y = 0; y < 3; ++y) half[y][x] = weights[y];
    }
#pragma GCC unroll 3
    for (int y = 0; y < 3; ++y) {
      vec weights[3];
      gc_winograd_weight_result<T>(half[y], weights);
#pragma GCC unroll 3
      for (int x = 0; x < 3; ++x) *(vec*)(taps + (c * 9 + y * 3 + x) * L) = weights[x];
    }
  }
  gc_transpose(count * 9, L, taps, L, to, row);
}

// The finished sums of in channels `c` to `last`, and `channels` out channels from `first` on, to the epilogue.
template <class T, class Epilogue>
void gc_winograd_gradient_finish(int64_t c, int64_t last, int64_t first, int64_t channels, const T* sums,
                                 int64_t sums_row, int64_t sums_point, const Epilogue& epilogue) {
  constexpr int64_t L = GC_LANES(T);
  alignas(64) T weights[16 * 9 * L];
  for (; c < last; c += 16, sums += 16 * sums_row) {
    const int64_t count = gc_min_of<int64_t>(16, last - c), row = gc_round_up(count * 9, L);
    for (int64_t lane = 0; lane < channels; lane += L) {
      gc_winograd_gradient_result(count, sums + lane, sums_row, sums_point, weights, row);
      for (int64_t i = 0; i < gc_min_of(L, channels - lane); ++i)
        epilogue(first + lane + i, c * 9, count * 9, (const T*)(weights + i * row));
    }
  }
}

// Outputs from `first` on, as many as the plan sums together: this thread's part, between barriers.
template <class T, class Epilogue>
void gc_winograd_gradient_outputs(const gc_conv_shape& s, const gc_winograd_gradient_plan& p, int64_t first,
                                  const T* x, const T* dy, T* shared, const Epilogue& epilogue) {
  constexpr int64_t L = GC_LANES(T), own_rows = 2 * GC_TILE_ROWS;
  const gc_winograd_gradient_sizes<T> z(s, p);
  T* const image = (T*)gc_round_up((int64_t)shared, 64);
  T* const gradient = image + GC_POINTS * z.image_point;
  T* const sums = gradient + GC_POINTS * z.gradient_point;
  const int64_t tiles = s.batch * gc_ceil_div(s.out_height, 4) * gc_ceil_div(s.out_width, 4);
  const int64_t channels = gc_min_of(p.outputs, s.out_channels - first), width = gc_round_up(channels, L);
  const int64_t inputs = gc_ceil_div(s.in_channels, L), outputs = width / L;
  const int64_t blocks = gc_max_of<int64_t>(1, gc_ceil_div(tiles, p.tiles));  // an empty one has sums of zero
  // One block: its sums are final, and a few rows of them stay in the cache of the thread that makes weights of them.
  const int64_t own_point = own_rows * p.outputs + 16;
  const bool own = blocks == 1 && omp_get_num_threads() * own_point <= z.sums_point;
  const int64_t rows = gc_ceil_div(s.in_channels, 4 * GC_TILE_ROWS);
  for (int64_t block = 0; block < blocks; ++block) {
    const int64_t begin = tiles * block / blocks, count = tiles * (block + 1) / blocks - begin;
    const int64_t known = blocks == 1 && first > 0 ? inputs : 0;  // registers of the image that lie transformed
#pragma omp for schedule(static, 1)
    for (int64_t lane = known; lane < inputs + outputs; ++lane) {
      alignas(64) T stage[((4 * GC_WINOGRAD_PIECE + 2) * 6 + L) * L];
      const bool of_image = lane < inputs;
      const int64_t c = (of_image ? lane : lane - inputs) * L;
      if (of_image) gc_winograd_image_lanes(s, begin, count, c, x, image + c, z.image_row, z.image_point, stage);
      else
        gc_winograd_gradient_lanes(s, begin, count, first + c, dy, gradient + c, z.gradient_row, z.gradient_point,
                                   stage);
    }
    if (own) continue;
#pragma omp for schedule(static)
    for (int64_t item = 0; item < GC_POINTS * rows; ++item) {
      const int64_t point = item / rows, c = item % rows * 4 * GC_TILE_ROWS;
      gc_winograd_gradient_product(count, c, gc_min_of(s.in_channels, c + 4 * GC_TILE_ROWS), width,
                                   (const T*)(image + point * z.image_point), z.image_row,
                                   (const T*)(gradient + point * z.gradient_point), z.gradient_row,
                                   sums + point * z.sums_point, z.sums_row, block > 0);
    }
  }
  T* const mine = sums + omp_get_thread_num() * GC_POINTS * own_point;
  const int64_t step = own ? own_rows : 16;
#pragma omp for schedule(static)
  for (int64_t c = 0; c < s.in_channels; c += step) {
    const int64_t last = gc_min_of(s.in_channels, c + step);
    for (int64_t point = 0; own && point < GC_POINTS; ++point)
      gc_winograd_gradient_product(tiles, (int64_t)0, last - c, width,
                                   (const T*)(image + point * z.image_point + c), z.image_row,
                                   (const T*)(gradient + point * z.gradient_point), z.gradient_row,
                                   mine + point * own_point, z.sums_row, false);
    gc_winograd_gradient_finish(c, last, first, channels, (const T*)(own ? mine : sums + c * z.sums_row), z.sums_row,
                                own ? own_point : z.sums_point, epilogue);
  }
}

template <class T>
void gc_winograd_gradient_threads(const gc_conv_shape& s, const gc_winograd_gradient_plan& p, const T* x, const T* dy,
                                  T* shared, const gc_weights<T>& epilogue) {
  const double work = (double)s.batch * s.pixels() / 16 * GC_POINTS * s.in_channels * s.out_channels;
  const int64_t threads = gc_threads_for(work);
#pragma omp parallel num_threads((int)threads) if (threads > 1)
  for (int64_t first = 0; first < s.out_channels; first += p.outputs)
    gc_winograd_gradient_outputs<T>(s, p, first, x, dy, shared, epilogue);
}

template <class T, class Epilogue>
GC_INLINE void gc_winograd_weight_gradient(const gc_conv_shape& s, const gc_winograd_gradient_plan& p, const T* x,
                                           const T* dy, T* shared, const Epilogue& epilogue) {
  gc_winograd_gradient_threads<T>(s, p, x, dy, shared, gc_weights_of<T>(epilogue));
}

#endif
