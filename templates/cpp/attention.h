// out = softmax(scale q k^T + bias) v, a tile of rows at a time, without the matrix of scores; log-sum-exp beside it.
//
// Called by generated code:
//
//   gc_attention<float>({batch, queries, keys, depth, width, scale, causal, offset}, [&](int64_t item) {
//     return gc_attention_item<float>{{q + item * ..., row, column}, {k ...}, {v ...}, {bias or nullptr ...},
//                                     {random state or nullptr ...}, {out ...}, {log_sum_exp, row, 0}};
//   });
//
// Layout     element (i, j) of an operand of one item lies at data[i * row + j * column]; any strides, also 0. So heads
//            are read from and written to the rows of a projection without a copy.
// Rows       one running maximum, sum and row of the result for each query; keys come in blocks that stay in L2, and a
//            tile of GC_TILE_ROWS queries has its scores of a block in L1 (T. Dao, FlashAttention-2, 2023, algorithm 1).
// Causal     query i sees keys 0 .. i + offset; what lies behind is neither computed nor read.
// Dropout    with keep < 1 a probability is multiplied by 1 / keep or 0, by the number that philox.h has for its place
//            in (batch, queries, keys): the same whatever the blocks, and again in the gradient.
// NaN        a row of scores that are all -inf, or that holds NaN or +inf, gives NaN; without keys the result is 0.
// Order      each row's sums run over keys in order, in blocks that depend on depth, width and type only: results do not
//            depend on the number of threads or on the values of other rows.
// Threads    an `omp parallel` over blocks of queries of all items, shared out by the keys that they see.
#ifndef GC_ATTENTION_H
#define GC_ATTENTION_H

#include "attention_few.h"
#include "gemm.h"
#include "philox.h"
#include "vector_math.h"

constexpr int64_t gc_attention_most_keys = 512;  // of a block

struct gc_attention_shape {
  int64_t batch, queries, keys, depth, width;
  double scale;
  bool causal;
  int64_t offset;
  double keep = 1;
  uint32_t stream = 0;

  // How many keys a query sees.
  int64_t seen(int64_t query) const {
    return causal ? gc_max_of<int64_t>(0, gc_min_of(keys, query + offset + 1)) : keys;
  }
  // The first query that sees a key.
  int64_t first_query(int64_t key) const {
    return causal ? gc_max_of<int64_t>(0, gc_min_of(queries, key - offset)) : 0;
  }
  // Keys of a block: key and value rows of a block together take about 256 KB.
  template <class T>
  int64_t key_block() const {
    constexpr int64_t W = GC_TILE_VECTORS * GC_LANES(T);
    const int64_t rows = (1 << 18) / ((depth + width + W) * (int64_t)sizeof(T));
    return gc_max_of(2 * W, gc_min_of<int64_t>(gc_attention_most_keys, rows / W * W));
  }
  // Threads worth waking, at about 10 microseconds of work each.
  int64_t threads(double products) const {
    return gc_threads_for(products * batch * queries * gc_max_of<int64_t>(1, keys) * (depth + width));
  }
};

template <class T>
struct gc_strided {
  T* data;
  int64_t row, column;

  T* at(int64_t i, int64_t j = 0) const { return data + i * row + j * column; }
};

// The columns of a tile's or block's row, whole tiles wide.
template <class T>
constexpr int64_t gc_attention_width(int64_t columns) {
  return gc_round_up(columns, GC_TILE_VECTORS * GC_LANES(T));
}

// What belongs to one item of the batch.
template <class T>
struct gc_attention_item {
  gc_strided<const T> query, key, value, bias;  // bias.data may be null
  gc_strided<const int64_t> state;              // seed and step, where there is dropout
  gc_strided<T> out, log_sum_exp;               // data may be null: not wanted
};

// factors[j] = 1 / keep where dropout keeps key `key` + j of a query of item `number`, 0 where it drops it; whole tiles
// wide, so that no draw is made alone.
template <class T>
GC_NOINLINE void gc_dropout_factors(const gc_attention_shape& s, const gc_strided<const int64_t>& state, int64_t number,
                                    int64_t query, int64_t key, int64_t count, T* GC_RESTRICT factors) {
  const uint64_t seed = (uint64_t)*state.at(0), step = (uint64_t)*state.at(1);
  const int64_t first = (number * s.queries + query) * s.keys + key;
  const uint32_t stream = s.stream;
  const float keep = (float)s.keep;
  const T kept = (T)(1 / s.keep);
  count = gc_attention_width<T>(count);
#pragma omp simd
  for (int64_t j = 0; j < count; ++j)
    factors[j] = gc_philox_uniform(seed, step, stream, (uint64_t)(first + j)) < keep ? kept : (T)0;
}

