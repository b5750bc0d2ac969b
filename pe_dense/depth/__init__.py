"""Depth estimation on PE; importing this package registers its losses."""

from pe_dense.depth import depth_losses  # noqa: F401
