"""Parameter-Inverted Image Pyramid Networks (arXiv 2406.04330)."""

__version__ = "0.1.0"