// Cuts a thread's scratch into arrays.
template <class T>
struct gc_carver {
  char* next;

  T* take(int64_t count) {
    T* const mine = (T*)next;
    next += gc_round_up(count * (int64_t)sizeof(T), 64);
    return mine;
  }
};

// The first `columns` of a block of `count`.
template <class T>
GC_INLINE gc_panels<T> gc_first_columns(gc_panels<T> block, int64_t count, int64_t columns) {
  constexpr int64_t W = GC_TILE_VECTORS * GC_LANES(T);
  const int64_t last = columns > 0 ? (columns - 1) / W : 0;
  if (last < (count - 1) / W) block.last = block.data + last * block.step, block.last_row = block.row;
  return block;
}

// to[i, :] = factor * from[i, :], rows `step` apart.
template <class T>
GC_NOINLINE void gc_scaled_rows(int64_t rows, int64_t columns, gc_strided<const T> from, T factor, T* to, int64_t step) {
  for (int64_t i = 0; i < rows; ++i) {
    const T* source = from.at(i);
    T* target = to + i * step;
    if (from.column == 1) {
#pragma omp simd
      for (int64_t j = 0; j < columns; ++j) target[j] = factor * source[j];
    } else {
      for (int64_t j = 0; j < columns; ++j) target[j] = factor * source[j * from.column];
    }
  }
}

// scores[j] += bias for the keys from `key` on, and -inf behind those that the row sees, up to `width`.
template <class T>
GC_INLINE void gc_finish_scores(T* scores, int64_t seen, int64_t width, const T* bias, int64_t column) {
  if (bias && column == 1) {
#pragma omp simd
    for (int64_t j = 0; j < seen; ++j) scores[j] += bias[j];
  } else if (bias) {
    for (int64_t j = 0; j < seen; ++j) scores[j] += bias[j * column];
  }
  for (int64_t j = seen; j < width; ++j) scores[j] = -GC_INFINITY;
}

// The greatest of the scores and `greatest`; NaN is passed over, it comes back through the sum.
template <class T>
GC_INLINE T gc_greatest(const T* scores, int64_t width, T greatest) {
  constexpr int64_t W = GC_TILE_VECTORS * GC_LANES(T);
  T lanes[W];
  for (int64_t lane = 0; lane < W; ++lane) lanes[lane] = greatest;
  for (int64_t j = 0; j < width; j += W) {
#pragma omp simd
    for (int64_t lane = 0; lane < W; ++lane) {
      T score = scores[j + lane];
      lanes[lane] = score > lanes[lane] ? score : lanes[lane];
    }
  }
  return gc_fold(lanes, [](T a, T b) { return a > b ? a : b; });
}

// scores[j] = exp(scores[j] - shift); returns their sum.
template <class T>
GC_INLINE T gc_exponentials(T* scores, int64_t width, T shift) {
  constexpr int64_t W = GC_TILE_VECTORS * GC_LANES(T);
  T lanes[W] = {};
  for (int64_t j = 0; j < width; j += W) {
#pragma omp simd
    for (int64_t lane = 0; lane < W; ++lane) {
      T power = gc_exp(scores[j + lane] - shift);
      scores[j + lane] = power;
      lanes[lane] += power;
    }
  }
  return gc_fold(lanes, [](T a, T b) { return a + b; });
}

// ---- one block of queries on one thread ----

// The state of a block of queries: a row of `out` is a sum of values, to be divided by `sum`.
template <class T>
struct gc_attention_block {
  T *query, *scores, *out, *greatest, *sum, *keys, *values;
  int64_t most_keys, scores_row, out_row;

  static int64_t bytes(const gc_attention_shape& s, int64_t rows) {
    const int64_t keys = s.key_block<T>(), wide = gc_attention_width<T>(s.width);
    const int64_t counts[] = {GC_TILE_ROWS * s.depth, GC_TILE_ROWS * keys, rows * wide, rows, rows,
                              keys * s.depth,         keys * wide};
    int64_t total = 0;
    for (int64_t count : counts) total += gc_round_up(count * (int64_t)sizeof(T), 64);
    return total;
  }
  gc_attention_block(const gc_attention_shape& s, int64_t rows, char* scratch) {
    gc_carver<T> carver{scratch};
    most_keys = scores_row = s.key_block<T>(), out_row = gc_attention_width<T>(s.width);
    query = carver.take(GC_TILE_ROWS * s.depth), scores = carver.take(GC_TILE_ROWS * scores_row);
    out = carver.take(rows * out_row), greatest = carver.take(rows), sum = carver.take(rows);
    keys = carver.take(most_keys * s.depth), values = carver.take(most_keys * out_row);
  }
};

