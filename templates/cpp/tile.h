// The innermost parts of every contraction: blocking, a thread's workspace, the register tile, packing and transposing.
//
// Called by gemm.h and conv.h only. A block of C comes about as tiles of GC_TILE_ROWS x GC_TILE_VECTORS registers, each
// a sum over a block of k; scalars of A are broadcast from where they lie, rows of B are loaded whole. These functions
// are compiled once for each element type, however many products a program holds.
#ifndef GC_TILE_H
#define GC_TILE_H

#include "scratch.h"

// ---- blocking: a tile of C in registers, a panel of A in L1, a block of B in L2 ----

#if defined(__AVX512F__) || defined(__aarch64__)
#define GC_TILE_ROWS 14  // 28 accumulators of 32 registers
#else
#define GC_TILE_ROWS 6  // 12 of 16
#endif
#define GC_TILE_VECTORS 2
#if defined(__AVX512F__) || defined(__aarch64__)
#define GC_RIGHT_BYTES (1 << 20)  // of a block of B: CPUs this wide have an L2 of a megabyte or more
#else
#define GC_RIGHT_BYTES (1 << 19)
#endif
#define GC_DEEPEST(T) (GC_RIGHT_BYTES / 256 / (int64_t)sizeof(T))    // sums no longer are made in one go
#define GC_BLOCK_DEPTH(T) (GC_RIGHT_BYTES / 512 / (int64_t)sizeof(T))  // of longer ones, made block by block
#define GC_BLOCK_COLUMNS 384
#define GC_SUMS(T) ((9 << 16) / (int64_t)sizeof(T))            // that wait in the workspace between blocks of k
#define GC_STRIP_DEPTH 1024    // of shorter sums several panels are finished together: longer runs for the epilogue
#define GC_STREAMED_TILES 4    // of rows that meet each panel of a streamed operand
#define GC_FINISH_COLUMNS 128  // finished at once: a panel of rows of these lies in L1
#define GC_MOST_COLUMNS 1024
#define GC_MOST_OFFSETS 8192
#define GC_WEIGHT_BYTES (1 << 19)

// Blocks of B for sums of `depth` terms. Sums made in one go need no memory between blocks of k, and B is packed once.
struct gc_blocks {
  int64_t depth, columns;
};

template <class T>
GC_INLINE gc_blocks gc_blocks_of(int64_t depth) {
  constexpr int64_t W = GC_TILE_VECTORS * GC_LANES(T), room = GC_RIGHT_BYTES / (int64_t)sizeof(T) * 3 / 4;
  if (depth > GC_DEEPEST(T)) return {gc_ceil_div(depth, gc_ceil_div(depth, GC_BLOCK_DEPTH(T))), GC_BLOCK_COLUMNS};
  const int64_t deep = gc_max_of<int64_t>(1, depth), columns = gc_min_of<int64_t>(GC_MOST_COLUMNS, room / deep);
  return {deep, gc_max_of<int64_t>(GC_RIGHT_BYTES / (int64_t)sizeof(T) / GC_DEEPEST(T), columns / W * W)};
}

template <class T>
struct gc_workspace {
  alignas(64) T left[GC_TILE_ROWS * (GC_DEEPEST(T) + 16)];
  alignas(64) T right[GC_RIGHT_BYTES / sizeof(T)];
  static constexpr int64_t strips = GC_SUMS(T) + GC_WEIGHT_BYTES / sizeof(T);  // from sums on, where none wait
  alignas(64) T sums[GC_SUMS(T)];
  alignas(64) T weight[GC_WEIGHT_BYTES / sizeof(T)];  // for conv.h, as are the offsets
  alignas(64) int32_t offsets[GC_MOST_OFFSETS];
};
// graphc/codegen/cpp/scratch.py knows the same number; a test compares them.
constexpr int64_t gc_workspace_bytes = (int64_t)sizeof(gc_workspace<float>) + 4096;
static_assert((int64_t)sizeof(gc_workspace<double>) <= gc_workspace_bytes, "f64 has its own, no larger, blocks");

