// Products of bf16 or of bytes through instructions that take packets of 32 bits: two bf16 or four bytes along k.
//
//   gc_packets<float, gc_bf16, gc_bf16>(batch, M, N, K, {a, a_row, a_col}, a_batch, {b, b_row, b_col}, b_batch, epilogue);
//   gc_packets<int32_t, int8_t, int8_t>(...);            bytes, the second operand signed: sums wrap in int32
//   gc_pack_packets<float, gc_bf16, gc_bf16>(K, N, b, b_row, b_col, out);       constant second operand, packed once
//   gc_packets_packed<float, gc_bf16, gc_bf16>(M, N, K, {a, a_row, a_col}, out, epilogue);
//
// Layout     a product of packets is an ordinary contraction over ceil(K / elements of a packet) packets, of the sums'
//            type T to everything but the register tile; what is missing in the last packet is zero.
// Signs      vpdpbusd multiplies unsigned by signed bytes. Signed by signed: B is stored as b + 128, and 128 times the
//            sum of A's row is taken off again at the end, exact modulo 2^32.
// Needs      AVX512_BF16 and AVX512_VNNI; elsewhere gc_gemm_of converts operands instead.
#ifndef GC_PACKET_H
#define GC_PACKET_H

#include "gemm.h"

template <class A>
constexpr int gc_packet_reads = sizeof(A) == 2 ? GC_PAIRS : (A)-1 < (A)0 ? GC_QUADS : GC_QUADS_UNSIGNED;
template <>
constexpr int gc_packet_reads<gc_bf16> = GC_PAIRS;

template <class T, class S>
struct gc_packet_rows {  // left
  static constexpr int64_t G = 4 / (int64_t)sizeof(S);
  const S* data;
  int64_t row_stride, col_stride, depth;

  gc_ahead<T> ahead(int64_t, int64_t, int64_t, int64_t) const { return {}; }

  gc_rows<T> rows(int64_t m, int64_t rows, int64_t k, int64_t packets, int64_t, T* scratch) const {
    constexpr int64_t step = GC_DEEPEST(T) + 16;
    const int64_t count = gc_min_of(packets * G, depth - k * G);
    for (int64_t i = 0; i < rows; ++i)
      gc_copy_packets<T>(count, packets, data + (m + i) * row_stride + k * G * col_stride, col_stride, scratch + i * step);
    return {scratch, step, 1};
  }
};

template <class T, class S, int Reads>
struct gc_packet_matrix {  // right
  static constexpr int64_t G = 4 / (int64_t)sizeof(S);
  const S* data;
  int64_t row_stride, col_stride, depth;
  static constexpr bool gathers = false;
  static constexpr int reads = Reads;

  const T* at(int64_t, int64_t) const { return nullptr; }
  bool direct(int64_t, int64_t) const { return false; }
  static constexpr int64_t row = 0;

  void pack(int64_t k, int64_t packets, int64_t n, int64_t columns, int64_t width, T* out) const {
    const S* from = data + k * G * row_stride + n * col_stride;
    const int64_t count = gc_min_of(packets * G, depth - k * G);
    alignas(64) T along[GC_TILE_VECTORS * GC_LANES(T) * GC_DEEPEST(T)];
    if (row_stride == 1) {
      for (int64_t j = 0; j < columns; ++j) gc_copy_packets<T>(count, packets, from + j * col_stride, 1, along + j * packets);
      gc_transpose(columns, packets, along, packets, out, width);
    } else {
      for (int64_t p = 0; p < packets; ++p) {
        S lanes[GC_TILE_VECTORS * GC_LANES(T) * G] = {};
        for (int64_t g = 0; g < gc_min_of(G, count - p * G); ++g)
          for (int64_t j = 0; j < columns; ++j) lanes[j * G + g] = from[(p * G + g) * row_stride + j * col_stride];
        __builtin_memcpy(out + p * width, lanes, width * sizeof(T));
      }
    }
    if constexpr (Reads == GC_QUADS) {
      char* bytes = (char*)out;
#pragma omp simd
      for (int64_t i = 0; i < packets * width * 4; ++i) bytes[i] ^= (char)0x80;
    }
  }
};

