"""templates/cpp/backoff.h: a program whose runs stall goes on alone for a while, and tries again."""

import numpy as np

from support.native import build, call

QUICK, STALLED, ALONE = 30_000, 40_000_000, 60_000


def given(
    lengths: list[int], sizes: list[int] | None = None, threads: int = 4, busy_percent: int = 100
) -> list[int]:
    """Threads that each run of that many nanoseconds was given, each thread on a core for that share of the time."""
    result = np.zeros(len(lengths), np.int64)
    named = np.array(sizes or [7] * len(lengths), np.int64)
    taken = np.array(lengths, np.int64)
    call(build("backoff").paced, len(lengths), threads, taken, busy_percent, named, result)
    return result.tolist()


def test_the_second_run_learns_what_one_thread_takes() -> None:
    assert given([QUICK, ALONE, QUICK, 3 * QUICK] + [QUICK] * 30) == [4, 1] + [4] * 32


def test_a_stall_makes_the_next_eight_runs_serial() -> None:
    assert given([QUICK, ALONE, STALLED] + [ALONE] * 8 + [QUICK] * 2) == [4, 1, 4] + [1] * 8 + [4, 4]


def test_a_machine_that_is_busy_from_the_start() -> None:
    assert given([STALLED, ALONE, STALLED] + [ALONE] * 8 + [STALLED]) == [4, 1, 4] + [1] * 8 + [4]


def test_repeated_stalls_step_aside_for_longer() -> None:
    stalls = [QUICK, ALONE, STALLED] + [ALONE] * 8 + [STALLED] + [ALONE] * 16
    lengths = stalls + [QUICK, STALLED] + [ALONE] * 8 + [QUICK]
    assert given(lengths) == [4, 1, 4] + [1] * 8 + [4] + [1] * 16 + [4, 4] + [1] * 8 + [4]


def test_waiting_that_beats_one_thread_is_kept() -> None:
    assert given([QUICK, ALONE, STALLED, 2 * STALLED, QUICK]) == [4, 1, 4, 1, 4]


def test_other_sizes_start_anew() -> None:
    assert given([QUICK, ALONE, STALLED, ALONE, QUICK], [7, 7, 8, 8, 7]) == [4, 1, 4, 1, 4]


def test_a_long_run_is_not_repeated_on_one_thread() -> None:
    assert given([10 * STALLED, 10 * STALLED]) == [4, 4]


def test_a_long_run_whose_threads_wait_for_cores_is() -> None:
    long, alone = 10 * STALLED, 2 * STALLED
    assert given([long, long, alone, long] + [alone] * 8 + [long], busy_percent=60) == [4, 4, 1, 4] + [
        1
    ] * 8 + [4]
    # Idle threads that nobody kept from the cores cost one run.
    assert given([long, long, 2 * long] + [long] * 20, busy_percent=60) == [4, 4, 1] + [4] * 20


def test_one_thread_is_left_alone() -> None:
    assert given([QUICK, STALLED, QUICK], threads=1) == [1, 1, 1]