// The calling thread's workspace: its share of the kernel's scratch.
inline void* gc_thread_workspace() {
  const gc_scratch_view& mine = gc_scratch_now;
  if (mine.share - mine.rows >= gc_workspace_bytes) return mine.data + mine.rows;
  static thread_local gc_own_memory memory;
  return memory.at_least(gc_workspace_bytes);
}

// ---- one tile of C in registers ----

// How a tile reads B: rows where they lie, rows found by offsets, or packets of 32 bits that hold two bf16 or four bytes
// along k (packet.h), where T is the type of the sums.
enum gc_reads { GC_ROWS, GC_GATHERED, GC_PAIRS, GC_QUADS, GC_QUADS_UNSIGNED };

// sum += the products of the elements in two packets, `left` the same in all lanes. The instruction is written out: the
// names of the compilers' intrinsics differ and need a header that costs more than a whole program.
template <int Reads, class Vector>
GC_INLINE void gc_add_packets(Vector& sum, Vector left, Vector right) {
#if defined(__AVX512BF16__) && defined(__AVX512VNNI__)
  if constexpr (Reads == GC_PAIRS) asm("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(left), "v"(right));
  else if constexpr (Reads == GC_QUADS) asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(right), "v"(left));
  else asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(left), "v"(right));
#else
  (void)sum, (void)left, (void)right;
  __builtin_trap();
#endif
}

template <class Vector, class T>
GC_INLINE Vector gc_spread_packet(const T* from) {
  Vector result;
#if defined(__AVX512F__)
  asm("vpbroadcastd %1, %0" : "=v"(result) : "m"(*from));
#else
  result = Vector{};
  (void)from;
#endif
  return result;
}

// c[R][V lanes] (+)= a[R][depth] b[depth][V lanes]. Scalars of A are broadcast, so A may lie in any strides.
// Row k of B lies b_row further than row k - 1, or, where it is gathered, at b + offsets[k]. B is fetched `b_ahead`
// elements ahead of its use: it streams from memory or from L2. Strip: a_row is 1, a_col is R, and A is fetched ahead too.
// Copies: the rows of B are written to `copy`, side by side.
template <class T, int R, int V, int Reads, bool Strip = false, bool Copies = false>
GC_NOINLINE void gc_tile(int64_t depth, const T* GC_RESTRICT a, int64_t a_row, int64_t a_col, const T* GC_RESTRICT b,
                         int64_t b_row, const int32_t* GC_RESTRICT offsets, T* GC_RESTRICT c, int64_t c_row,
                         bool accumulate, int64_t b_ahead = 0, T* GC_RESTRICT copy = nullptr) {
  typedef gc_vector<T> vec;
  typedef gc_vector_unaligned<T> memory;
  constexpr int L = GC_LANES(T);
  vec sum[R][V];
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i)
#pragma GCC unroll 8
    for (int j = 0; j < V; ++j) sum[i][j] = accumulate ? (vec) * (const memory*)(c + i * c_row + j * L) : vec{};
  for (int64_t k = 0; k < depth; ++k) {
    vec right[V];
#pragma GCC unroll 8
    for (int j = 0; j < V; ++j) right[j] = *(const memory*)(b + (Reads == GC_GATHERED ? offsets[k] : 0) + j * L);
    if (Reads != GC_GATHERED && V <= 2 * GC_TILE_VECTORS)
#pragma GCC unroll 8
      for (int j = 0; j < V; ++j) __builtin_prefetch(b + b_ahead + j * L, 0, Copies ? 2 : 3);
    if (Copies) {
#pragma GCC unroll 8
      for (int j = 0; j < V; ++j) *(memory*)(copy + j * L) = right[j];
      copy += V * L;
    }
    if (Strip) __builtin_prefetch(a + 8 * R);
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i) {
      if constexpr (Reads <= GC_GATHERED) {
        T left = a[i * (Strip ? 1 : a_row)];
#pragma GCC unroll 8
        for (int j = 0; j < V; ++j) sum[i][j] += left * right[j];
      } else {
        const vec left = gc_spread_packet<vec>(a + i * (Strip ? 1 : a_row));
#pragma GCC unroll 8
        for (int j = 0; j < V; ++j) gc_add_packets<Reads>(sum[i][j], left, right[j]);
      }
    }
    a += Strip ? R : a_col;
    if (Reads != GC_GATHERED) b += b_row;
  }
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i)
#pragma GCC unroll 8
    for (int j = 0; j < V; ++j) *(memory*)(c + i * c_row + j * L) = sum[i][j];
}

