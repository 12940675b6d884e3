// Steps aside on a busy machine: a program whose threads must wait for a core runs on one thread for a while.
//
// Every parallel loop ends when its last thread arrives. Where other programs hold the cores, that thread waits for its
// turn, milliseconds for a loop of microseconds. Each program remembers its fastest run for some sizes, and how long one
// thread alone takes, which its second run tells; a run that takes far longer than either makes the next few serial, then
// threads are tried again. A long run is not worth a trial on one thread unless its threads got less of the cores than
// they asked for, which the processor time of the process tells. Sums do not depend on the number of threads, so neither
// do results.
#pragma once

#include <stdint.h>

extern "C" int omp_get_max_threads(void) noexcept;
extern "C" void omp_set_num_threads(int) noexcept;
extern "C" int omp_in_parallel(void) noexcept;
extern "C" double omp_get_wtime(void) noexcept;
extern "C" long clock(void) noexcept;

// Shared by all threads that run the program: every field is a hint, read and written without order.
struct gc_pace {
  int64_t sizes = -1;      // which sizes of the symbolic dimensions the times below belong to
  int64_t fastest = 0;     // nanoseconds, on several threads
  int64_t alone = 0;       // nanoseconds, fastest on one thread
  int64_t stalled = 0;     // nanoseconds of the run that made us step aside
  int64_t serial_left = 0; // runs still to make on one thread
  int64_t serial_next = 8; // runs to step aside for after the next stall
};

static inline int64_t gc_get(const int64_t& field) { return __atomic_load_n(&field, __ATOMIC_RELAXED); }
static inline void gc_put(int64_t& field, int64_t value) { __atomic_store_n(&field, value, __ATOMIC_RELAXED); }

#ifndef GC_CLOCK  // a test brings its own clock
static inline int64_t gc_nanoseconds(void) { return (int64_t)(omp_get_wtime() * 1e9); }
static inline int64_t gc_nanoseconds_worked(void) { return (int64_t)clock() * 1000; }
#define GC_CLOCK gc_nanoseconds
#define GC_WORK_CLOCK gc_nanoseconds_worked
#endif

// Stands around one run of a program.
class gc_run_pace {
 public:
  gc_run_pace(gc_pace& pace, const int64_t* sizes, int count) : pace_(pace), threads_(omp_get_max_threads()) {
    if (threads_ < 2 || omp_in_parallel()) {
      threads_ = 1;
      return;
    }
    int64_t key = 0;
    for (int i = 0; i < count; ++i) key = key * 1000003 + sizes[i];
    if (gc_get(pace_.sizes) != key) {
      gc_put(pace_.sizes, key);
      gc_put(pace_.fastest, 0);
      gc_put(pace_.alone, 0);
      gc_put(pace_.serial_left, 0);
    }
    const int64_t fastest = gc_get(pace_.fastest);
    const bool curious = gc_get(pace_.alone) == 0 && fastest != 0;
    if (curious && fastest < kCurious) gc_put(pace_.serial_left, 1);
    serial_ = gc_get(pace_.serial_left) > 0;
    watched_ = curious && !serial_;
    if (serial_) omp_set_num_threads(1);
    if (watched_) worked_ = GC_WORK_CLOCK();
    start_ = GC_CLOCK();
  }

  ~gc_run_pace() {
    if (threads_ < 2) return;
    const int64_t taken = GC_CLOCK() - start_;
    if (serial_) {
      omp_set_num_threads(threads_);
      const int64_t alone = gc_get(pace_.alone);
      if (alone == 0 || taken < alone) gc_put(pace_.alone, taken);
      // One thread alone is slower than waiting was: go back at once.
      gc_put(pace_.serial_left, taken > gc_get(pace_.stalled) ? 0 : gc_get(pace_.serial_left) - 1);
      return;
    }
    const int64_t fastest = gc_get(pace_.fastest);
    if (fastest == 0 || taken < fastest) gc_put(pace_.fastest, taken);
    const int64_t alone = gc_get(pace_.alone);
    if (watched_ && GC_WORK_CLOCK() - worked_ < taken * threads_ / 8 * 7) {
      gc_put(pace_.serial_left, 1);
    } else if ((fastest != 0 && taken > 4 * fastest + kPatience) || (alone != 0 && taken > 2 * alone + kPatience)) {
      gc_put(pace_.stalled, taken);
      gc_put(pace_.serial_left, gc_get(pace_.serial_next));
      if (gc_get(pace_.serial_next) < kLongest) gc_put(pace_.serial_next, 2 * gc_get(pace_.serial_next));
    } else {
      gc_put(pace_.serial_next, 8);
    }
  }

 private:
  static constexpr int64_t kPatience = 500000;  // nanoseconds that a run may lose without consequence
  static constexpr int64_t kCurious = 50000000; // nanoseconds: longer runs are not worth a serial trial unless starved
  static constexpr int64_t kLongest = 512;      // runs
  gc_pace& pace_;
  int threads_;
  bool serial_ = false;
  bool watched_ = false;
  int64_t start_ = 0;
  int64_t worked_ = 0;  // nanoseconds of processor time of the process
};
