"""Order kernels so that memory is freed early: topological, greedy by bytes freed, or in the graph's own order."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Task:
    """A kernel to be ordered: what it reads and writes in the arena, by name, and its place in the graph."""

    number: int
    position: int
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    after: tuple[int, ...]


def order(tasks: Sequence[Task], nbytes: Mapping[str, int]) -> list[int]:
    """Numbers of the tasks in the better of two topological orders, by their peak of live bytes."""
    return min(orders(tasks, nbytes), key=lambda numbers: peak(tasks, numbers, nbytes))


def orders(tasks: Sequence[Task], nbytes: Mapping[str, int]) -> tuple[list[int], list[int]]:
    """Two topological orders: as in the graph, and greedy by the bytes that a task adds."""
    return _schedule(tasks, None), _schedule(tasks, nbytes)


def peak(tasks: Sequence[Task], numbers: Sequence[int], nbytes: Mapping[str, int]) -> int:
    """The most bytes live at one step; values live from their first write to their last read."""
    by_number = {task.number: task for task in tasks}
    last: dict[str, int] = {}
    for step, number in enumerate(numbers):
        for name in (*by_number[number].reads, *by_number[number].writes):
            last[name] = step
    live = most = 0
    seen: set[str] = set()
    for step, number in enumerate(numbers):
        task = by_number[number]
        fresh = [name for name in dict.fromkeys(task.writes) if name not in seen]
        seen.update(fresh)
        live += sum(nbytes.get(name, 0) for name in fresh)
        most = max(most, live)
        live -= sum(nbytes.get(name, 0) for name in {*task.reads, *task.writes} if last[name] == step)
    return most


def _schedule(tasks: Sequence[Task], nbytes: Mapping[str, int] | None) -> list[int]:
    """Kahn's algorithm; with sizes, the task that adds least to memory goes first, else the first in the graph."""
    by_number = {task.number: task for task in tasks}
    waiting = {task.number: len(task.after) for task in tasks}
    followers: dict[int, list[int]] = {task.number: [] for task in tasks}
    readers: dict[str, set[int]] = {}
    for task in tasks:
        for number in task.after:
            followers[number].append(task.number)
        for name in task.reads:
            readers.setdefault(name, set()).add(task.number)
    written: set[str] = set()

    def growth(task: Task) -> int:
        if nbytes is None:
            return 0
        grown = sum(nbytes.get(name, 0) for name in set(task.writes) - written)
        return grown - sum(nbytes.get(name, 0) for name in set(task.reads) if readers[name] == {task.number})

    ready = [(growth(task), task.position, task.number) for task in tasks if not task.after]
    heapq.heapify(ready)
    done: set[int] = set()
    result: list[int] = []
    while ready:
        score, _, number = heapq.heappop(ready)
        task = by_number[number]
        if number in done:
            continue
        now = growth(task)
        if now > score:
            heapq.heappush(ready, (now, task.position, number))
            continue
        done.add(number)
        result.append(number)
        written.update(task.writes)
        for follower in followers[number]:
            waiting[follower] -= 1
            if waiting[follower] == 0:
                heapq.heappush(ready, (growth(by_number[follower]), by_number[follower].position, follower))
        for name in set(task.reads):
            readers[name].discard(number)
            for other in readers[name] if nbytes is not None and len(readers[name]) == 1 else ():
                if waiting[other] == 0 and other not in done:
                    heapq.heappush(ready, (growth(by_number[other]), by_number[other].position, other))
    if len(result) != len(tasks):
        raise AssertionError("kernels depend on each other in a cycle")
    return result
