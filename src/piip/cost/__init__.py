"""What models cost: parameters, operations, memory and time."""

from piip.cost.count import OFFICIAL_HEAD, Cost, PartCost, cost
from piip.cost.memory import GIB, Memory, estimate_memory, largest_batch, measure_memory
from piip.cost.official import official_cost

__all__ = [
    "GIB",
    "OFFICIAL_HEAD",
    "Cost",
    "Memory",
    "PartCost",
    "cost",
    "estimate_memory",
    "largest_batch",
    "measure_memory",
    "official_cost",
]
