// The scan of recurrence.h back in time: the gradient of every step's gates, and of the first states.
//
//   gc_recurrence_gradient<float>({steps, rows, units, reverse}, weight, packed, carried, ds, dh0, gates,
//                                 gc_lstm_gradient<float>{...});
//
// A step first takes what its gates receive from the states' gradient and from what the step after it sent back
// (`carried`, rows of gc_carried_row elements), and writes that to ds (steps, rows, gates * units); the product of
// ds with the weight is then what it sends back itself. The gradients of the weights are products over all steps,
// outside. A thread computes the gates of those units whose columns of the product it computes, so there is one barrier
// a step, between the two.
#ifndef GC_RECURRENCE_GRADIENT_H
#define GC_RECURRENCE_GRADIENT_H

#include "recurrence.h"

#define GC_BACK_VECTORS 2

template <class T>
GC_INLINE int64_t gc_carried_row(int64_t units) {
  return gc_round_up(units, GC_BACK_VECTORS * GC_LANES(T));
}

// packed[k][lane] = weight[k][unit + lane] for the units of a block, with zeros behind the last.
template <class T>
void gc_recurrence_pack_back(int64_t depth, int64_t units, int64_t block, const T* weight, T* packed) {
  constexpr int64_t W = GC_BACK_VECTORS * GC_LANES(T);
  const int64_t unit = block * W, count = gc_min_of(W, units - unit);
  packed += block * depth * W;
  for (int64_t k = 0; k < depth; ++k) {
    const T* from = weight + k * units + unit;
    if (count == W)
      for (int64_t i = 0; i < W; ++i) packed[k * W + i] = from[i];
    else
      for (int64_t i = 0; i < W; ++i) packed[k * W + i] = i < count ? from[i] : (T)0;
  }
}

template <class T, class Cell>
void gc_recurrence_gradient(const gc_sequence& s, const T* weight, T* packed, T* carried, const T* ds, T* dh0,
                            const Cell& cell) {
  constexpr int V = GC_BACK_VECTORS;
  constexpr int64_t W = V * GC_LANES(T);
  const int64_t depth = Cell::gates * s.units, pitch = gc_carried_row<T>(s.units);
  const int64_t blocks = gc_cell_blocks(s.units, W);
  const int64_t threads = gc_min_of(blocks, gc_threads_for((double)s.rows * s.units * depth));
#pragma omp parallel num_threads((int)threads) if (threads > 1)
  {
    const int64_t team = omp_get_num_threads(), me = omp_get_thread_num();
    const gc_cell_share share(s.rows, GC_CELL_REGISTERS / V, blocks, me, team);
    const int64_t begin = share.first_block(), end = share.last_block();
    for (int64_t block = blocks * me / team; block < blocks * (me + 1) / team; ++block)
      gc_recurrence_pack_back(depth, s.units, block, weight, packed);
    // run(row, unit, count) for the units of each row whose gates and sums are this thread's.
    const auto for_rows = [&](const auto& run) {
      for (int64_t tile = 0; tile < share.tiles; ++tile) {
        const int64_t unit = share.first_block(tile) * W, stop = gc_min_of(s.units, share.last_block(tile) * W);
        for (int64_t row = share.row(tile); unit < stop && row < share.row(tile + 1); ++row) run(row, unit, stop - unit);
      }
    };
    for_rows([&](int64_t row, int64_t unit, int64_t count) {
      __builtin_memset(carried + row * pitch + unit, 0, gc_round_up(count, W) * sizeof(T));
      cell.start(row, unit, count);
    });
    for (int64_t step = s.steps - 1; step >= 0; --step) {
      const int64_t t = s.time(step);
      for_rows([&](int64_t row, int64_t unit, int64_t count) {
        cell.step(t, s.before(step), row, unit, count, carried + row * pitch + unit);
      });
      // All of the step's gates, and before the first product the whole weight, are there from here on.
      if (team > 1) {
#pragma omp barrier
      }
      for (int64_t turn = begin; turn < end; ++turn) {
        const int64_t block = gc_cell_turn(step, turn, begin, end);
        const bool narrow = s.units - block * W <= GC_LANES(T);
        share.of_block(block, [&](int64_t row, int64_t rows, bool first) {
          const T *from = ds + (t * s.rows + row) * depth, *with = packed + block * depth * W;
          T* const to = carried + row * pitch + block * W;
          const int64_t ahead = first ? GC_CELL_AHEAD * W : 0;
          if (narrow) gc_cell_tile<T, GC_CELL_REGISTERS / V, 1>(rows, depth, from, with, W, to, pitch, Cell::keeps, ahead);
          else gc_cell_tile<T, GC_CELL_REGISTERS / V, V>(rows, depth, from, with, W, to, pitch, Cell::keeps, ahead);
        });
      }
    }
    if (dh0)
      for_rows([&](int64_t row, int64_t unit, int64_t count) {
        __builtin_memcpy(dh0 + row * s.units + unit, carried + row * pitch + unit, count * sizeof(T));
      });
  }
}

