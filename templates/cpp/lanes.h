// Helpers of generated loops: integer arithmetic that wraps, folds over lanes of accumulators, scratch, streaming.
#ifndef GC_LANES_H
#define GC_LANES_H

#include "prelude.h"

// A step function that must melt into its loop, or the loop does not vectorise.
#define GC_LAMBDA_INLINE __attribute__((always_inline))

// What was read where the mask's bits are set, else `other`: a choice that every lane makes alike.
GC_INLINE float gc_keep(int32_t mask, float read, float other) {
  int32_t a, b;
  __builtin_memcpy(&a, &read, sizeof a);
  __builtin_memcpy(&b, &other, sizeof b);
  a = (a & mask) | (b & ~mask);
  __builtin_memcpy(&read, &a, sizeof a);
  return read;
}
GC_INLINE double gc_keep(int64_t mask, double read, double other) {
  int64_t a, b;
  __builtin_memcpy(&a, &read, sizeof a);
  __builtin_memcpy(&b, &other, sizeof b);
  a = (a & mask) | (b & ~mask);
  __builtin_memcpy(&read, &a, sizeof a);
  return read;
}

template <class T> struct gc_unsigned;
template <> struct gc_unsigned<int8_t> { typedef uint8_t type; };
template <> struct gc_unsigned<uint8_t> { typedef uint8_t type; };
template <> struct gc_unsigned<int16_t> { typedef uint16_t type; };
template <> struct gc_unsigned<int32_t> { typedef uint32_t type; };
template <> struct gc_unsigned<int64_t> { typedef uint64_t type; };
template <> struct gc_unsigned<bool> { typedef uint8_t type; };
template <class T> using gc_unsigned_t = typename gc_unsigned<T>::type;

// Signed overflow is undefined in C++; graphc's integers wrap.
template <class T> GC_INLINE T gc_wrap_add(T a, T b) { return (T)((gc_unsigned_t<T>)a + (gc_unsigned_t<T>)b); }
template <class T> GC_INLINE T gc_wrap_sub(T a, T b) { return (T)((gc_unsigned_t<T>)a - (gc_unsigned_t<T>)b); }
template <class T> GC_INLINE T gc_wrap_neg(T a) { return (T)(0 - (gc_unsigned_t<T>)a); }
template <class T> GC_INLINE T gc_wrap_mul(T a, T b) {
  return (T)((uint64_t)(gc_unsigned_t<T>)a * (uint64_t)(gc_unsigned_t<T>)b);
}
template <class T> GC_INLINE T gc_integer_abs(T a) { return a < 0 ? gc_wrap_neg(a) : a; }

// Truncating division; x / 0 is 0 and the lowest number / -1 wraps, where the machine would trap.
template <class T> GC_INLINE T gc_integer_div(T a, T b) {
  T safe = b == 0 || b == (T)-1 ? (T)1 : b;
  return b == 0 ? (T)0 : b == (T)-1 && (T)-1 < 0 ? gc_wrap_neg(a) : (T)(a / (b == (T)-1 && (T)-1 > 0 ? b : safe));
}
// The remainder with the sign of the divisor; x mod 0 is 0.
template <class T> GC_INLINE T gc_integer_mod(T a, T b) {
  T remainder = gc_wrap_sub(a, gc_wrap_mul(gc_integer_div(a, b), b));
  T result = remainder != 0 && (remainder < 0) != (b < 0) ? (T)(remainder + b) : remainder;
  return b == 0 ? (T)0 : result;
}
// Exponents below zero give 0, as truncation of the quotient would, except for bases 1 and -1.
template <class T> GC_INLINE T gc_integer_pow(T base, T exponent) {
  if (exponent < 0) return base == 1 ? (T)1 : base == (T)-1 ? (exponent % 2 ? (T)-1 : (T)1) : (T)0;
  T result = 1;
  for (T rest = exponent; rest > 0; rest = (T)(rest / 2)) {
    if (rest % 2) result = gc_wrap_mul(result, base);
    base = gc_wrap_mul(base, base);
  }
  return result;
}
GC_INLINE int64_t gc_floor_div(int64_t a, int64_t b) { return a / b - (a % b != 0 && (a < 0) != (b < 0)); }

template <class T> GC_INLINE T gc_highest() {
  return (T)-1 > 0 ? (T)-1 : (T)(((gc_unsigned_t<T>)-1) >> 1);
}
template <class T> GC_INLINE T gc_lowest() { return (T)-1 > 0 ? (T)0 : (T)(-gc_highest<T>() - 1); }

template <class T, int64_t lanes, class V> GC_INLINE void gc_fill(T (&values)[lanes], V value) {
#pragma omp simd
  for (int64_t lane = 0; lane < lanes; ++lane) values[lane] = (T)value;
}

