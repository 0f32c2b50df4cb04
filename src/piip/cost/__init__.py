"""What models cost: parameters, operations, memory and time."""

from piip.cost.count import OFFICIAL_HEAD, Cost, PartCost, cost
from piip.cost.official import official_cost

__all__ = ["OFFICIAL_HEAD", "Cost", "PartCost", "cost", "official_cost"]