// How far ahead of their use rows of packed panels are fetched, in elements: 4 KiB are a few hundred nanoseconds of work.
template <class T>
constexpr int64_t gc_panels_ahead = 4096 / (int64_t)sizeof(T);

// A block of B as panels of 2 lanes' width, the last of 1 or 2: packed by ourselves, B's own rows, or gathered rows.
template <class T>
struct gc_panels {
  const T* data;
  int64_t step, row;  // from panel to panel, from row to row
  const T* last;
  int64_t last_row;
  const int32_t* offsets;  // of the rows, where they are gathered
  int64_t ahead = 0;       // elements by which to fetch ahead

  // Columns begin .. begin + count of `columns`, a multiple of a panel's width on.
  gc_panels part(int64_t begin, int64_t count, int64_t columns) const {
    constexpr int64_t W = GC_TILE_VECTORS * GC_LANES(T);
    gc_panels some = *this;
    some.data = data + begin / W * step;
    if (begin + count < columns) some.last = some.data + (count - 1) / W * step, some.last_row = row;
    return some;
  }
};

template <int R>
struct gc_height {
  static constexpr int rows = R;
};

// Calls tile(gc_height<R>, first) for the tiles of up to GC_TILE_ROWS rows: a full one, one of up to 8, or two that are
// as even as they can be. A tile of fewer than 4 rows has too few sums in flight, so none is cut off another.
template <class Tile>
GC_INLINE void gc_in_tiles(int64_t rows, const Tile& tile) {
  if (rows == GC_TILE_ROWS) return tile(gc_height<GC_TILE_ROWS>{}, (int64_t)0);
  for (int64_t first = 0, high = rows > 8 ? (rows + 1) / 2 : rows; first < rows; first += high, high = rows - first) {
#define GC_HEIGHT(R) \
  if (high == R) tile(gc_height<R>{}, first);
    GC_HEIGHT(1) GC_HEIGHT(2) GC_HEIGHT(3) GC_HEIGHT(4) GC_HEIGHT(5)
#if GC_TILE_ROWS > 8
    GC_HEIGHT(6) GC_HEIGHT(7) GC_HEIGHT(8)
#endif
#undef GC_HEIGHT
  }
}

template <class T, int V, int Reads>
GC_INLINE void gc_tile_rows(int64_t rows, int64_t depth, const T* a, int64_t a_row, int64_t a_col, const T* b,
                            int64_t b_row, const int32_t* offsets, T* c, int64_t c_row, bool accumulate,
                            int64_t b_ahead) {
  gc_in_tiles(rows, [&](auto height, int64_t first) {
    gc_tile<T, decltype(height)::rows, V, Reads>(depth, a + first * a_row, a_row, a_col, b, b_row, offsets,
                                                 c + first * c_row, c_row, accumulate, first ? 0 : b_ahead);
  });
}

// What the next panel will read of A, to be fetched while this one computes: runs of `length` elements.
template <class T>
struct gc_ahead {
  const T* data;  // null: nothing to fetch
  int64_t runs, step, length;

  // The share of columns begin .. begin + count in the fetching, of `columns`.
  gc_ahead part(int64_t begin, int64_t count, int64_t columns) const {
    const int64_t first = begin * runs / columns, last = (begin + count) * runs / columns;
    return {data ? data + first * step : nullptr, last - first, step, length};
  }

  void fetch() const {
    for (int64_t i = 0; i < runs; ++i)
      for (int64_t k = 0; k < length; k += 64 / (int64_t)sizeof(T)) __builtin_prefetch(data + i * step + k);
  }
};

