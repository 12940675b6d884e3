// Counter-based random numbers: Philox 4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC11).
//
// Called from generated loops; no state, so every lane, thread and target draws the same bits for the same index.
//   key     = (seed low, seed high)
//   counter = (index low, index high, stream, step low)
// `stream` tells the random operators of one program apart, `step` the runs of it. Word 0 of the block is the result.
#ifndef GC_PHILOX_H
#define GC_PHILOX_H

#include "prelude.h"

// The words of a block in 64-bit lanes where those multiply in one instruction: the upper halves hold left-overs that
// no product reads, and neither masks nor shuffles are needed. In 32-bit lanes elsewhere.
#if defined(__AVX512DQ__)
typedef uint64_t gc_philox_word;
#else
typedef uint32_t gc_philox_word;
#endif

GC_INLINE uint32_t gc_philox_bits(uint64_t seed, uint64_t step, uint32_t stream, uint64_t index) {
  uint32_t key0 = (uint32_t)seed, key1 = (uint32_t)(seed >> 32);
  gc_philox_word c0 = (gc_philox_word)index, c1 = (uint32_t)(index >> 32), c2 = stream, c3 = (uint32_t)step;
#pragma GCC unroll 10
  for (int round = 0; round < 10; ++round) {
    uint64_t product0 = (uint64_t)0xD2511F53u * (uint32_t)c0;
    uint64_t product1 = (uint64_t)0xCD9E8D57u * (uint32_t)c2;
    c0 = (gc_philox_word)(product1 >> 32) ^ c1 ^ key0;
    c1 = (gc_philox_word)product1;
    c2 = (gc_philox_word)(product0 >> 32) ^ c3 ^ key1;
    c3 = (gc_philox_word)product0;
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return (uint32_t)c0;
}

// Uniform in [0, 1), a multiple of 2^-24.
GC_INLINE float gc_philox_uniform(uint64_t seed, uint64_t step, uint32_t stream, uint64_t index) {
  return (float)(int32_t)(gc_philox_bits(seed, step, stream, index) >> 8) * 0x1p-24f;
}

#endif
