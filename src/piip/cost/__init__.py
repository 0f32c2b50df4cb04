"""What models cost: parameters, operations, memory and time."""
