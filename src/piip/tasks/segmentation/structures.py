"""What goes into a segmentor."""

IGNORED = 255
"""The label of pixels that are neither learned from nor counted."""
