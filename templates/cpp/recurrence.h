// A recurrent layer over all steps: h_t = cell(x_t, h_{t-1} W^T), one product and its gates a step.
//
// Called by generated code, with the products of all inputs with their weight in x (steps, rows, gates * units):
//
//   gc_recurrence<float>({steps, rows, units, reverse}, weight, packed, first, h, gc_lstm<float>{...});
//
// Layout     the weight (gates * units, units) is packed once, so that all gates of one register of units stand side by
//            side: packed[block][k][gate][lane]. One tile then holds every gate of its units, and the cell is computed
//            from the tile while that lies in L1. A null weight says that it is packed already, by gc_recurrence_pack_all.
//            packed holds that for whole blocks: graphc/codegen/cpp/packing.py (recurrent_elements) says how much.
// Threads    one parallel region over all steps and one barrier a step: threads share the units, so each reads its own
//            part of the weight, step after step, from its own cache; a block between two of them is shared by rows.
//            Every sum runs over k in order on one thread: results do not depend on the number of threads.
// Cells      a cell has  vectors, registers of a row of the tile, and unit_vectors, how many of those are of one gate;
//            step(t, before, row, unit, count, sums): the gates of `count` units from `unit` on at step t, whose state
//            before is that of step `before`, or the first for -1; sums has unit_vectors registers a gate; count is a
//            gc_whole for all but the last block, so that the cell becomes a few registers' straight code;
//            fetch(t, row, unit): brings what the step reads and writes near while the product runs.
#ifndef GC_RECURRENCE_H
#define GC_RECURRENCE_H

#include "gemm.h"
#include "vector_math.h"

struct gc_sequence {
  int64_t steps, rows, units;
  bool reverse;

  // The time of a step in the order in which they run, and of the one before it (-1: there is none).
  int64_t time(int64_t step) const { return reverse ? steps - 1 - step : step; }
  int64_t before(int64_t step) const { return step == 0 ? -1 : time(step - 1); }
};

// A number that the compiler knows.
template <int64_t N>
struct gc_whole {
  constexpr operator int64_t() const { return N; }
};

// ---- one product: rows of a state with a packed block ----

#define GC_CELL_REGISTERS (2 * GC_TILE_ROWS)  // accumulators of a tile
#define GC_CELL_AHEAD 32                      // rows of a packed block by which its first tile fetches ahead

// c[rows][V registers] (+)= a[rows][depth] b[depth][V registers], rows of b `b_row` apart.
template <class T, int R, int V>
GC_INLINE void gc_cell_tile(int64_t rows, int64_t depth, const T* a, const T* b, int64_t b_row, T* c, int64_t c_row,
                            bool accumulate, int64_t ahead = 0) {
  if (rows == R) gc_tile<T, R, V, GC_ROWS>(depth, a, depth, 1, b, b_row, nullptr, c, c_row, accumulate, ahead);
  else if constexpr (R > 1) gc_cell_tile<T, R - 1, V>(rows, depth, a, b, b_row, c, c_row, accumulate, ahead);
}

GC_INLINE int64_t gc_cell_blocks(int64_t units, int64_t width) { return gc_ceil_div(units, width); }

// What one thread of a team computes: tiles of all rows, of about equal height and none above what the registers hold,
// in block after block; the first and the last block may be shared with a neighbour.
struct gc_cell_share {
  int64_t rows, tiles, begin, end;

  gc_cell_share(int64_t rows, int64_t height, int64_t blocks, int64_t me, int64_t team)
      : rows(rows), tiles(gc_max_of<int64_t>(1, gc_ceil_div(rows, height))), begin(blocks * tiles * me / team),
        end(blocks * tiles * (me + 1) / team) {}

  int64_t row(int64_t tile) const { return rows * tile / tiles; }
  // The blocks that have any tile here, and those that have a certain one.
  int64_t first_block() const { return begin / tiles; }
  int64_t last_block() const { return gc_ceil_div(end, tiles); }
  int64_t first_block(int64_t tile) const { return gc_ceil_div(gc_max_of<int64_t>(0, begin - tile), tiles); }
  int64_t last_block(int64_t tile) const { return gc_ceil_div(gc_max_of<int64_t>(0, end - tile), tiles); }

  // run(row, rows, whether it is the first here) for the tiles of a block.
  template <class Run>
  void of_block(int64_t block, const Run& run) const {
    const int64_t first = gc_max_of<int64_t>(0, begin - block * tiles), last = gc_min_of(tiles, end - block * tiles);
    for (int64_t tile = first; tile < last; ++tile) run(row(tile), row(tile + 1) - row(tile), tile == first);
  }
};

// Blocks go up on one step and down on the next: those that the last step read last are still in L2.
GC_INLINE int64_t gc_cell_turn(int64_t step, int64_t turn, int64_t begin, int64_t end) {
  return step % 2 ? begin + end - 1 - turn : turn;
}