template <class T, int64_t lanes> GC_INLINE void gc_add_lanes(T (&totals)[lanes], const T (&parts)[lanes]) {
#pragma omp simd
  for (int64_t lane = 0; lane < lanes; ++lane) totals[lane] += parts[lane];
}

// Elements of another width: loops that mix widths have the lanes of the narrowest, so short ones copy first.
template <class To, class From> GC_INLINE void gc_copy(To* target, const From* source, int64_t count) {
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) target[i] = (To)source[i];
}

// row[i] = source[i] for i in [first, last), `other` elsewhere; positions of 32 bits have as many lanes as the elements.
template <int64_t count, class T> GC_INLINE void gc_fill_inside(T* row, const T* source, int32_t first, int32_t last, T other) {
#pragma omp simd
  for (int32_t i = 0; i < (int32_t)count; ++i) row[i] = ((i >= first) & (i < last)) ? source[i] : other;
}
template <int64_t count, class T, class S>
GC_INLINE void gc_fill_inside(T* row, const S* source, int32_t first, int32_t last, T other) {
  S narrow[count];
  for (int64_t i = 0; i < count; ++i) narrow[i] = (S)other;
  if (last > first) __builtin_memcpy(narrow + first, source + first, (size_t)(last - first) * sizeof(S));
  gc_copy(row, narrow, count);
}
// A short row whose element stride * q + p goes to row[p][q], q below count.
template <int64_t count, int64_t stride, int64_t size, class T, class S>
GC_INLINE void gc_fill_row(T (&row)[stride][size], const S* source, int64_t first, int64_t last, T other) {
  const int32_t low = (int32_t)gc_min_of<int64_t>(gc_max_of<int64_t>(first, 0), stride * count);
  const int32_t high = (int32_t)gc_max_of<int64_t>(gc_min_of<int64_t>(last, stride * count), low);
  if constexpr (stride == 1) {
    gc_fill_inside<count>(row[0], source, low, high, other);
  } else {
    alignas(64) T flat[stride * count];
    gc_fill_inside<stride * count>(flat, source, low, high, other);
#pragma omp simd
    for (int64_t q = 0; q < count; ++q) {
#pragma GCC unroll 4
      for (int64_t p = 0; p < stride; ++p) row[p][q] = flat[stride * q + p];
    }
  }
}

// Where elements lie, unknown to the compiler: of two places in one row it would carry what it has read to the next lane,
// and such loops do not vectorise.
template <class T> GC_INLINE const T* gc_hidden(const T* place) {
  asm("" : "+r"(place));
  return place;
}

// step(index, lane) for every index below extent; indices of one lane come in rising order.
template <int64_t lanes, class Step> GC_INLINE void gc_for_lanes(int64_t extent, const Step& step) {
  const int64_t whole = extent / lanes * lanes;
  for (int64_t start = 0; start < whole; start += lanes) {
#pragma omp simd
    for (int64_t lane = 0; lane < lanes; ++lane) step(start + lane, lane);
  }
#pragma omp simd
  for (int64_t lane = 0; lane < extent - whole; ++lane) step(whole + lane, lane);
}

// Dense short rows to a tile that has a row of memory for each of their columns, and back: tile[column][row]. Loops over
// whole tiles stand apart: their length is known.
template <int64_t columns, int64_t size, class T>
GC_INLINE void gc_turn_some(T (&tile)[columns][size], const T* rows, int64_t count) {
#pragma omp simd
  for (int64_t row = 0; row < count; ++row) {
#pragma GCC unroll 64
    for (int64_t column = 0; column < columns; ++column) tile[column][row] = rows[row * columns + column];
  }
}
template <int64_t columns, int64_t size, class T>
GC_INLINE void gc_turn_rows(T (&tile)[columns][size], const T* rows, int64_t count) {
  if (count == size) gc_turn_some(tile, rows, size);
  else gc_turn_some(tile, rows, count);
}
template <int64_t columns, int64_t size, class T>
GC_INLINE void gc_turn_some_back(T* rows, const T (&tile)[columns][size], int64_t count) {
#pragma omp simd
  for (int64_t row = 0; row < count; ++row) {
#pragma GCC unroll 64
    for (int64_t column = 0; column < columns; ++column) rows[row * columns + column] = tile[column][row];
  }
}
template <int64_t columns, int64_t size, class T>
GC_INLINE void gc_turn_back(T* rows, const T (&tile)[columns][size], int64_t count) {
  if (count == size) gc_turn_some_back(rows, tile, size);
  else gc_turn_some_back(rows, tile, count);
}

