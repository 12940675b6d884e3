// Runs a generated program on its own: random buffers, timing, and a checksum of everything that it writes.
//
//   c++ -DGC_ALONE $(flags of the header comment, without -shared) *.cpp -lmvec -lm -o program
//   ./program N=64 runs=100
//
// Floats are uniform in [-1, 1), integers 0 ... 3; equal sizes give equal data, so two builds can be compared.
#ifndef GC_ALONE_H
#define GC_ALONE_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct gc_buffer {
  const char *name, *type;  // type as in the IR: f32, i64, ...
  int64_t elements;
  int64_t bytes;  // of one element
};

// NAME=value from the command line, else `missing`.
static inline int64_t gc_option(int count, char** words, const char* name, int64_t missing) {
  size_t length = strlen(name);
  for (int i = 1; i < count; ++i)
    if (!strncmp(words[i], name, length) && words[i][length] == '=') return atoll(words[i] + length + 1);
  return missing;
}

static inline double gc_seconds() {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static inline void gc_randomize(const gc_buffer* buffer, char* data, uint32_t seed) {
  uint32_t state = seed * 2654435761u + 1;
  for (int64_t i = 0; i < buffer->elements; ++i) {
    state = state * 1664525u + 1013904223u;
    const float uniform = (float)(int32_t)state * 0x1p-31f;
    if (!strcmp(buffer->type, "f32")) ((float*)data)[i] = uniform;
    else if (!strcmp(buffer->type, "f64")) ((double*)data)[i] = uniform;
    else if (buffer->type[0] == 'f' || buffer->type[0] == 'b') data[i * buffer->bytes] = (char)(state >> 31);
    else data[i * buffer->bytes] = (char)(state >> 30);
  }
}

static inline double gc_checksum(const gc_buffer* buffer, const char* data) {
  double sum = 0;
  for (int64_t i = 0; i < buffer->elements; ++i) {
    if (!strcmp(buffer->type, "f32")) sum += ((const float*)data)[i];
    else if (!strcmp(buffer->type, "f64")) sum += ((const double*)data)[i];
    else if (!strcmp(buffer->type, "i64")) sum += (double)((const int64_t*)data)[i];
    else if (!strcmp(buffer->type, "i32")) sum += ((const int32_t*)data)[i];
    else sum += (unsigned char)data[i * buffer->bytes];
  }
  return sum;
}

static inline int gc_compare_seconds(const void* a, const void* b) {
  return *(const double*)a < *(const double*)b ? -1 : *(const double*)a > *(const double*)b;
}

static inline int gc_run_alone(const gc_buffer* buffers, int count, const int64_t* sizes, int64_t runs,
                               int32_t (*program)(char**, const int64_t*)) {
  char** data = (char**)calloc((size_t)count + 1, sizeof(char*));
  double* seconds = (double*)calloc((size_t)runs + 1, sizeof(double));
  if (!data || !seconds) return 1;
  for (int i = 0; i < count; ++i) {
    const size_t bytes = ((size_t)(buffers[i].elements * buffers[i].bytes) + 127) / 64 * 64;
    data[i] = (char*)aligned_alloc(64, bytes);
    if (!data[i]) return 1;
    memset(data[i], 0, bytes);
    gc_randomize(&buffers[i], data[i], (uint32_t)i);
  }
  int32_t status = program(data, sizes);
  for (int i = 0; i < count; ++i) printf("%-40s %-5s %.9g\n", buffers[i].name, buffers[i].type, gc_checksum(&buffers[i], data[i]));
  for (int64_t run = 0; run < runs; ++run) {
    const double start = gc_seconds();
    status |= program(data, sizes);
    seconds[run] = gc_seconds() - start;
  }
  qsort(seconds, (size_t)runs, sizeof(double), gc_compare_seconds);
  if (runs > 0) printf("%.3f us median, %.3f us best of %lld runs\n", 1e6 * seconds[runs / 2], 1e6 * seconds[0], (long long)runs);
  return status;
}

#endif