// One panel of rows of C: `columns` is rounded up to whole lanes, c has room for them.
template <class T, int Reads>
GC_NOINLINE void gc_row_panel(int64_t rows, int64_t columns, int64_t depth, const T* a, int64_t a_row, int64_t a_col,
                              const gc_panels<T>& b, T* c, int64_t c_row, bool accumulate, const gc_ahead<T>& ahead) {
  constexpr int64_t L = GC_LANES(T), W = GC_TILE_VECTORS * L;
  int64_t n = 0;
  if (rows == 1 && b.step == W)  // panels side by side: a single row takes several, for enough sums in flight
    for (; n + 4 * W < columns; n += 4 * W)
      gc_tile<T, 1, 4 * GC_TILE_VECTORS, Reads>(depth, a, a_row, a_col, b.data + n, b.row, b.offsets, c + n, c_row,
                                                 accumulate);
  if constexpr (Reads == GC_GATHERED && GC_TILE_ROWS > 8)  // rows of gathered panels go on: four take 24 sums
    if (rows == 4)
      for (; n + 3 * W <= columns; n += 3 * W)
        gc_tile<T, 4, 3 * GC_TILE_VECTORS, Reads>(depth, a, a_row, a_col, b.data + n, b.row, b.offsets, c + n, c_row,
                                                   accumulate);
  for (; n < columns; n += W) {
    if (ahead.data) ahead.part(n, gc_min_of(W, columns - n), columns).fetch();
    const bool last = n + W >= columns;
    const T* from = last ? b.last : b.data + n / W * b.step;
    const int64_t row = last ? b.last_row : b.row;
    if (columns - n > L)
      gc_tile_rows<T, GC_TILE_VECTORS, Reads>(rows, depth, a, a_row, a_col, from, row, b.offsets, c + n, c_row,
                                               accumulate, b.ahead);
    else
      gc_tile_rows<T, 1, Reads>(rows, depth, a, a_row, a_col, from, row, b.offsets, c + n, c_row, accumulate, b.ahead);
  }
}

// ---- transposing in registers ----

// The lower or upper halves of x and y, interleaved.
template <class V, int L, bool High>
GC_INLINE V gc_interleave(V x, V y) {
  constexpr int h = High ? L / 2 : 0;
  if constexpr (L == 16)
    return __builtin_shufflevector(x, y, h, h + 16, h + 1, h + 17, h + 2, h + 18, h + 3, h + 19, h + 4, h + 20, h + 5,
                                   h + 21, h + 6, h + 22, h + 7, h + 23);
  else if constexpr (L == 8) return __builtin_shufflevector(x, y, h, h + 8, h + 1, h + 9, h + 2, h + 10, h + 3, h + 11);
  else if constexpr (L == 4) return __builtin_shufflevector(x, y, h, h + 4, h + 1, h + 5);
  else return __builtin_shufflevector(x, y, h, h + 2);
}

// to[j][i] = from[i][j] for L x L elements: log2(L) rounds of interleaving the two halves of the rows. Rows from `rows`
// on count as zeros.
template <class T>
GC_INLINE void gc_transpose_square(int64_t rows, const T* from, int64_t from_row, T* to, int64_t to_row) {
  typedef gc_vector<T> vec;
  typedef gc_vector_unaligned<T> memory;
  constexpr int L = GC_LANES(T);
  vec x[L], y[L];
#pragma GCC unroll 16
  for (int i = 0; i < L; ++i) x[i] = i < rows ? (vec)*(const memory*)(from + i * from_row) : vec{};
#pragma GCC unroll 4
  for (int half = L; half > 1; half /= 2) {
#pragma GCC unroll 16
    for (int i = 0; i < L / 2; ++i) {
      y[2 * i] = gc_interleave<vec, L, false>(x[i], x[i + L / 2]);
      y[2 * i + 1] = gc_interleave<vec, L, true>(x[i], x[i + L / 2]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < L; ++i) x[i] = y[i];
  }
#pragma GCC unroll 16
  for (int i = 0; i < L; ++i) *(memory*)(to + i * to_row) = x[i];
}

// A square at the edge.
template <class T>
GC_NOINLINE void gc_transpose_edge(int64_t rows, int64_t columns, const T* from, int64_t from_row, T* to,
                                   int64_t to_row) {
  typedef gc_vector<T> vec;
  typedef gc_vector_unaligned<T> memory;
  constexpr int64_t L = GC_LANES(T);
  if (columns == L) {
    gc_transpose_square(rows, from, from_row, to, to_row);
    return;
  }
  alignas(64) T whole[L * L] = {}, turned[L * L];
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < columns; ++j) whole[i * L + j] = from[i * from_row + j];
  gc_transpose_square<T>(L, whole, L, turned, L);
  for (int64_t j = 0; j < columns; ++j) *(memory*)(to + j * to_row) = *(const vec*)(turned + j * L);
}