// ---- cells: step(t, before, row, unit, count, carried); `keeps` says that carried then holds a part of the sum ----

template <class T, bool Relu>
struct gc_rnn_gradient {
  static constexpr int gates = 1;
  static constexpr bool keeps = false;
  int64_t rows, units;
  const T *dh, *h;
  T* dx;

  void start(int64_t, int64_t, int64_t) const {}

  void step(int64_t t, int64_t, int64_t row, int64_t unit, int64_t count, const T* carried) const {
    const int64_t at = (t * rows + row) * units + unit;
#pragma omp simd
    for (int64_t k = 0; k < count; ++k) {
      const T y = h[at + k], slope = Relu ? (T)(y > 0) : (T)1 - y * y;
      dx[at + k] = (dh[at + k] + carried[k]) * slope;
    }
  }
};

// held (rows, units) is the gradient of the cell, handed from step to step.
template <class T, bool Clips>
struct gc_lstm_gradient {
  static constexpr int gates = 4;
  static constexpr bool keeps = false;
  int64_t rows, units;
  const T *dh, *first, *c, *saved, *dc;
  T *held, *dx;
  T low, high;

  void start(int64_t row, int64_t unit, int64_t count) const {
    __builtin_memset(held + row * units + unit, 0, count * sizeof(T));
  }

  void step(int64_t t, int64_t before, int64_t row, int64_t unit, int64_t count, const T* GC_RESTRICT carried) const {
    const int64_t at = row * units + unit, state = rows * units;
    const T *head = dh + t * state + at, *cells = c + t * state + at, *more = dc ? dc + t * state + at : nullptr;
    const T* from = (before < 0 ? first : c + before * state) + at;
    const T* gate = saved + (t * rows + row) * 4 * units + unit;
    T *GC_RESTRICT out = dx + (t * rows + row) * 4 * units + unit, *GC_RESTRICT cell = held + at;
    if (more)
#pragma omp simd
      for (int64_t k = 0; k < count; ++k) cell[k] += more[k];
#pragma omp simd
    for (int64_t k = 0; k < count; ++k) {
      const T i = gate[k], f = gate[units + k], g = gate[2 * units + k], o = gate[3 * units + k];
      const T total = head[k] + carried[k], y = gc_tanh(cells[k]);
      T d = cell[k] + total * o * ((T)1 - y * y);
      if (Clips) d = cells[k] > low && cells[k] < high ? d : (T)0;
      out[k] = d * g * (i * ((T)1 - i));
      out[units + k] = d * from[k] * (f * ((T)1 - f));
      out[2 * units + k] = d * i * ((T)1 - g * g);
      out[3 * units + k] = total * y * (o * ((T)1 - o));
      cell[k] = d * f;
    }
  }
};

// ds is the gradient of the product with the weight; dx that of the inputs.
template <class T, bool Inputs>
struct gc_gru_gradient {
  static constexpr int gates = 3;
  static constexpr bool keeps = true;
  int64_t rows, units;
  const T *dh, *first, *h, *saved;
  T *dx, *ds;

  void start(int64_t, int64_t, int64_t) const {}

  void step(int64_t t, int64_t before, int64_t row, int64_t unit, int64_t count, T* GC_RESTRICT carried) const {
    const int64_t at = row * units + unit, state = rows * units, place = (t * rows + row) * 3 * units + unit;
    const T* head = dh + t * state + at;
    const T* from = (before < 0 ? first : h + before * state) + at;
    const T* gate = saved + (t * rows + row) * 4 * units + unit;
    T *GC_RESTRICT in = dx + place, *GC_RESTRICT out = ds + place;
#pragma omp simd
    for (int64_t k = 0; k < count; ++k) {
      const T r = gate[k], z = gate[units + k], n = gate[2 * units + k], q = gate[3 * units + k];
      const T total = head[k] + carried[k];
      const T dn = total * ((T)1 - z) * ((T)1 - n * n), dr = dn * q * (r * ((T)1 - r));
      const T dz = total * (from[k] - n) * (z * ((T)1 - z));
      if (Inputs) {
        in[k] = dr;
        in[units + k] = dz;
        in[2 * units + k] = dn;
      }
      out[k] = dr;
      out[units + k] = dz;
      out[2 * units + k] = dn * r;
      carried[k] = total * z;
    }
  }
};

#endif
