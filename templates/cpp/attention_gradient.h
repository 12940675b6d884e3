// Gradients of attention's query, key and value; the scores are made again, a block at a time, from log-sum-exp.
//
//   gc_attention_gradient<float>({batch, queries, keys, depth, width, scale, causal, offset}, [&](int64_t item) {
//     return gc_attention_gradients<float>{item, query, key, value, bias, state, d_out, log_sum_exp, delta,
//                                          d_query, d_key, d_value};
//   });
//
// delta      sum(out * d_out) of each row, less the gradient of log_sum_exp.
// Formulas   p = exp(s - log_sum_exp), ds = scale p (m d_out v^T - delta); d_query = ds k, d_key = ds^T q,
//            d_value = (m p)^T d_out, m the factors of dropout (T. Dao, FlashAttention-2, 2023, algorithm 2). A key that a query does not see gets
//            nothing from it. Results whose data is null are not wanted.
// Order      d_query sums over keys in order, d_key and d_value over queries in order, all in blocks of fixed size: the
//            same bits whether an item is done at once or, where items are few, its queries and its keys apart.
#ifndef GC_ATTENTION_GRADIENT_H
#define GC_ATTENTION_GRADIENT_H

#include "attention.h"

template <class T>
struct gc_attention_gradients {
  int64_t number;
  gc_strided<const T> query, key, value, bias;
  gc_strided<const int64_t> state;
  gc_strided<const T> d_out, log_sum_exp, delta;
  gc_strided<T> d_query, d_key, d_value;
};

// Sizes of the blocks: their scores and slopes, and the sums of a block of keys, stay in L2.
#define GC_GRADIENT_ROWS (8 * GC_TILE_ROWS)
#define GC_GRADIENT_RUN 4  // items that a thread takes at a time
template <class T>
constexpr int64_t gc_gradient_keys = 512 / (int64_t)sizeof(T);

// A thread's arrays.
template <class T>
struct gc_gradient_block {
  static constexpr int64_t most_keys = gc_gradient_keys<T>, most_rows = GC_GRADIENT_ROWS;
  T *rows, *p, *ds, *d_query, *d_key, *d_value, *keys_across, *values_across, *keys, *d_out, *query;
  int64_t depth_row, width_row;

  // `queries`: how many rows of d_query are summed at once, 0 where that happens in place.
  gc_gradient_block(const gc_attention_shape& s, int64_t queries, char* scratch) { end = carve(s, queries, scratch); }
  static int64_t bytes(const gc_attention_shape& s, int64_t queries) {
    return (int64_t)(gc_gradient_block(s, queries, nullptr).end - (char*)nullptr);
  }

 private:
  char* end;
  char* carve(const gc_attention_shape& s, int64_t queries, char* scratch) {
    gc_carver<T> carver{scratch};
    depth_row = gc_attention_width<T>(s.depth), width_row = gc_attention_width<T>(s.width);
    rows = carver.take(GC_TILE_ROWS * s.depth), p = carver.take(most_rows * most_keys);
    ds = carver.take(most_rows * most_keys), d_query = carver.take(queries * depth_row);
    d_key = carver.take(most_keys * depth_row), d_value = carver.take(most_keys * width_row);
    keys_across = carver.take(most_keys * s.depth), values_across = carver.take(most_keys * s.width);
    keys = carver.take(most_keys * depth_row);
    d_out = carver.take(most_rows * width_row), query = carver.take(most_rows * depth_row);
    return carver.next;
  }
};

// Keys key .. key + keys of an item, as the right operands of products.
template <class T>
struct gc_gradient_keys_block {
  int64_t key, keys;
  gc_panels<T> keys_across, values_across, rows;
};

template <class T>
gc_gradient_keys_block<T> gc_gradient_pack(const gc_attention_shape& s, const gc_attention_gradients<T>& item,
                                           gc_gradient_block<T>& b, int64_t key) {
  const int64_t keys = gc_min_of(b.most_keys, s.keys - key), many = b.most_rows;
  const gc_matrix<T> key_columns = {item.key.data, item.key.column, item.key.row};
  const gc_matrix<T> value_columns = {item.value.data, item.value.column, item.value.row};
  const gc_matrix<T> key_rows = {item.key.data, item.key.row, item.key.column};
  return {key, keys, gc_right_block<T>(key_columns, many, 0, s.depth, key, keys, b.keys_across),
          gc_right_block<T>(value_columns, many, 0, s.width, key, keys, b.values_across),
          gc_right_block<T>(key_rows, many, key, keys, 0, s.depth, b.keys)};
}

