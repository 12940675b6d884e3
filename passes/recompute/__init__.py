"""Recomputation under a memory budget: kernels of the forward pass that run again when the backward pass needs them.

schedule.py   the fused program in launch order: nests over places, what is live
segments.py   which values to keep, by dynamic programming over cuts of the forward pass
arrange.py    the launches that make the others again, each just before its first use
search.py     the cheapest arrangement whose real plan meets a limit
budget.py     budgets as users write them
"""

from graphc.passes.recompute.arrange import AGAIN as AGAIN
from graphc.passes.recompute.arrange import Arrangement as Arrangement
from graphc.passes.recompute.budget import Budget as Budget
from graphc.passes.recompute.schedule import Launch as Launch
from graphc.passes.recompute.schedule import Schedule as Schedule
from graphc.passes.recompute.schedule import Unit as Unit
from graphc.passes.recompute.search import Found as Found
from graphc.passes.recompute.search import Search as Search