// packed[k][gate][lane] = weight[gate * units + unit + lane][k] for the units of a block.
template <class T, int V, int U>
void gc_recurrence_pack(int64_t units, int64_t block, const T* weight, T* packed) {
  constexpr int64_t L = GC_LANES(T);
  packed += block * units * V * L;
  for (int64_t j = 0; j < V; ++j) {
    const int64_t unit = (block * U + j % U) * L, count = gc_max_of<int64_t>(0, gc_min_of(L, units - unit));
    if (count > 0) gc_transpose(count, units, weight + (j / U * units + unit) * units, units, packed + j * L, V * L);
    else
      for (int64_t k = 0; k < units; ++k) __builtin_memset(packed + k * V * L + j * L, 0, L * sizeof(T));
  }
}

// The whole weight, for a program that packs it once.
template <class T, int V, int U>
void gc_recurrence_pack_all(int64_t units, const T* weight, T* packed) {
  const int64_t blocks = gc_cell_blocks(units, U * GC_LANES(T));
#pragma omp parallel for schedule(static) if (units > 256)
  for (int64_t block = 0; block < blocks; ++block) gc_recurrence_pack<T, V, U>(units, block, weight, packed);
}

// ---- the scan ----

template <class T, class Cell>
void gc_recurrence(const gc_sequence& s, const T* weight, T* packed, const T* first, T* h, const Cell& cell) {
  constexpr int64_t L = GC_LANES(T);
  constexpr int V = Cell::vectors, U = Cell::unit_vectors;
  const int64_t blocks = gc_cell_blocks(s.units, U * L), state = s.rows * s.units;
  const int64_t threads = gc_min_of(blocks, gc_threads_for((double)state * s.units * (V / U)));
#pragma omp parallel num_threads((int)threads) if (threads > 1)
  {
    const int64_t team = omp_get_num_threads(), me = omp_get_thread_num();
    const gc_cell_share share(s.rows, GC_CELL_REGISTERS / V, blocks, me, team);
    const int64_t begin = share.first_block(), end = share.last_block();
    if (weight) {
      for (int64_t block = blocks * me / team; block < blocks * (me + 1) / team; ++block)
        gc_recurrence_pack<T, V, U>(s.units, block, weight, packed);
#pragma omp barrier
    }
    for (int64_t step = 0; step < s.steps; ++step) {
      const int64_t t = s.time(step), before = s.before(step);
      const T* from = before < 0 ? first : h + before * state;
      for (int64_t turn = begin; turn < end; ++turn) {
        const int64_t block = gc_cell_turn(step, turn, begin, end);
        const int64_t unit = block * U * L, count = gc_min_of(U * L, s.units - unit);
        share.of_block(block, [&](int64_t row, int64_t rows, bool first) {
          alignas(64) T sums[GC_CELL_REGISTERS * L];
          for (int64_t i = 0; i < rows; ++i) cell.fetch(t, row + i, unit);
          gc_cell_tile<T, GC_CELL_REGISTERS / V, V>(rows, s.units, from + row * s.units,
                                                    packed + block * s.units * V * L, V * L, sums, V * L, false,
                                                    first ? GC_CELL_AHEAD * V * L : 0);
          for (int64_t i = 0; i < rows; ++i)
            if (count == U * L) cell.step(t, before, row + i, unit, gc_whole<U * L>{}, sums + i * V * L);
            else cell.step(t, before, row + i, unit, count, sums + i * V * L);
        });
      }
      if (team > 1) {
#pragma omp barrier
      }
    }
  }
}

// ---- cells ----

// A register of memory, to be read or written: rows begin anywhere, so it lies in two cache lines.
template <int Write, class T>
GC_INLINE void gc_fetch_register(const T* from) {
  __builtin_prefetch(from, Write);
  __builtin_prefetch(from + GC_LANES(T) - 1, Write);
}

// A register of each gate's inputs, and of each of the four that are kept, for one row of one step.
template <int Gates, class T>
GC_INLINE void gc_fetch_gates(const T* x, const T* gates, int64_t row, int64_t units, int64_t unit) {
#pragma GCC unroll 4
  for (int64_t gate = 0; gate < Gates; ++gate) gc_fetch_register<0>(x + (row * Gates + gate) * units + unit);
  if (!gates) return;
#pragma GCC unroll 4
  for (int64_t gate = 0; gate < 4; ++gate) gc_fetch_register<1>(gates + (row * 4 + gate) * units + unit);
}

template <class T, bool Relu>
struct gc_rnn {
  static constexpr int vectors = 2, unit_vectors = 2;
  int64_t rows, units;
  const T* x;
  T* h;