// step(row, lane) for rows [first, last) and lanes below count, several rows to a loop over the lanes: what a lane adds up
// stays in a register from one row to the next, and memory is read in several streams.
template <int64_t group, class Step>
GC_INLINE void gc_for_rows(int64_t first, int64_t last, int64_t count, const Step& step) {
  // Both loops count to numbers that the compiler knows where the extents are: it then sees when no row is left over.
  const int64_t whole = first + (last - first) / group * group;
  for (int64_t row = first; row < whole; row += group) {
#pragma omp simd
    for (int64_t lane = 0; lane < count; ++lane) {
#pragma GCC unroll 8
      for (int64_t next = 0; next < group; ++next) step(row + next, lane);
    }
  }
  for (int64_t row = whole; row < last; ++row) {
#pragma omp simd
    for (int64_t lane = 0; lane < count; ++lane) step(row, lane);
  }
}

// Fetch elements that the next item reads; addresses past the end of memory do nothing.
template <class T> GC_INLINE void gc_prefetch(const T* source, int64_t count) {
  for (int64_t i = 0; i < count; i += 64 / (int64_t)sizeof(T)) __builtin_prefetch(source + i, 0, 2);
}

// gc_for_rows for rows that lie apart, each in pages of its own: fetch(row, lane, count) asks for what the next group of rows
// reads, a little at a time.
template <int64_t group, class Step, class Fetch>
GC_INLINE void gc_for_rows_ahead(int64_t first, int64_t last, int64_t count, const Step& step, const Fetch& fetch) {
  constexpr int64_t bit = 64;
  const int64_t groups = (last - first) / group * group, whole = count / bit * bit;
  for (int64_t row = first; row < first + groups; row += group) {
    for (int64_t start = 0; start < whole; start += bit) {
#pragma GCC unroll 8
      for (int64_t next = 0; next < group; ++next) fetch(row + group + next, start, bit);
#pragma omp simd
      for (int64_t lane = start; lane < start + bit; ++lane) {
#pragma GCC unroll 8
        for (int64_t next = 0; next < group; ++next) step(row + next, lane);
      }
    }
#pragma omp simd
    for (int64_t lane = whole; lane < count; ++lane) {
#pragma GCC unroll 8
      for (int64_t next = 0; next < group; ++next) step(row + next, lane);
    }
  }
  gc_for_rows<1>(first + groups, last, count, step);
}

// The same, fetching as many elements of `next` a little at a time, while the steps work in cache.
template <int64_t lanes, class Step, class... Next>
GC_INLINE void gc_for_lanes_ahead(int64_t extent, const Step& step, const Next*... next) {
  constexpr int64_t bit = lanes > 128 ? lanes : 128;
  for (int64_t start = 0; start < extent; start += bit) {
    (gc_prefetch(next + start, bit), ...);
    gc_for_lanes<lanes>(gc_min_of(bit, extent - start), [&](int64_t index, int64_t lane) GC_LAMBDA_INLINE {
      step(start + index, lane);
    });
  }
}

// step(lane, part) for every lane below count; part.inside is true for those of [first, last), where guards hold.
struct gc_interior { static constexpr bool inside = true; };
struct gc_border { static constexpr bool inside = false; };
template <class Step> GC_INLINE void gc_for_parts(int64_t count, int64_t first, int64_t last, const Step& step) {
  first = gc_min_of(gc_max_of<int64_t>(first, 0), count);
  last = gc_min_of(gc_max_of(last, first), count);
  for (int64_t lane = 0; lane < first; ++lane) step(lane, gc_border{});
#pragma omp simd
  for (int64_t lane = first; lane < last; ++lane) step(lane, gc_interior{});
  for (int64_t lane = last; lane < count; ++lane) step(lane, gc_border{});
}

// Join all lanes pairwise, in an order that depends on their number only.
template <class T, int64_t lanes, class Join> GC_INLINE T gc_fold(T (&values)[lanes], Join join) {
  static_assert((lanes & (lanes - 1)) == 0, "a power of two");
#pragma GCC unroll 8
  for (int64_t half = lanes / 2; half > 0; half /= 2) {
#pragma omp simd
    for (int64_t lane = 0; lane < half; ++lane) values[lane] = join(values[lane], values[lane + half]);
  }
  return values[0];
}

// The position of the best lane: NaN is better than any number, and the first of equals wins. Joined pairwise.
template <class T, class P, int64_t lanes, class Better>
GC_INLINE int64_t gc_fold_position(T (&values)[lanes], P (&at)[lanes], Better better) {
  static_assert((lanes & (lanes - 1)) == 0, "a power of two");
#pragma GCC unroll 8
  for (int64_t half = lanes / 2; half > 0; half /= 2) {
#pragma omp simd
    for (int64_t lane = 0; lane < half; ++lane) {
      const T best = values[lane], value = values[lane + half];
      const P first = at[lane], second = at[lane + half];
      const bool nan = value != value, best_nan = best != best;
      const bool wins = (nan & !best_nan) | (!best_nan & better(value, best));
      const bool ties = (nan & best_nan) | (value == best);
      const bool take = wins | (ties & (second < first));
      values[lane] = take ? value : best;
      at[lane] = take ? second : first;
    }
  }
  return at[0];
}
template <class T, class P, int64_t lanes> GC_INLINE int64_t gc_fold_argmax(T (&values)[lanes], P (&at)[lanes]) {
  return gc_fold_position(values, at, [](T a, T b) { return a > b; });
}
template <class T, class P, int64_t lanes> GC_INLINE int64_t gc_fold_argmin(T (&values)[lanes], P (&at)[lanes]) {
  return gc_fold_position(values, at, [](T a, T b) { return a < b; });
}

