"""What models cost: parameters, operations, memory and time."""

from piip.costs.count import OFFICIAL_HEAD, Cost, PartCost, cost
from piip.costs.memory import GIB, Memory, estimate_memory, largest_batch, least_batch, measure_memory
from piip.costs.official import official_cost
from piip.costs.workloads import image_sizes

__all__ = [
    "GIB",
    "OFFICIAL_HEAD",
    "Cost",
    "Memory",
    "PartCost",
    "cost",
    "estimate_memory",
    "image_sizes",
    "largest_batch",
    "least_batch",
    "measure_memory",
    "official_cost",
]