// The scores of a tile of queries from `row` on become probabilities, relative to each row's greatest score so far.
template <class T>
GC_NOINLINE void gc_attention_softmax(const gc_attention_shape& s, const gc_attention_item<T>& item,
                                      int64_t number, gc_attention_block<T>& b, int64_t first, int64_t row,
                                      int64_t rows, int64_t key, int64_t columns) {
  const int64_t width = gc_attention_width<T>(columns);
  for (int64_t i = 0; i < rows; ++i) {
    T* const scores = b.scores + i * b.scores_row;
    T &greatest = b.greatest[row + i - first], &sum = b.sum[row + i - first];
    const int64_t seen = gc_max_of<int64_t>(0, gc_min_of(columns, s.seen(row + i) - key));
    const T* bias = item.bias.data ? item.bias.at(row + i, key) : nullptr;
    gc_finish_scores(scores, seen, width, bias, item.bias.column);
    const T now = gc_greatest(scores, width, greatest);
    const T shift = now == -GC_INFINITY ? (T)0 : now;
    const T keep = gc_exp(greatest - shift);
    sum = sum * keep + gc_exponentials(scores, width, shift);
    if (now != greatest) {
      T* const out = b.out + (row + i - first) * b.out_row;
#pragma omp simd
      for (int64_t j = 0; j < b.out_row; ++j) out[j] *= keep;
    }
    greatest = now;
    if (s.keep < 1) {
      T factors[gc_attention_most_keys];
      gc_dropout_factors(s, item.state, number, row + i, key, seen, factors);
      for (int64_t j = 0; j < seen; ++j) scores[j] *= factors[j];
    }
  }
}

template <class T>
GC_NOINLINE void gc_attention_store(const gc_attention_shape& s, const gc_attention_item<T>& item,
                                    const gc_attention_block<T>& b, int64_t first, int64_t last) {
  for (int64_t i = first; i < last; ++i) {
    const T sum = b.sum[i - first];
    const T share = s.keys == 0 ? (T)0 : (T)1 / sum;
    const T* from = b.out + (i - first) * b.out_row;
    if (item.log_sum_exp.data) *item.log_sum_exp.at(i) = b.greatest[i - first] + gc_log(sum);
    if (!item.out.data) continue;
    T* const to = item.out.at(i);
    if (item.out.column == 1) {
#pragma omp simd
      for (int64_t j = 0; j < s.width; ++j) to[j] = from[j] * share;
    } else {
      for (int64_t j = 0; j < s.width; ++j) to[j * item.out.column] = from[j] * share;
    }
  }
}

// Rows of an operand, `rows` of them in all, to be brought near.
template <class T>
struct gc_attention_operand {
  gc_strided<const T> from;
  int64_t rows, columns;
};

// Brings rows first .. last of an item's operands near, while another item computes: its heads lie apart from each
// other, so no hardware guesses where the next one's rows are.
template <class T, int N>
GC_INLINE void gc_attention_fetch(int64_t first, int64_t last, const gc_attention_operand<T> (&operands)[N]) {
  constexpr int64_t line = 64 / (int64_t)sizeof(T);
  for (const auto& operand : operands) {
    if (operand.from.column != 1) continue;
    for (int64_t i = first; i < gc_min_of(last, operand.rows); ++i)
      for (int64_t j = 0; j < operand.columns; j += line) __builtin_prefetch(operand.from.at(i, j));
  }
}