// One row of scores becomes p, one row of d_out v^T becomes ds; keys that the query does not see have 0. Dropout's
// factors may be null.
template <class T>
GC_INLINE void gc_gradient_row(T* p, T* ds, int64_t seen, int64_t width, T log_sum_exp, T delta, T scale,
                               const T* factors) {
  if (factors)
#pragma omp simd
    for (int64_t j = 0; j < seen; ++j) {
      T power = gc_exp(p[j] - log_sum_exp), factor = factors[j];
      ds[j] = power * (ds[j] * factor - delta) * scale;
      p[j] = power * factor;
    }
  else
#pragma omp simd
    for (int64_t j = 0; j < seen; ++j) {
      T power = gc_exp(p[j] - log_sum_exp);
      ds[j] = power * (ds[j] - delta) * scale;
      p[j] = power;
    }
  for (int64_t j = seen; j < width; ++j) p[j] = ds[j] = 0;
}

// How many of a block's keys the queries up to `row` see.
template <class T>
GC_INLINE int64_t gc_gradient_seen(const gc_attention_shape& s, const gc_gradient_keys_block<T>& block, int64_t row) {
  return gc_max_of<int64_t>(0, gc_min_of(block.keys, s.seen(row) - block.key));
}

// p and ds of queries first .. first + rows against a block of keys; meanwhile rows of the item after it are fetched.
template <class T>
GC_NOINLINE void gc_gradient_scores(const gc_attention_shape& s, const gc_attention_gradients<T>& item,
                                    gc_gradient_block<T>& b, const gc_gradient_keys_block<T>& block, int64_t first,
                                    int64_t rows, const gc_attention_gradients<T>* next) {
  for (int64_t i = 0; i < rows; i += GC_TILE_ROWS) {
    const int64_t high = gc_min_of<int64_t>(GC_TILE_ROWS, rows - i), row = first + i;
    const int64_t columns = gc_gradient_seen(s, block, row + high - 1);
    if (next && block.key == 0)
      gc_attention_fetch<T>(row, row + high, {{next->query, s.queries, s.depth}, {next->key, s.keys, s.depth},
                                              {next->value, s.keys, s.width}, {next->d_out, s.queries, s.width}});
    T *const p = b.p + i * b.most_keys, *const ds = b.ds + i * b.most_keys;
    gc_scaled_rows<T>(high, s.depth, {item.query.at(row), item.query.row, item.query.column}, (T)s.scale, b.rows,
                      s.depth);
    gc_row_panel<T, false>(high, columns, s.depth, b.rows, s.depth, 1, gc_first_columns(block.keys_across, block.keys, columns), p, b.most_keys, false, {});
    gc_row_panel<T, false>(high, columns, s.width, item.d_out.at(row), item.d_out.row, item.d_out.column,
                           gc_first_columns(block.values_across, block.keys, columns), ds, b.most_keys, false, {});
    for (int64_t k = 0; k < high; ++k) {
      const int64_t seen = gc_max_of<int64_t>(0, gc_min_of(block.keys, s.seen(row + k) - block.key));
      T* const scores = p + k * b.most_keys;
      T factors[gc_gradient_keys<T>];
      if (s.keep < 1) gc_dropout_factors(s, item.state, item.number, row + k, block.key, seen, factors);
      if (item.bias.data) gc_finish_scores(scores, seen, seen, item.bias.at(row + k, block.key), item.bias.column);
      gc_gradient_row(scores, ds + k * b.most_keys, seen, block.keys, *item.log_sum_exp.at(row + k),
                      *item.delta.at(row + k), (T)s.scale, s.keep < 1 ? factors : nullptr);
    }
  }
}

