// Runs of made-up length around templates/cpp/backoff.h, and how many threads each was given.
#include <stdint.h>

static int64_t now = 0;
static int64_t worked = 0;
static int64_t made_up_clock(void) { return now; }
static int64_t made_up_work(void) { return worked; }
#define GC_CLOCK made_up_clock
#define GC_WORK_CLOCK made_up_work
#include "backoff.h"

extern "C" void paced(int64_t count, int64_t threads, const int64_t* lengths, int64_t busy_percent,
                      const int64_t* sizes, int64_t* given) {
  const int before = omp_get_max_threads();
  omp_set_num_threads((int)threads);
  gc_pace pace;
  for (int64_t i = 0; i < count; ++i) {
    const gc_run_pace run(pace, sizes + i, 1);
    given[i] = omp_get_max_threads();
    now += lengths[i];
    worked += lengths[i] / 100 * busy_percent * given[i];
  }
  if (omp_get_max_threads() != threads) given[0] = -1;
  omp_set_num_threads(before);
}