// to[j * to_row + i] = from[i * from_row + j] for i < rows, j < columns, and zero for the rest of the last whole lanes.
template <class T>
GC_NOINLINE void gc_transpose(int64_t rows, int64_t columns, const T* GC_RESTRICT from, int64_t from_row,
                              T* GC_RESTRICT to, int64_t to_row) {
  constexpr int64_t L = GC_LANES(T);
  for (int64_t i = 0; i < rows; i += L)
    for (int64_t j = 0; j < columns; j += L) {
      const T* corner = from + i * from_row + j;
      const int64_t high = gc_min_of(L, rows - i), wide = gc_min_of(L, columns - j);
      if (high == L && wide == L) gc_transpose_square(L, corner, from_row, to + j * to_row + i, to_row);
      else gc_transpose_edge(high, wide, corner, from_row, to + j * to_row + i, to_row);
    }
}

// out[i] = from[i * stride] in the type of the sums.
template <class T, class S>
GC_NOINLINE void gc_convert(int64_t count, const S* GC_RESTRICT from, int64_t stride, T* GC_RESTRICT out) {
  if (stride == 1) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) out[i] = gc_widened<T>(from[i]);
  } else {
    for (int64_t i = 0; i < count; ++i) out[i] = gc_widened<T>(from[i * stride]);
  }
}

// Packets of 32 bits from `count` elements, the last ones filled with zeros.
template <class T, class S>
GC_NOINLINE void gc_copy_packets(int64_t count, int64_t packets, const S* GC_RESTRICT from, int64_t stride,
                                 T* GC_RESTRICT out) {
  if (packets > 0) out[packets - 1] = 0;
  if (stride == 1) {
    __builtin_memcpy(out, from, count * sizeof(S));
    return;
  }
  for (int64_t i = 0; i < count; ++i) __builtin_memcpy((char*)out + i * sizeof(S), from + i * stride, sizeof(S));
}

// One panel of a strided matrix: out[i * width + j] = from[i, j], and zero for columns <= j < width.
template <class T>
GC_NOINLINE void gc_pack_panel(const T* GC_RESTRICT from, int64_t row_stride, int64_t col_stride, int64_t depth,
                               int64_t columns, int64_t width, T* GC_RESTRICT out) {
  typedef gc_vector<T> vec;
  typedef gc_vector_unaligned<T> memory;
  constexpr int64_t L = GC_LANES(T);
  if (row_stride == 1 && col_stride != 1) {
    gc_transpose(columns, depth, from, col_stride, out, width);
  } else if (col_stride == 1 && columns == width) {
    for (int64_t k = 0; k < depth; ++k)
      for (int64_t j = 0; j < width; j += L) *(vec*)(out + k * width + j) = *(const memory*)(from + k * row_stride + j);
  } else {
    for (int64_t k = 0; k < depth; ++k) {
      for (int64_t j = 0; j < columns; ++j) out[k * width + j] = from[k * row_stride + j * col_stride];
      for (int64_t j = columns; j < width; ++j) out[k * width + j] = 0;
    }
  }
}

#endif
