// Scratch of threads: the shares of a buffer that the plan set aside for the running kernel.
//
//   const gc_scratch_scope scope({buffer, rows, share, shares});    at the head of a kernel: its buffer
//   const gc_scratch_view team = gc_scratch_now;                    before a parallel region of a template ...
//   #pragma omp parallel for
//   for (...) { const gc_scratch_scope share(team, omp_get_thread_num()); ... }   ... and in it: this thread's share
//
// A share is `rows` bytes for gc_scratch, then what gc_thread_workspace (tile.h) needs. A thread without a share large
// enough, in a region that hands out none or in a team larger than planned, takes memory of its own and keeps it: the
// result is the same, and so is the next step, which allocates nothing.
#ifndef GC_SCRATCH_H
#define GC_SCRATCH_H

#include "prelude.h"

extern "C" int omp_get_thread_num(void) noexcept;
extern "C" int posix_memalign(void**, size_t, size_t) noexcept;
extern "C" void free(void*) noexcept;

struct gc_scratch_view {
  char* data;
  int64_t rows, share, shares;  // bytes for gc_scratch in a share, bytes of a share, how many there are

  gc_scratch_view of_thread(int64_t number) const {
    return number < shares ? gc_scratch_view{data + number * share, rows, share, 1} : gc_scratch_view{};
  }
};

inline thread_local gc_scratch_view gc_scratch_now = {nullptr, 0, 0, 0};

class gc_scratch_scope {
 public:
  explicit gc_scratch_scope(gc_scratch_view view) : before_(gc_scratch_now) { gc_scratch_now = view; }
  gc_scratch_scope(gc_scratch_view team, int number) : gc_scratch_scope(team.of_thread(number)) {}
  ~gc_scratch_scope() { gc_scratch_now = before_; }
  gc_scratch_scope(const gc_scratch_scope&) = delete;

 private:
  gc_scratch_view before_;
};

struct gc_own_memory {
  char* data = nullptr;
  int64_t size = 0;

  char* at_least(int64_t wanted) {
    if (wanted > size) {
      free(data);
      data = nullptr;
      size = gc_round_up(wanted, 4096);
      if (posix_memalign((void**)&data, 4096, (size_t)size)) __builtin_trap();
    }
    return data;
  }
  ~gc_own_memory() { free(data); }
};

// `size` bytes that stay this thread's until it asks again.
inline char* gc_scratch(int64_t size) {
  if (size <= gc_scratch_now.rows) return gc_scratch_now.data;
  static thread_local gc_own_memory memory;
  return memory.at_least(size);
}

#endif