// Queries first .. last of one item; `next`, which may be null, comes after it.
template <class T>
GC_NOINLINE void gc_attention_rows(const gc_attention_shape& s, const gc_attention_item<T>& item, int64_t number,
                                   gc_attention_block<T>& b, int64_t first, int64_t last,
                                   const gc_attention_item<T>* next) {
  __builtin_memset(b.out, 0, (size_t)((last - first) * b.out_row) * sizeof(T));
  for (int64_t i = 0; i < last - first; ++i) b.greatest[i] = -GC_INFINITY, b.sum[i] = 0;
  const gc_matrix<T> keys = {item.key.data, item.key.column, item.key.row};
  const gc_matrix<T> values = {item.value.data, item.value.row, item.value.column};
  const int64_t stop = last > first ? s.seen(last - 1) : 0;
  const bool few = s.queries <= GC_ATTENTION_FEW && item.key.column == 1;
  for (int64_t key = 0; key < stop; key += b.most_keys) {
    const int64_t count = gc_min_of(b.most_keys, stop - key), rows = last - first;
    gc_panels<T> right = {};
    if (!few) right = gc_right_block<T>(keys, rows, 0, s.depth, key, count, b.keys);
    const auto below = gc_right_block<T>(values, rows, key, count, 0, s.width, b.values);
    for (int64_t row = gc_max_of(first, s.first_query(key)); row < last; row += GC_TILE_ROWS) {
      const int64_t high = gc_min_of<int64_t>(GC_TILE_ROWS, last - row);
      const int64_t columns = gc_min_of(count, s.seen(row + high - 1) - key);
      if (next && key == 0)
        gc_attention_fetch<T>(row, row + high, {{next->key, s.keys, s.depth}, {next->value, s.keys, s.width},
                                                {next->query, s.queries, s.depth}});
      gc_scaled_rows<T>(high, s.depth, {item.query.at(row), item.query.row, item.query.column}, (T)s.scale, b.query,
                        s.depth);
      if (few)
        gc_few_scores(high, columns, s.depth, b.query, item.key.at(key), item.key.row, b.scores, b.scores_row);
      else
        gc_row_panel<T, GC_ROWS>(high, columns, s.depth, b.query, s.depth, 1, gc_first_columns(right, count, columns),
                                 b.scores, b.scores_row, false, {});
      gc_attention_softmax(s, item, number, b, first, row, high, key, columns);
      gc_row_panel<T, GC_ROWS>(high, s.width, columns, b.scores, b.scores_row, 1, below,
                               b.out + (row - first) * b.out_row, b.out_row, true, {});
    }
  }
  gc_attention_store(s, item, b, first, last);
}

// ---- threads ----

// Blocks of queries of all items, cut so that each thread has about the same number of scores.
struct gc_attention_shares {
  int64_t rows, blocks;  // queries of a block, blocks of an item

  gc_attention_shares(const gc_attention_shape& s, int64_t threads, int64_t most) {
    const int64_t wanted = gc_ceil_div(4 * threads, gc_max_of<int64_t>(1, s.batch));  // blocks an item
    const int64_t even = gc_ceil_div(gc_max_of<int64_t>(1, s.queries), gc_max_of<int64_t>(1, wanted));
    rows = gc_min_of(gc_round_up(even, GC_TILE_ROWS), most);
    blocks = gc_ceil_div(s.queries, rows);
  }
  // Scores of the blocks of an item before a block.
  double before(const gc_attention_shape& s, int64_t block) const {
    double total = 0;
    for (int64_t i = 0; i < block; ++i)
      total += (double)rows * (1 + s.seen(gc_min_of(s.queries, (i + 1) * rows) - 1));
    return total;
  }
  // The first block, of all items' in order, of a thread's share.
  int64_t begin(const gc_attention_shape& s, int64_t thread, int64_t threads) const {
    const double whole = before(s, blocks), goal = whole * s.batch * thread / threads;
    if (thread >= threads || whole == 0) return thread >= threads ? s.batch * blocks : 0;
    const int64_t item = gc_min_of(s.batch - 1, (int64_t)(goal / whole));
    int64_t block = 0;
    while (block < blocks && item * whole + before(s, block) < goal) ++block;
    return item * blocks + block;
  }
};

template <class T, class Operands>
void gc_attention(const gc_attention_shape& s, const Operands& operands) {
  if (s.batch == 0 || s.queries == 0) return;
  const int64_t threads = s.threads(1);
  const gc_attention_shares shares(s, threads, 36 * GC_TILE_ROWS);
  const gc_scratch_view team = gc_scratch_now;
#pragma omp parallel num_threads((int)threads) if (threads > 1)
  {
    const int64_t thread = omp_get_thread_num(), count = omp_get_num_threads();
    const gc_scratch_scope share(team, (int)thread);
    gc_attention_block<T> block(s, shares.rows, gc_scratch(gc_attention_block<T>::bytes(s, shares.rows)));
    const int64_t end = shares.begin(s, thread + 1, count);
    for (int64_t item = shares.begin(s, thread, count); item < end; ++item) {
      const int64_t first = item % shares.blocks * shares.rows, number = item / shares.blocks;
      const gc_attention_item<T> mine = operands(number);
      gc_attention_item<T> next = mine;
      const bool fetches = shares.blocks == 1 && item + 1 < end;
      if (fetches) next = operands(number + 1);
      gc_attention_rows<T>(s, mine, number, block, first, gc_min_of(s.queries, first + shares.rows),
                           fetches ? &next : nullptr);
    }
  }
}

#endif
