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
//   gc_winograd_pack_weight(shape, false, 0, out_channels, w, packed);   // winograd_weight.h: once, where w is constant
//   gc_winograd<float>(shape, plan, x, packed, epilogue);                // epilogue as that of gc_conv_forward
//   gc_winograd_forward<float>(shape, plan, x, w, packed, epilogue);     // both; `packed` may be smaller or null, see plan
//   gc_winograd_data_gradient<float>(shape, plan, dy, w, packed, epilogue);   // epilogue as that of conv.h, acc elsewhere
//
// Needs      kernel 3x3, stride 1, dilation 1, one group; a data gradient also pad <= 2.
// Error      about 10 times that of direct sums: 1e-6 of the largest output in f32. A NaN or an infinity in the image
//            spreads over the tiles that it touches; images or weights beyond 1e35 may overflow where direct sums do not.
// Order      every sum in an order fixed by the shape and the plan, not by the number of threads.
// Scratch    gc_winograd_sizes::bytes() a thread, see scratch.h.
#ifndef GC_WINOGRAD_H
#define GC_WINOGRAD_H

#include "winograd_weight.h"

#define GC_WINOGRAD_PIECE 16  // tiles of one output strip that are transformed together

// How the work is cut: `tiles` of a block, `outputs` of it that are summed at once, `packed` outputs' weights at once.
// Where blocks are few, what is packed would be read hardly more often than it is written: with `inputs` > 0 the weights
// of so many in channels and `outputs` are transformed on the way, in a thread's scratch, and nothing is packed.
struct gc_winograd_plan {
  int64_t tiles, outputs, packed, inputs = 0;
};

// Sizes in elements: rows lie a cache line further apart than they need, so that they do not fight for the same lines.
template <class T>
struct gc_winograd_sizes {
  int64_t inputs, image_row, image_point, sums_row, sums_point, weight_point, piece;

  gc_winograd_sizes(const gc_conv_shape& s, const gc_winograd_plan& p)
      : inputs(s.in_channels),
        image_row(gc_round_up(s.in_channels, GC_LANES(T)) + 16),
        image_point(p.tiles * image_row + 16),
        sums_row(p.outputs + 16),
        sums_point(p.tiles * sums_row + 16),
        weight_point(p.inputs > 0 ? p.inputs * p.outputs + 16 : 0),
        piece((4 * GC_WINOGRAD_PIECE + 2) * 6 * GC_LANES(T) + GC_LANES(T) * GC_LANES(T)) {}

  // With room to begin at a cache line, wherever the scratch begins.
  int64_t bytes() const {
    return (GC_POINTS * (image_point + sums_point + weight_point) + 2 * piece) * (int64_t)sizeof(T) + 64;
  }
};

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
  // Whole short rows lie end to end: transposed together they leave few lanes empty.
  alignas(64) T together[(6 * L / 2 + L) * L];
  const bool end_to_end = stop - begin == s.width && s.width <= L / 2;
  const int64_t top_inside = gc_max_of<int64_t>(0, top), inside_rows = gc_min_of(s.height, top + rows) - top_inside;
  if (end_to_end && inside_rows > 0)
    gc_lanes_from_rows(s.channels, inside_rows * s.width, s.planes + top_inside * s.width, s.height * s.width, s.end,
                       together);
  for (int64_t y = top; y < top + rows; ++y, to += columns * L) {
    const bool inside = y >= 0 && y < s.height;
    const int64_t first = inside ? begin : columns, last = inside ? stop : columns;
    for (int64_t j = 0; j < first * L; ++j) to[j] = 0;
    if (first < last && end_to_end)
      __builtin_memcpy(to + first * L, together + (y - top_inside) * s.width * L, s.width * L * sizeof(T));
    else if (first < last)
      gc_lanes_from_rows(s.channels, last - first, s.planes + y * s.width + left + first, s.height * s.width, s.end,
                         to + first * L);
    for (int64_t j = last * L; j < columns * L; ++j) to[j] = 0;
  }
}

