// Kernels too small for a parallel region each: all threads of one region run them together, one kernel after another.
//
// Every thread calls each kernel; its loops (orphaned `omp for`) and products (gemm.h) are shared out. A mark for each
// step says how it runs: alone, with its own region if any; or in a team, up to the one marked last, where all threads
// wait after those marked so.
#ifndef GC_TEAM_H
#define GC_TEAM_H

#include "prelude.h"

extern "C" int omp_get_num_threads(void) noexcept;
extern "C" int omp_get_thread_num(void) noexcept;

inline thread_local bool gc_in_team = false;

class gc_team_scope {
 public:
  gc_team_scope() : before_(gc_in_team) { gc_in_team = true; }
  ~gc_team_scope() { gc_in_team = before_; }
  gc_team_scope(const gc_team_scope&) = delete;

 private:
  bool before_;
};

enum gc_mark : uint8_t { GC_NO_TEAM, GC_TEAM, GC_TEAM_WAITS, GC_TEAM_LAST };

// Every step in order, `done` after each where they are timed; then threads wait after every one.
template <bool Timed = false, class Step, class Done>
static void gc_run_steps(const gc_mark* marks, int32_t count, const Step& step, const Done& done) {
  for (int32_t first = 0; first < count; ++first) {
    int32_t last = first;
    if (marks[first] == GC_NO_TEAM) {
      step(first);
      if (Timed) done(first);
      continue;
    }
    while (marks[last] != GC_TEAM_LAST) ++last;
#pragma omp parallel
    {
      const gc_team_scope team;
      for (int32_t number = first; number <= last; ++number) {
        step(number);
        if (Timed || marks[number] == GC_TEAM_WAITS) {
#pragma omp barrier
        }
        if (Timed && omp_get_thread_num() == 0) done(number);
      }
    }
    first = last;
  }
}

#endif
