"""What models cost: parameters, operations, memory and time."""

from piip.costs.count import OFFICIAL_HEAD, Cost, PartCost, cost
from piip.costs.memory import GIB, Fit, Memory, estimate_memory, fit_on_gpu, largest_batch, least_batch, measure_memory
from piip.costs.official import official_cost
from piip.costs.workloads import image_sizes

__all__ = [
    "GIB",
    "OFFICIAL_HEAD",
    "Cost",
    "Fit",
    "Memory",
    "PartCost",
    "cost",
    "estimate_memory",
    "fit_on_gpu",
    "image_sizes",
    "largest_batch",
    "least_batch",
    "measure_memory",
    "official_cost",
]