// The 6 rows that the tiles of a piece need; those that it shares with the piece above are still there.
template <class T>
GC_INLINE void gc_winograd_stage_piece(const gc_conv_shape& s, const gc_winograd_window<T>& window,
                                       const gc_winograd_piece& piece, const gc_winograd_piece* before, T* stage) {
  constexpr int64_t L = GC_LANES(T);
  const int64_t columns = 4 * piece.tiles + 2, top = 4 * piece.y - s.pad_height, left = 4 * piece.x - s.pad_width;
  const bool below = before != nullptr && before->image == piece.image && before->y + 1 == piece.y &&
                     before->x == piece.x && before->tiles == piece.tiles;
  if (below) __builtin_memcpy(stage, stage + 4 * columns * L, 2 * columns * L * sizeof(T));
  const int64_t known = below ? 2 : 0;
  gc_winograd_stage(window, top + known, left, 6 - known, columns, stage + known * columns * L);
}

// B^T x B for one tile and one register of lanes; rows and columns of the image lie `row` and `column` apart.
template <class T>
GC_INLINE void gc_winograd_image_tile(const T* from, int64_t row, int64_t column, T* to, int64_t point) {
  typedef gc_vector<T> vec;
  typedef gc_vector_unaligned<T> memory;
  vec half[6][6];
#pragma GCC unroll 6
  for (int x = 0; x < 6; ++x) {
    vec line[6], points[6];
#pragma GCC unroll 6
    for (int y = 0; y < 6; ++y) line[y] = *(const memory*)(from + y * row + x * column);
    gc_winograd_image<T>(line, points);
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

// B^T x B for the tiles of a staged piece.
template <class T>
GC_NOINLINE void gc_winograd_image_tiles(int64_t tiles, const T* from, T* to, int64_t tile_step, int64_t point) {
  constexpr int64_t L = GC_LANES(T);
  const int64_t row = (4 * tiles + 2) * L;
  for (int64_t tile = 0; tile < tiles; ++tile, from += 4 * L, to += tile_step)
    gc_winograd_image_tile<T>(from, row, L, to, point);
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

// Tiles from `tile` on: a register of channels.
template <class T>
GC_NOINLINE void gc_winograd_image_lanes(const gc_conv_shape& s, int64_t tile, int64_t tiles, int64_t channel,
                                         const T* x, T* to, int64_t row, int64_t point, T* stage) {
  gc_winograd_piece before(s, tile, tiles);
  for (int64_t t = 0; t < tiles; t += before.tiles) {
    const gc_winograd_piece piece(s, tile + t, tiles - t);
    const gc_winograd_window<T> window(x, s.batch, s.in_channels, piece.image, channel, s.height, s.width);
    gc_winograd_stage_piece(s, window, piece, t > 0 ? &before : nullptr, stage);
    gc_winograd_image_tiles(piece.tiles, stage, to + t * row, row, point);
    before = piece;
  }
}

// ---- a block: tiles from `tile` on, outputs `first` to `last` of the packed ones, which begin with `base` ----

template <class T>
GC_NOINLINE void gc_winograd_image_block(const gc_conv_shape& s, const gc_winograd_sizes<T>& z, int64_t tile,
                                         int64_t tiles, const T* x, T* image, T* stage) {
  for (int64_t c = 0; c < s.in_channels; c += GC_LANES(T))
    gc_winograd_image_lanes(s, tile, tiles, c, x, image + c, z.image_row, z.image_point, stage);
}

// Weights of all points: those of a panel lie `panel` from the last one's, those of a point `point`; in the last panel,
// which may be narrower, `last`.
template <class T>
struct gc_winograd_weights {
  const T* data;
  int64_t panel, point, last;
};

// All points' sums over in channels `begin` to `end`, whose weights are those of the first on. Of few tiles they are
// bound by the weights, which stream from memory: panels are fetched well ahead, into the next point.
template <class T>
GC_NOINLINE void gc_winograd_products(const gc_winograd_sizes<T>& z, int64_t tiles, int64_t begin, int64_t end,
                                      int64_t outputs, const T* image, const gc_winograd_weights<T>& weight, T* sums) {
  constexpr int64_t L = GC_LANES(T), W = GC_TILE_VECTORS * L;
  const int64_t depth = gc_max_of<int64_t>(1, gc_ceil_div(end - begin, gc_ceil_div(end - begin, GC_BLOCK_DEPTH(T))));
  const int64_t last = (outputs - 1) / W * W, width = outputs - last > L ? W : L;
  for (int64_t point = 0; point < GC_POINTS; ++point)
    for (int64_t k = begin; k < end; k += depth) {
      const int64_t steps = gc_min_of(depth, end - k), in = k - begin;
      gc_panels<T> panels = {weight.data + point * weight.point + in * W, weight.panel, W,
                             weight.data + last / W * weight.panel + point * weight.last + in * width, width, nullptr,
                             2 * gc_panels_ahead<T>};
      for (int64_t t = 0; t < tiles; panels.ahead = 0) {
        const int64_t left = tiles - t;
        // Two even heights rather than a full one and up to 3 rows.
        const bool even = left > GC_TILE_ROWS && left < GC_TILE_ROWS + 4;
        const int64_t rows = even ? (left + 1) / 2 : gc_min_of<int64_t>(left, GC_TILE_ROWS);
        gc_row_panel<T, false>(rows, outputs, steps, image + point * z.image_point + t * z.image_row + k, z.image_row, 1,
                               panels, sums + point * z.sums_point + t * z.sums_row, z.sums_row, k > 0, gc_ahead<T>{});
        t += rows;
      }
    }
}

// Those of outputs `first` to `last` of packed ones, a whole number of panels or to the end.
template <class T>
GC_INLINE gc_winograd_weights<T> gc_winograd_packed(const T* packed, int64_t inputs, int64_t first, int64_t last) {
  constexpr int64_t L = GC_LANES(T), W = GC_TILE_VECTORS * L;
  const int64_t narrow = (last - first - 1) % W < L ? L : W;
  return {packed + first * inputs * GC_POINTS, W * inputs * GC_POINTS, W * inputs, narrow * inputs};
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

// Hands the finished outputs `output` to `last` of a block over, `outputs` of them in whole registers.
template <class T, class Epilogue>
void gc_winograd_results(const gc_conv_shape& s, const gc_winograd_sizes<T>& z, int64_t tile, int64_t tiles,
                         int64_t output, int64_t last, const T* sums, T* stage, const Epilogue& epilogue) {
  constexpr int64_t L = GC_LANES(T);
  for (int64_t t = 0; t < tiles;) {
    const gc_winograd_piece piece(s, tile + t, tiles - t);
    const int64_t y = 4 * piece.y, left = 4 * piece.x;
    const int64_t rows = gc_min_of<int64_t>(4, s.out_height - y);
    const int64_t columns = gc_min_of(4 * piece.tiles, s.out_width - left);
    // Whole rows lie end to end; parts of rows are segments of their own.
    const int64_t segments = columns == s.out_width ? 1 : rows, count = rows * columns / segments;
    for (int64_t o = 0; output + o < last; o += L) {
      const int64_t row = gc_winograd_finish(piece.tiles, rows, columns, sums + t * z.sums_row + o, z.sums_row,
                                             z.sums_point, stage, stage + z.piece);
      const int64_t channels = gc_min_of(L, last - output - o);
      for (int64_t i = 0; i < channels; ++i)
        for (int64_t segment = 0; segment < segments; ++segment)
          epilogue(piece.image, output + o + i, (y + segment) * s.out_width + left, count,
                   (const T*)(stage + z.piece + i * row + segment * count));
    }
    t += piece.tiles;
  }
}

template <class T, class Epilogue>
void gc_winograd_block(const gc_conv_shape& s, const gc_winograd_plan& p, int64_t tile, int64_t tiles, int64_t base,
                       int64_t first, int64_t last, const T* x, const T* packed, const Epilogue& epilogue) {
  constexpr int64_t L = GC_LANES(T);
  const gc_winograd_sizes<T> z(s, p);
  T* const image = (T*)gc_round_up((int64_t)gc_scratch(z.bytes()), 64);
  T* const sums = image + GC_POINTS * z.image_point;
  T* const stage = sums + GC_POINTS * z.sums_point;
  gc_winograd_image_block(s, z, tile, tiles, x, image, stage);
  for (int64_t output = first; output < last; output += p.outputs) {
    const int64_t stop = gc_min_of(last, output + p.outputs);
    gc_winograd_products(z, tiles, (int64_t)0, z.inputs, gc_round_up(stop - output, L), (const T*)image,
                         gc_winograd_packed(packed, z.inputs, output, stop), sums);
    gc_winograd_results(s, z, tile, tiles, base + output, base + stop, (const T*)sums, stage, epilogue);
  }
}

// ---- threads ----

// Blocks of tiles are shared out, those of so few tiles that reading the weights costs most by outputs: block(tile,
// tiles, first output, last output).
template <class T, class Block>
void gc_winograd_share(const gc_conv_shape& s, const gc_winograd_plan& p, int64_t outputs, const Block& block) {
  constexpr int64_t W = GC_TILE_VECTORS * GC_LANES(T);
  const int64_t side = 7 - s.kernel_width;  // of a tile's outputs: six points in all
  const int64_t tiles = s.batch * gc_ceil_div(s.out_height, side) * gc_ceil_div(s.out_width, side);
  const int64_t panels = gc_ceil_div(outputs, W);
  int64_t threads = gc_threads_for((double)tiles * GC_POINTS * s.in_channels * outputs);
  int64_t blocks = gc_ceil_div(tiles, p.tiles), parts = 1;
  if (blocks < threads && tiles >= 20 * threads) blocks = threads;
  else if (blocks < threads) parts = gc_min_of(panels, gc_ceil_div(threads, gc_max_of<int64_t>(1, blocks)));
  else blocks = gc_min_of(tiles, gc_round_up(blocks, threads));
  threads = gc_min_of(threads, blocks * parts);
  const gc_scratch_view team = gc_scratch_now;
#pragma omp parallel for schedule(static) num_threads((int)threads) if (threads > 1)
  for (int64_t item = 0; item < blocks * parts; ++item) {
    const gc_scratch_scope share(team, omp_get_thread_num());
    const int64_t number = item / parts, part = item % parts, begin = tiles * number / blocks;
    block(begin, tiles * (number + 1) / blocks - begin, panels * part / parts * W,
          gc_min_of(outputs, panels * (part + 1) / parts * W));
  }
}

// Outputs `first` to `last`, whose weights are packed.
template <class T, class Epilogue>
void gc_winograd_outputs(const gc_conv_shape& s, const gc_winograd_plan& p, int64_t first, int64_t last, const T* x,
                         const T* packed, const Epilogue& epilogue) {
  gc_winograd_share<T>(s, p, last - first, [&](int64_t tile, int64_t tiles, int64_t begin, int64_t end) {
    gc_winograd_block<T>(s, p, tile, tiles, first, begin, end, x, packed, epilogue);
  });
}

template <class T, class Epilogue>
GC_INLINE void gc_winograd(const gc_conv_shape& s, const gc_winograd_plan& p, const T* x, const T* packed,
                           const Epilogue& epilogue) {
  gc_winograd_outputs<T>(s, p, 0, s.out_channels, x, packed, gc_segments_of<T>(epilogue));
}

// Outputs `output` to `last` of a block, whose image is transformed; their weights are transformed on the way.
template <class T>
GC_NOINLINE void gc_winograd_transforming(const gc_conv_shape& s, const gc_winograd_plan& p,
                                          const gc_winograd_sizes<T>& z, bool turned, int64_t tiles, int64_t output,
                                          int64_t last, const T* image, const T* w, T* weight, T* sums) {
  constexpr int64_t L = GC_LANES(T), W = GC_TILE_VECTORS * L;
  const int64_t outputs = gc_round_up(last - output, L);
  for (int64_t c = 0; c < s.in_channels; c += p.inputs) {
    const int64_t end = gc_min_of(s.in_channels, c + p.inputs), count = end - c;
    for (int64_t lane = 0; lane < outputs; lane += L) {
      const int64_t panel = lane / W * W, row = gc_min_of(W, outputs - panel);
      gc_winograd_pack_lanes(s, turned, output + lane, gc_min_of(L, last - output - lane), c, end, w,
                             weight + panel * count + (lane - panel), row, z.weight_point);
    }
    gc_winograd_products(z, tiles, c, end, outputs, image, {weight, W * count, z.weight_point, z.weight_point}, sums);
  }
}

template <class T, class Epilogue>
void gc_winograd_unpacked(const gc_conv_shape& s, const gc_winograd_plan& p, bool turned, const T* x, const T* w,
                          const Epilogue& epilogue) {
  const gc_winograd_sizes<T> z(s, p);
  const int64_t tiles = s.batch * gc_ceil_div(s.out_height, 4) * gc_ceil_div(s.out_width, 4);
  const int64_t blocks = gc_ceil_div(tiles, p.tiles), parts = gc_ceil_div(s.out_channels, p.outputs);
  const double work = (double)tiles * GC_POINTS * s.in_channels * s.out_channels;
  const int64_t threads = gc_min_of(blocks * parts, gc_threads_for(work));
  const gc_scratch_view team = gc_scratch_now;
#pragma omp parallel num_threads((int)threads) if (threads > 1)
  {
    const gc_scratch_scope share(team, omp_get_thread_num());
    T* const image = (T*)gc_round_up((int64_t)gc_scratch(z.bytes()), 64);
    T* const sums = image + GC_POINTS * z.image_point;
    T* const weight = sums + GC_POINTS * z.sums_point;
    T* const stage = weight + GC_POINTS * z.weight_point;
    int64_t transformed = -1;  // the block whose image lies transformed in the scratch
#pragma omp for schedule(static)
    for (int64_t item = 0; item < blocks * parts; ++item) {
      const int64_t block = item / parts, output = item % parts * p.outputs;
      const int64_t begin = tiles * block / blocks, count = tiles * (block + 1) / blocks - begin;
      const int64_t last = gc_min_of(s.out_channels, output + p.outputs);
      if (transformed != block) gc_winograd_image_block(s, z, begin, count, x, image, stage);
      transformed = block;
      gc_winograd_transforming(s, p, z, turned, count, output, last, (const T*)image, w, weight, sums);
      gc_winograd_results(s, z, begin, count, output, last, (const T*)sums, stage, epilogue);
    }
  }
}

// The weight is packed `plan.packed` outputs at a time, so that what was packed is still in the cache when it is used.
template <class T, class Epilogue>
void gc_winograd_packing(const gc_conv_shape& s, const gc_winograd_plan& p, bool turned, const T* x, const T* w,
                         T* packed, const Epilogue& epilogue) {
  if (p.inputs > 0) return gc_winograd_unpacked<T>(s, p, turned, x, w, epilogue);
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
                                         T* packed, const Epilogue& epilogue) {
  gc_winograd_packing<T>(gc_turned(s), p, true, dy, w, packed, gc_segments_of<T>(epilogue));
}

#endif
