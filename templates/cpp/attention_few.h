// Scores of few queries: a step with a cache of keys has one. Each key is read once, where it lies; nothing is packed.
//
// Lanes run along the features; the sums of a square of keys are turned over and added up at the end.
#ifndef GC_ATTENTION_FEW_H
#define GC_ATTENTION_FEW_H

#include "tile.h"

#define GC_ATTENTION_FEW 3  // queries, up to which that is faster than packing keys for register tiles

// scores[i, j] = query[i, :] key[j, :] for whole lanes of j: those behind `keys` are not to be read.
template <class T>
GC_NOINLINE void gc_few_scores(int64_t queries, int64_t keys, int64_t depth, const T* query, const T* key,
                               int64_t key_row, T* scores, int64_t scores_row) {
  typedef gc_vector<T> vec;
  typedef gc_vector_unaligned<T> memory;
  constexpr int L = GC_LANES(T);
  const int64_t whole = depth / L * L;
  for (int64_t j = 0; j < keys; j += L) {
    const T* from[L];
    for (int64_t n = 0; n < L; ++n) from[n] = key + gc_min_of(j + n, keys - 1) * key_row;
    for (int64_t i = 0; i < queries; ++i) {
      const T* const left = query + i * depth;
      vec sums[L] = {};
      for (int64_t k = 0; k < whole; k += L) {
        const vec lanes = *(const memory*)(left + k);
#pragma GCC unroll 16
        for (int n = 0; n < L; ++n) sums[n] += lanes * (vec) * (const memory*)(from[n] + k);
      }
      alignas(64) T parts[L * L], turned[L * L];
#pragma GCC unroll 16
      for (int n = 0; n < L; ++n) *(vec*)(parts + n * L) = sums[n];
      gc_transpose_square<T>(L, parts, L, turned, L);
      vec total = {};
#pragma GCC unroll 16
      for (int n = 0; n < L; ++n) total += *(const vec*)(turned + n * L);
      T* const out = scores + i * scores_row + j;
      *(memory*)out = total;
      for (int64_t k = whole; k < depth; ++k)
        for (int64_t n = 0; n < L; ++n) out[n] += left[k] * from[n][k];
    }
  }
}

#endif