  void fetch(int64_t t, int64_t row, int64_t unit) const {
    for (int64_t i = 0; i < 2; ++i) {
      gc_fetch_register<0>(x + (t * rows + row) * units + unit + i * GC_LANES(T));
      gc_fetch_register<1>(h + (t * rows + row) * units + unit + i * GC_LANES(T));
    }
  }

  template <class Count>
  void step(int64_t t, int64_t, int64_t row, int64_t unit, Count count, const T* GC_RESTRICT sums) const {
    const int64_t at = (t * rows + row) * units + unit;
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) {
      const T total = x[at + i] + sums[i];
      h[at + i] = Relu ? gc_max(total, (T)0) : gc_tanh(total);
    }
  }
};

// The cell of one step lies in c (steps, rows, units) where others read it, else in `held` (rows, units).
template <class T, bool Clips>
struct gc_lstm {
  static constexpr int vectors = 4, unit_vectors = 1;
  int64_t rows, units;
  const T *x, *first;
  T *h, *c, *held, *gates;
  T low, high;

  void fetch(int64_t t, int64_t row, int64_t unit) const {
    gc_fetch_gates<4>(x, gates, t * rows + row, units, unit);
    gc_fetch_register<1>(h + (t * rows + row) * units + unit);
    if (c) gc_fetch_register<1>(c + (t * rows + row) * units + unit);
  }

  template <class Count>
  void step(int64_t t, int64_t before, int64_t row, int64_t unit, Count count, const T* GC_RESTRICT sums) const {
    constexpr int64_t L = GC_LANES(T);
    const int64_t at = row * units + unit, state = rows * units;
    const T* GC_RESTRICT in = x + (t * rows + row) * 4 * units + unit;
    const T* from = (before < 0 ? first : c ? c + before * state : held) + at;
    T *out = h + t * state + at, *cell = (c ? c + t * state : held) + at;
    alignas(64) T i[L], f[L], g[L], o[L];
#pragma omp simd
    for (int64_t k = 0; k < count; ++k) {
      i[k] = gc_sigmoid(in[k] + sums[k]);
      f[k] = gc_sigmoid(in[units + k] + sums[L + k]);
      g[k] = gc_tanh(in[2 * units + k] + sums[2 * L + k]);
      o[k] = gc_sigmoid(in[3 * units + k] + sums[3 * L + k]);
    }
#pragma omp simd
    for (int64_t k = 0; k < count; ++k) {
      T now = f[k] * from[k] + i[k] * g[k];
      if (Clips) now = gc_min(gc_max(now, low), high);
      cell[k] = now;
      out[k] = o[k] * gc_tanh(now);
    }
    if (!gates) return;
    T* saved = gates + (t * rows + row) * 4 * units + unit;
    __builtin_memcpy(saved, i, count * sizeof(T));
    __builtin_memcpy(saved + units, f, count * sizeof(T));
    __builtin_memcpy(saved + 2 * units, g, count * sizeof(T));
    __builtin_memcpy(saved + 3 * units, o, count * sizeof(T));
  }
};

template <class T>
struct gc_gru {
  static constexpr int vectors = 3, unit_vectors = 1;
  int64_t rows, units;
  const T *x, *first, *bias;
  T *h, *gates;

  void fetch(int64_t t, int64_t row, int64_t unit) const {
    gc_fetch_gates<3>(x, gates, t * rows + row, units, unit);
    gc_fetch_register<1>(h + (t * rows + row) * units + unit);
  }

  template <class Count>
  void step(int64_t t, int64_t before, int64_t row, int64_t unit, Count count, const T* GC_RESTRICT sums) const {
    constexpr int64_t L = GC_LANES(T);
    const int64_t at = row * units + unit, state = rows * units;
    const T* GC_RESTRICT in = x + (t * rows + row) * 3 * units + unit;
    const T* from = (before < 0 ? first : h + before * state) + at;
    T* out = h + t * state + at;
    alignas(64) T r[L], z[L], n[L], q[L];
#pragma omp simd
    for (int64_t k = 0; k < count; ++k) {
      r[k] = gc_sigmoid(in[k] + sums[k]);
      z[k] = gc_sigmoid(in[units + k] + sums[L + k]);
      q[k] = sums[2 * L + k] + bias[unit + k];
      n[k] = gc_tanh(in[2 * units + k] + r[k] * q[k]);
      out[k] = ((T)1 - z[k]) * n[k] + z[k] * from[k];
    }
    if (!gates) return;
    T* saved = gates + (t * rows + row) * 4 * units + unit;
    __builtin_memcpy(saved, r, count * sizeof(T));
    __builtin_memcpy(saved + units, z, count * sizeof(T));
    __builtin_memcpy(saved + 2 * units, n, count * sizeof(T));
    __builtin_memcpy(saved + 3 * units, q, count * sizeof(T));
  }
};

#endif
