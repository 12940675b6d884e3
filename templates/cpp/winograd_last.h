// Winograd's F(4x4, 3x3) for images whose channels lie together (see winograd.h and channels_last.h): lanes are channels,
// so tiles are transformed where they lie, and results are handed over pixel by pixel.
//
//   gc_winograd_pack_weight(shape, false, 0, out_channels, w, packed);   // once, where w is constant
//   gc_pixels_winograd<float>(shape, plan, x, packed, epilogue);         // epilogue as that of gc_pixels_forward
//   gc_pixels_winograd_packing<float>(shape, plan, x, w, packed, epilogue);   // both; `packed` may be smaller, see plan
//
// Kernels of 5x5 weights have the same six points and tiles of 2x2 outputs, F(2x2, 5x5): gc_winograd_pack_weight<float, 5>
// and gc_pixels_winograd<float, 5>.
//
// Needs, error, order, scratch: as in winograd.h.
#ifndef GC_WINOGRAD_LAST_H
#define GC_WINOGRAD_LAST_H

#include "channels_last.h"
#include "winograd.h"

// A tile at the edge, or of fewer channels than lanes: to[6][6][lanes], zero beside the image.
template <class T>
GC_NOINLINE void gc_pixels_stage(const gc_conv_shape& s, const T* image, int64_t top, int64_t left, int64_t channels,
                                 T* to) {
  constexpr int64_t L = GC_LANES(T);
  for (int64_t y = top; y < top + 6; ++y)
    for (int64_t x = left; x < left + 6; ++x, to += L) {
      const bool inside = y >= 0 && y < s.height && x >= 0 && x < s.width;
      const T* from = image + (y * s.width + x) * s.in_channels;
      if (inside && channels == L) {
        *(gc_vector<T>*)to = *(const gc_vector_unaligned<T>*)from;
      } else {
        for (int64_t i = 0; i < L; ++i) to[i] = inside && i < channels ? from[i] : 0;
      }
    }
}

// `Side` by `Side` outputs.
template <int Side>
struct gc_winograd_tile {
  int64_t image, y, x;  // y and x in pixels of the result

  gc_winograd_tile(const gc_conv_shape& s, int64_t tile) {
    const int64_t across = gc_ceil_div(s.out_width, Side), down = gc_ceil_div(s.out_height, Side);
    image = tile / (across * down);
    y = Side * (tile / across % down);
    x = Side * (tile % across);
  }
};

template <class T, int Side>
GC_NOINLINE void gc_pixels_image_block(const gc_conv_shape& s, const gc_winograd_sizes<T>& z, int64_t tile,
                                       int64_t tiles, const T* x, T* image, T* stage) {
  constexpr int64_t L = GC_LANES(T);
  for (int64_t t = 0; t < tiles; ++t) {
    const gc_winograd_tile<Side> place(s, tile + t);
    const int64_t top = place.y - s.pad_height, left = place.x - s.pad_width;
    const T* const whole = x + place.image * s.plane() * s.in_channels;
    const bool inside = top >= 0 && left >= 0 && top + 6 <= s.height && left + 6 <= s.width;
    for (int64_t c = 0; c < s.in_channels; c += L) {
      const int64_t channels = gc_min_of(L, s.in_channels - c);
      T* const to = image + t * z.image_row + c;
      if (inside && channels == L) {
        // The next tile's pixels: strides of whole pixels are more than the machine looks ahead by itself.
        for (int64_t i = 0; i < 6; ++i)
          for (int64_t j = 6; j < 6 + Side; ++j)
            __builtin_prefetch(whole + ((top + i) * s.width + left + j) * s.in_channels + c);
        gc_winograd_image_tile(whole + (top * s.width + left) * s.in_channels + c, s.width * s.in_channels,
                               s.in_channels, to, z.image_point);
      } else {
        gc_pixels_stage(s, whole + c, top, left, channels, stage);
        gc_winograd_image_tile<T>(stage, 6 * L, L, to, z.image_point);
      }
    }
  }
}