// Copy a tile to memory past the cache, for outputs that nobody reads soon; gc_stream_fence() before others read them.
// Compiler builtins, because <immintrin.h> would cost more compile time than a small program.
GC_INLINE void gc_stream_vector(float* target, const float* source) {
  gc_vector<float> value = *(const gc_vector_unaligned<float>*)source;
#if defined(__clang__)
  __builtin_nontemporal_store(value, (gc_vector<float>*)target);
#elif defined(__AVX512F__)
  __builtin_ia32_movntps512(target, value);
#elif defined(__AVX__)
  __builtin_ia32_movntps256(target, value);
#else
  *(gc_vector<float>*)target = value;
#endif
}
GC_INLINE void gc_stream(float* target, const float* tile, int64_t count) {
  const int64_t lanes = GC_LANES(float), misaligned = (int64_t)((uintptr_t)target % GC_VECTOR_BYTES) / 4;
  const int64_t head = gc_min_of<int64_t>(count, misaligned ? lanes - misaligned : 0);
  int64_t i = 0;
  for (; i < head; ++i) target[i] = tile[i];
  for (; i + lanes <= count; i += lanes) gc_stream_vector(target + i, tile + i);
  for (; i < count; ++i) target[i] = tile[i];
}
// A few vectors that lie in registers, past the cache where they lie on a vector's boundary.
template <int64_t block> GC_INLINE void gc_stream_block(float* target, const float (&tile)[block]) {
  const bool aligned = (uintptr_t)target % GC_VECTOR_BYTES == 0;
#pragma GCC unroll 32
  for (int64_t i = 0; i < block; i += GC_LANES(float)) {
    if (aligned) gc_stream_vector(target + i, tile + i);
    else *(gc_vector_unaligned<float>*)(target + i) = *(const gc_vector_unaligned<float>*)(tile + i);
  }
}
GC_INLINE void gc_put(float* target, const float* tile, int64_t count) { gc_copy(target, tile, count); }

// step(lane, slot, tiles) leaves in tiles[k][slot] what goes to element `lane` of the k-th target, past the cache. `evenly`:
// blocks divide the count, and targets lie on a vector's boundary.
template <int64_t block, class Step, class... T>
GC_INLINE void gc_for_streams_evenly(int64_t count, const Step& step, T*... target) {
  for (int64_t start = 0; start < count; start += block) {
    alignas(64) float tiles[sizeof...(T)][block];
#pragma omp simd
    for (int64_t slot = 0; slot < block; ++slot) step(start + slot, slot, tiles);
    int64_t place = 0;
    (gc_stream_block(target + start, tiles[place++]), ...);
  }
}
template <int64_t block, class Step, class First, class... Rest>
GC_INLINE void gc_for_streams(int64_t count, const Step& step, First* first, Rest*... rest) {
  const int64_t lanes = GC_VECTOR_BYTES / (int64_t)sizeof(First);
  const int64_t misaligned = (int64_t)((uintptr_t)first % GC_VECTOR_BYTES) / (int64_t)sizeof(First);
  const int64_t head = gc_min_of<int64_t>(count, misaligned ? lanes - misaligned : 0);
  const int64_t whole = head + (count - head) / block * block;
  // What comes before the first boundary, then all blocks, then what is left.
  for (int64_t start = 0, end = head;; start = whole, end = count) {
    alignas(64) float tiles[1 + sizeof...(Rest)][block];
#pragma omp simd
    for (int64_t lane = start; lane < end; ++lane) step(lane, lane - start, tiles);
    int64_t place = 1;
    gc_put(first + start, tiles[0], end - start);
    (gc_put(rest + start, tiles[place++], end - start), ...);
    if (end == count) return;
    gc_for_streams_evenly<block>(
        whole - head,
        [&](int64_t lane, int64_t slot, auto& parts) GC_LAMBDA_INLINE { step(head + lane, slot, parts); },
        first + head, (rest + head)...);
  }
}
GC_INLINE void gc_stream_fence() {
#if defined(__x86_64__)
  __builtin_ia32_sfence();
#endif
}

#endif
