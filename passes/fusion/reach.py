"""Reachability between groups of nodes while groups grow and merge: descendant bitsets in Python integers."""

from __future__ import annotations


class Reachability:
    """A directed acyclic graph of groups that answers `is there a path from a to b` from bitsets.

    Groups are numbered from 0. An edge costs one OR for each ancestor of its source whose set it changes.
    """

    def __init__(self) -> None:
        self._parent: list[int] = []
        self._below: list[int] = []
        self._alias: list[int] = []
        self._successors: list[set[int]] = []
        self._predecessors: list[set[int]] = []

    def copy(self) -> Reachability:
        """An independent copy, to try something out."""
        result = Reachability()
        result._parent = list(self._parent)
        result._below = list(self._below)
        result._alias = list(self._alias)
        result._successors = [set(found) for found in self._successors]
        result._predecessors = [set(found) for found in self._predecessors]
        return result

    def add(self) -> int:
        """A new group without edges."""
        number = len(self._parent)
        self._parent.append(number)
        self._below.append(0)
        self._alias.append(1 << number)
        self._successors.append(set())
        self._predecessors.append(set())
        return number

    def find(self, group: int) -> int:
        """The group that `group` has been merged into."""
        while self._parent[group] != group:
            self._parent[group] = self._parent[self._parent[group]]
            group = self._parent[group]
        return group

    def reaches(self, a: int, b: int) -> bool:
        """True when there is a path of at least one edge from a to b."""
        return bool(self._below[self.find(a)] & self._alias[self.find(b)])

    def successors(self, group: int) -> set[int]:
        return {self.find(s) for s in self._successors[self.find(group)]} - {self.find(group)}

    def predecessors(self, group: int) -> set[int]:
        return {self.find(p) for p in self._predecessors[self.find(group)]} - {self.find(group)}

    def has_detour(self, a: int, b: int) -> bool:
        """True when a path from a to b passes through a third group."""
        b = self.find(b)
        return any(s != b and self.reaches(s, b) for s in self.successors(a))

    def connect(self, a: int, b: int) -> None:
        """Add an edge; the caller has made sure that b does not reach a."""
        a, b = self.find(a), self.find(b)
        if a == b or b in self._successors[a]:
            return
        self._successors[a].add(b)
        self._predecessors[b].add(a)
        self._spread(a, self._below[b] | self._alias[b])

    def merge(self, a: int, b: int) -> int:
        """Make one group of two, between which no path leads through a third one; return its number."""
        a, b = self.find(a), self.find(b)
        if a == b:
            return a
        self._parent[b] = a
        self._alias[a] |= self._alias[b]
        self._successors[a] |= self._successors[b]
        self._predecessors[a] |= self._predecessors[b]
        below = (self._below[a] | self._below[b]) & ~self._alias[a]
        self._below[a] = below
        for group in self.predecessors(a):
            self._spread(group, below | self._alias[a])
        return a

    def _spread(self, group: int, bits: int) -> None:
        """Add descendants to a group and all its ancestors."""
        parent, below, predecessors = self._parent, self._below, self._predecessors
        stack = [group]
        while stack:
            current = stack.pop()
            while parent[current] != current:
                current = parent[current]
            known = below[current]
            if known | bits != known:
                below[current] = known | bits
                stack.extend(predecessors[current])