// A^T m A for one tile: to[Side][Side][outputs].
template <class T, int Side>
GC_NOINLINE void gc_pixels_result_tile(int64_t outputs, const T* from, int64_t point, T* to) {
  typedef gc_vector<T> vec;
  constexpr int64_t L = GC_LANES(T);
  for (int64_t o = 0; o < outputs; o += L) {
    vec half[Side][6];
#pragma GCC unroll 6
    for (int x = 0; x < 6; ++x) {
      vec line[6], results[Side];
#pragma GCC unroll 6
      for (int y = 0; y < 6; ++y) line[y] = *(const vec*)(from + (y * 6 + x) * point + o);
      gc_winograd_result<T>(line, results);
#pragma GCC unroll 4
      for (int y = 0; y < Side; ++y) half[y][x] = results[y];
    }
#pragma GCC unroll 4
    for (int y = 0; y < Side; ++y) {
      vec results[Side];
      gc_winograd_result<T>(half[y], results);
#pragma GCC unroll 4
      for (int x = 0; x < Side; ++x) *(vec*)(to + (y * Side + x) * outputs + o) = results[x];
    }
  }
}

// Tiles from `tile` on, outputs `first` to `last` of the packed ones, which begin with `base`.
template <class T, int K>
void gc_pixels_winograd_block(const gc_conv_shape& s, const gc_winograd_plan& p, int64_t tile, int64_t tiles,
                              int64_t base, int64_t first, int64_t last, const T* x, const T* packed,
                              const gc_weights<T>& epilogue) {
  constexpr int64_t L = GC_LANES(T);
  constexpr int Side = 7 - K;
  const gc_winograd_sizes<T> z(s, p);
  T* const image = (T*)gc_round_up((int64_t)gc_scratch(z.bytes()), 64);
  T* const sums = image + GC_POINTS * z.image_point;
  T* const stage = sums + GC_POINTS * z.sums_point;
  gc_pixels_image_block<T, Side>(s, z, tile, tiles, x, image, stage);
  for (int64_t output = first; output < last; output += p.outputs) {
    const int64_t channels = gc_min_of(p.outputs, last - output), outputs = gc_round_up(channels, L);
    gc_winograd_products(z, tiles, (int64_t)0, z.inputs, outputs, (const T*)image,
                         gc_winograd_packed(packed, z.inputs, output, output + channels), sums);
    for (int64_t t = 0; t < tiles; ++t) {
      const gc_winograd_tile<Side> place(s, tile + t);
      gc_pixels_result_tile<T, Side>(outputs, sums + t * z.sums_row, z.sums_point, stage);
      const int64_t rows = gc_min_of<int64_t>(Side, s.out_height - place.y);
      const int64_t columns = gc_min_of<int64_t>(Side, s.out_width - place.x);
      for (int64_t i = 0; i < rows; ++i)
        for (int64_t j = 0; j < columns; ++j)
          epilogue((place.image * s.out_height + place.y + i) * s.out_width + place.x + j, base + output, channels,
                   (const T*)(stage + (i * Side + j) * outputs));
    }
  }
}

template <class T, int K>
void gc_pixels_winograd_outputs(const gc_conv_shape& s, const gc_winograd_plan& p, int64_t first, int64_t last,
                                const T* x, const T* packed, const gc_weights<T>& epilogue) {
  gc_winograd_share<T>(s, p, last - first, [&](int64_t tile, int64_t tiles, int64_t begin, int64_t end) {
    gc_pixels_winograd_block<T, K>(s, p, tile, tiles, first, begin, end, x, packed, epilogue);
  });
}

template <class T, int K = 3, class Epilogue>
GC_INLINE void gc_pixels_winograd(const gc_conv_shape& s, const gc_winograd_plan& p, const T* x, const T* packed,
                                  const Epilogue& epilogue) {
  gc_pixels_winograd_outputs<T, K>(s, p, 0, s.out_channels, x, packed, gc_weights_of<T>(epilogue));
}

// The weight is packed `plan.packed` outputs at a time, so that what was packed is still in the cache when it is used.
template <class T, int K = 3, class Epilogue>
GC_INLINE void gc_pixels_winograd_packing(const gc_conv_shape& s, const gc_winograd_plan& p, const T* x, const T* w,
                                          T* packed, const Epilogue& epilogue) {
  for (int64_t first = 0; first < s.out_channels; first += p.packed) {
    const int64_t last = gc_min_of(s.out_channels, first + p.packed);
    gc_winograd_pack_weight<T, K>(s, false, first, last, w, packed);
    gc_pixels_winograd_outputs<T, K>(s, p, first, last, x, (const T*)packed, gc_weights_of<T>(epilogue));
  }
}

#endif