// A block's rows from `skip` on.
template <class T>
GC_INLINE gc_panels<T> gc_later_rows(gc_panels<T> block, int64_t skip) {
  block.data += skip * block.row, block.last += skip * block.last_row;
  return block;
}

// d_key and d_value of a block of keys += ds^T q and p^T d_out over a block of queries, those that see any of a tile.
template <class T>
GC_NOINLINE void gc_gradient_to_keys(const gc_attention_shape& s, const gc_attention_gradients<T>& item,
                                     gc_gradient_block<T>& b, int64_t first_key, int64_t keys, int64_t first,
                                     int64_t rows) {
  const gc_matrix<T> d_out = {item.d_out.data, item.d_out.row, item.d_out.column};
  const gc_matrix<T> query = {item.query.data, item.query.row, item.query.column};
  const auto values = gc_right_block<T>(d_out, b.most_keys, first, rows, 0, s.width, b.d_out);
  const auto queries = gc_right_block<T>(query, b.most_keys, first, rows, 0, s.depth, b.query);
  for (int64_t key = 0; key < keys; key += GC_TILE_ROWS) {
    const int64_t high = gc_min_of<int64_t>(GC_TILE_ROWS, keys - key);
    const int64_t skip = gc_min_of(rows, gc_max_of<int64_t>(0, s.first_query(first_key + key) - first));
    const int64_t place = skip * b.most_keys + key;
    if (item.d_value.data)
      gc_row_panel<T, false>(high, s.width, rows - skip, b.p + place, 1, b.most_keys, gc_later_rows(values, skip),
                             b.d_value + key * b.width_row, b.width_row, true, {});
    if (item.d_key.data)
      gc_row_panel<T, false>(high, s.depth, rows - skip, b.ds + place, 1, b.most_keys, gc_later_rows(queries, skip),
                             b.d_key + key * b.depth_row, b.depth_row, true, {});
  }
}

// Rows of d_query += ds k over a block of keys, as far as a tile of rows sees it.
template <class T>
GC_NOINLINE void gc_gradient_to_queries(const gc_attention_shape& s, gc_gradient_block<T>& b,
                                        const gc_gradient_keys_block<T>& block, int64_t first, int64_t rows, T* d_query,
                                        int64_t step) {
  for (int64_t i = 0; i < rows; i += GC_TILE_ROWS) {
    const int64_t high = gc_min_of<int64_t>(GC_TILE_ROWS, rows - i);
    gc_row_panel<T, false>(high, s.depth, gc_gradient_seen(s, block, first + i + high - 1), b.ds + i * b.most_keys,
                           b.most_keys, 1, block.rows, d_query + i * step, step, true, {});
  }
}

// Rows first .. first + rows of a result, where it is wanted.
template <class T>
GC_NOINLINE void gc_copy_rows(int64_t rows, int64_t columns, const T* from, int64_t step, const gc_strided<T>& to,
                              int64_t first) {
  if (!to.data) return;
  for (int64_t i = 0; i < rows; ++i) {
    T* const target = to.at(first + i);
    const T* source = from + i * step;
    if (to.column == 1) __builtin_memcpy(target, source, (size_t)columns * sizeof(T));
    else
      for (int64_t j = 0; j < columns; ++j) target[j * to.column] = source[j];
  }
}

// A block of keys against all queries that see it: d_key, d_value, and with `d_query` the rows of that too.
template <class T>
GC_NOINLINE void gc_gradient_of_keys(const gc_attention_shape& s, const gc_attention_gradients<T>& item,
                                     gc_gradient_block<T>& b, int64_t key, T* d_query,
                                     const gc_attention_gradients<T>* next = nullptr) {
  const auto block = gc_gradient_pack(s, item, b, key);
  __builtin_memset(b.d_key, 0, (size_t)(block.keys * b.depth_row) * sizeof(T));
  __builtin_memset(b.d_value, 0, (size_t)(block.keys * b.width_row) * sizeof(T));
  for (int64_t row = s.first_query(key) / b.most_rows * b.most_rows; row < s.queries; row += b.most_rows) {
    const int64_t rows = gc_min_of(b.most_rows, s.queries - row);
    gc_gradient_scores(s, item, b, block, row, rows, next);
    gc_gradient_to_keys(s, item, b, key, block.keys, row, rows);
    if (d_query) gc_gradient_to_queries(s, b, block, row, rows, d_query + row * b.depth_row, b.depth_row);
  }
  gc_copy_rows(block.keys, s.depth, b.d_key, b.depth_row, item.d_key, key);
  gc_copy_rows(block.keys, s.width, b.d_value, b.width_row, item.d_value, key);
}