template <class T, class A, class B>
void gc_pack_packets(int64_t depth, int64_t columns, const B* from, int64_t row_stride, int64_t col_stride, T* out) {
  constexpr int64_t G = 4 / (int64_t)sizeof(B), L = GC_LANES(T), W = GC_TILE_VECTORS * L;
  const gc_packet_matrix<T, B, gc_packet_reads<A>> matrix = {from, row_stride, col_stride, depth};
  gc_pack_blocks<T>(gc_ceil_div(depth, G), columns, out, [&](int64_t k, int64_t steps, int64_t n, int64_t count, T* to) {
    matrix.pack(k, steps, n, count, count > L ? W : L, to);
  });
}

// The sum of `depth` signed bytes, modulo 2^32.
template <class T, class A>
GC_NOINLINE uint32_t gc_sum_bytes(const A* from, int64_t stride, int64_t depth) {
  typedef gc_vector<T> vec;
  typedef gc_vector_unaligned<T> memory;
  uint32_t total = 0;
  int64_t k = 0;
  if (stride == 1) {
    vec sum = {};
    const vec ones = vec{} + 0x01010101;
    for (; k + GC_VECTOR_BYTES <= depth; k += GC_VECTOR_BYTES)
      gc_add_packets<GC_QUADS_UNSIGNED>(sum, ones, (vec) * (const memory*)(from + k));
    for (int64_t lane = 0; lane < GC_LANES(T); ++lane) total += (uint32_t)sum[lane];
  }
  for (; k < depth; ++k) total += (uint32_t)(int32_t)from[k * stride];
  return total;
}

// Finished sums for the epilogue; signed bytes first lose what the shift of B added.
template <class T, class A, class Epilogue>
GC_INLINE void gc_finish_packets(int64_t rows, int64_t row, int64_t col, int64_t columns, const T* sums, int64_t sums_row,
                                 const A* a, int64_t row_stride, int64_t col_stride, int64_t depth,
                                 const Epilogue& epilogue) {
  for (int64_t i = 0; i < rows; ++i) {
    T* own = (T*)sums + i * sums_row;  // the workspace's, so that it may be written
    if constexpr (gc_packet_reads<A> == GC_QUADS) {
      const uint32_t total = gc_sum_bytes<T>(a + (row + i) * row_stride, col_stride, depth);
#pragma omp simd
      for (int64_t j = 0; j < columns; ++j) own[j] = (T)((uint32_t)own[j] - 128u * total);
    }
    epilogue(row + i, col, columns, (const T*)own);
  }
}

template <class T, class A, class B, class Epilogue>
void gc_packets(int64_t batch, int64_t m, int64_t n, int64_t k, gc_matrix<T, A> a, int64_t a_batch, gc_matrix<T, B> b,
                int64_t b_batch, const Epilogue& epilogue) {
  const int64_t packets = gc_ceil_div(k, 4 / (int64_t)sizeof(A));
  gc_contract_many<T>(batch, m, n, packets, [&](int64_t item, const auto& run) {
    const A* left = a.data + item * a_batch;
    run(gc_packet_rows<T, A>{left, a.row_stride, a.col_stride, k},
        gc_packet_matrix<T, B, gc_packet_reads<A>>{b.data + item * b_batch, b.row_stride, b.col_stride, k},
        [&](int64_t row, int64_t rows, int64_t col, int64_t columns, const T* sums, int64_t sums_row) {
          gc_finish_packets(rows, row, col, columns, sums, sums_row, left, a.row_stride, a.col_stride, k,
                            [&](int64_t at, int64_t from, int64_t count, const T* own) {
                              epilogue(item, at, from, count, own);
                            });
        });
  });
}

template <class T, class A, class B, class Epilogue>
void gc_packets_packed(int64_t m, int64_t n, int64_t k, gc_matrix<T, A> a, const T* packed, const Epilogue& epilogue) {
  const int64_t packets = gc_ceil_div(k, 4 / (int64_t)sizeof(A));
  gc_contract_many<T>(1, m, n, packets, [&](int64_t, const auto& run) {
    run(gc_packet_rows<T, A>{a.data, a.row_stride, a.col_stride, k},
        gc_packed<T, gc_packet_reads<A>>{packed, packets, n},
        [&](int64_t row, int64_t rows, int64_t col, int64_t columns, const T* sums, int64_t sums_row) {
          gc_finish_packets(rows, row, col, columns, sums, sums_row, a.data, a.row_stride, a.col_stride, k, epilogue);
        });
  });
}

#endif
