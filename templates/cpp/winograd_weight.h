// Winograd's transforms of one dimension, and the weight G w G^T in the layout of the register tile.
//
// Called by winograd.h, and by generated code to pack a constant weight:
//
//   gc_winograd_pack_weight(shape, turned, first, last, w, packed);   // out channels `first` to `last`
#ifndef GC_WINOGRAD_WEIGHT_H
#define GC_WINOGRAD_WEIGHT_H

#include "conv.h"

#define GC_POINTS 36

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

// The same for five weights, whose tiles have two outputs: F(2, 5) has the points of F(4, 3), so B^T is the same.
template <class T, class V>
GC_INLINE void gc_winograd_weight(const V (&g)[5], V (&to)[6]) {
  const V near_even = (T)GC_NEAR_NORM * g[0] + (T)(GC_NEAR_NORM * GC_NEAR2) * g[2] +
                      (T)(GC_NEAR_NORM * GC_NEAR2 * GC_NEAR2) * g[4];
  const V far_even = (T)GC_FAR_NORM * g[0] + (T)(GC_FAR_NORM * GC_FAR2) * g[2] +
                     (T)(GC_FAR_NORM * GC_FAR2 * GC_FAR2) * g[4];
  const V near_odd = (T)(GC_NEAR_NORM * GC_NEAR) * g[1] + (T)(GC_NEAR_NORM * GC_NEAR * GC_NEAR2) * g[3];
  const V far_odd = (T)(GC_FAR_NORM * GC_FAR) * g[1] + (T)(GC_FAR_NORM * GC_FAR * GC_FAR2) * g[3];
  to[0] = (T)(1 / (GC_NEAR2 * GC_FAR2)) * g[0];
  to[1] = near_even + near_odd;
  to[2] = near_even - near_odd;
  to[3] = far_even + far_odd;
  to[4] = far_even - far_odd;
  to[5] = g[4];
}

// A^T: six points to four outputs, or to two.
template <class T, class V>
GC_INLINE void gc_winograd_result(const V (&m)[6], V (&to)[4]) {
  const V near = m[1] + m[2], far = m[3] + m[4];
  const V near_odd = (T)GC_NEAR * (m[1] - m[2]), far_odd = (T)GC_FAR * (m[3] - m[4]);
  to[0] = m[0] + near + far;
  to[1] = near_odd + far_odd;
  to[2] = (T)GC_NEAR2 * near + (T)GC_FAR2 * far;
  to[3] = (T)GC_NEAR2 * near_odd + (T)GC_FAR2 * far_odd + m[5];
}

template <class T, class V>
GC_INLINE void gc_winograd_result(const V (&m)[6], V (&to)[2]) {
  to[0] = m[0] + (m[1] + m[2]) + (m[3] + m[4]);
  to[1] = (T)GC_NEAR * (m[1] - m[2]) + (T)GC_FAR * (m[3] - m[4]) + m[5];
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

// packed[panel][point][in channel][panel's width]: panels of up to two registers of out channels, `first` to `last` of
// them, each read end to end; gc_winograd_packed_size elements. Turned: for the gradient to the data, whose out channels are the
// convolution's in channels; `s` is then the turned shape.
GC_INLINE int64_t gc_winograd_packed_size(const gc_conv_shape& s, int64_t outputs, int64_t lanes) {
  return GC_POINTS * s.in_channels * gc_round_up(outputs, lanes);
}

// One register of out channels at `output`, in channels `begin` to `end`; kernels are K by K.
template <int K = 3, class T>
GC_NOINLINE void gc_winograd_pack_lanes(const gc_conv_shape& s, bool turned, int64_t output, int64_t outputs,
                                        int64_t begin, int64_t end, const T* w, T* to, int64_t row, int64_t point) {
  typedef gc_vector<T> vec;
  constexpr int64_t L = GC_LANES(T), block = 16, places = K * K;
  alignas(64) T taps[(places * block + L) * L];
  const T* const last = w + s.in_channels * s.out_channels * places;
  const int64_t each = turned ? 1 : block;  // in channels whose taps lie side by side
  for (int64_t c = begin; c < end; c += each) {
    const int64_t count = gc_min_of(each, end - c);
    if (turned) gc_lanes_from_rows(outputs, places, w + (c * s.out_channels + output) * places, places, last, taps);
    else gc_transpose(outputs, count * places, w + (output * s.in_channels + c) * places, s.in_channels * places, taps, L);
    for (int64_t i = 0; i < count; ++i) {
      const vec* from = (const vec*)(taps + i * places * L);
      vec half[6][K];
#pragma GCC unroll 5
      for (int x = 0; x < K; ++x) {
        vec column[K], points[6];
#pragma GCC unroll 5
        for (int y = 0; y < K; ++y) column[y] = from[turned ? places - 1 - (y * K + x) : y * K + x];
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
          *(gc_vector_unaligned<T>*)(to + (y * 6 + x) * point + (c - begin + i) * row) = points[x];
      }
    }
  }
}

template <class T, int K = 3>
GC_NOINLINE void gc_winograd_pack_weight(const gc_conv_shape& s, bool turned, int64_t first, int64_t last, const T* w,
                                         T* packed) {
  constexpr int64_t L = GC_LANES(T), W = GC_TILE_VECTORS * L;
  const int64_t width = gc_round_up(last - first, L);
  const int64_t threads = gc_min_of(width / L, gc_threads_for(4.0 * (double)s.in_channels * width * GC_POINTS));
#pragma omp parallel for schedule(static) num_threads((int)threads) if (threads > 1)
  for (int64_t lane = 0; lane < width; lane += L) {
    const int64_t panel = lane / W * W, row = gc_min_of(W, width - panel);
    gc_winograd_pack_lanes<K>(s, turned, first + lane, gc_min_of(L, last - first - lane), (int64_t)0, s.in_channels, w,
                           packed + panel * s.in_channels * GC_POINTS + (lane - panel), row, s.in_channels * row);
  }
}

#endif