// A block of queries against all keys that it sees.
template <class T>
GC_NOINLINE void gc_gradient_of_queries(const gc_attention_shape& s, const gc_attention_gradients<T>& item,
                                        gc_gradient_block<T>& b, int64_t row) {
  const int64_t rows = gc_min_of(b.most_rows, s.queries - row), stop = s.seen(row + rows - 1);
  __builtin_memset(b.d_query, 0, (size_t)(rows * b.depth_row) * sizeof(T));
  for (int64_t key = 0; key < stop; key += b.most_keys) {
    const auto block = gc_gradient_pack(s, item, b, key);
    gc_gradient_scores<T>(s, item, b, block, row, rows, nullptr);
    gc_gradient_to_queries(s, b, block, row, rows, b.d_query, b.depth_row);
  }
  gc_copy_rows(rows, s.depth, b.d_query, b.depth_row, item.d_query, row);
}

// A whole item; `next`, which may be null, comes after it.
template <class T>
GC_NOINLINE void gc_gradient_of_item(const gc_attention_shape& s, const gc_attention_gradients<T>& item,
                                     gc_gradient_block<T>& b, const gc_attention_gradients<T>* next) {
  T* const d_query = item.d_query.data ? b.d_query : nullptr;
  if (d_query) __builtin_memset(d_query, 0, (size_t)(s.queries * b.depth_row) * sizeof(T));
  for (int64_t key = 0; key < s.keys; key += b.most_keys) gc_gradient_of_keys(s, item, b, key, d_query, next);
  gc_copy_rows(s.queries, s.depth, b.d_query, b.depth_row, item.d_query, 0);
}

template <class T, class Operands>
void gc_attention_gradient(const gc_attention_shape& s, const Operands& operands) {
  if (s.batch == 0) return;
  const int64_t threads = s.threads(2.5);
  // Items at once need five products a score, their parts seven; and scratch for all of d_query.
  const bool apart = s.batch % threads != 0 && s.batch < 4 * threads;
  const int64_t key_blocks = apart ? gc_ceil_div(s.keys, gc_gradient_keys<T>) : 0;
  const int64_t query_blocks = apart ? gc_ceil_div(s.queries, GC_GRADIENT_ROWS) : 0;
  const int64_t parts = apart ? key_blocks + query_blocks : 1, queries = apart ? GC_GRADIENT_ROWS : s.queries;
  // A few items in a row are one thread's, where there are enough: it knows what comes next.
  const int64_t run = !apart && s.batch >= 8 * GC_GRADIENT_RUN * threads ? GC_GRADIENT_RUN : 1;
  const gc_scratch_view team = gc_scratch_now;
#pragma omp parallel for schedule(dynamic, run) num_threads((int)threads) if (threads > 1)
  for (int64_t number = 0; number < s.batch * parts; ++number) {
    const gc_scratch_scope share(team, omp_get_thread_num());
    gc_gradient_block<T> block(s, queries, gc_scratch(gc_gradient_block<T>::bytes(s, queries)));
    const gc_attention_gradients<T> item = operands(number / parts);
    const int64_t part = number % parts;
    if (!apart) {
      gc_attention_gradients<T> next = item;
      const bool fetches = (number + 1) % run != 0 && number + 1 < s.batch;
      if (fetches) next = operands(number + 1);
      gc_gradient_of_item(s, item, block, fetches ? &next : nullptr);
    } else if (part >= key_blocks) {
      if (item.d_query.data) gc_gradient_of_queries(s, item, block, (part - key_blocks) * block.most_rows);
    } else if (item.d_key.data || item.d_value.data)
      gc_gradient_of_keys<T>(s, item, block, part * block.most_keys, nullptr);
  }
}

#endif
