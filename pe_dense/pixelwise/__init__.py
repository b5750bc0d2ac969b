"""Per-pixel predictions without a framework's heads: losses, inference and errors, by the pixel.

What segmentation, depth and probing share. Importing this package registers losses and metrics.
"""

from pe_dense.pixelwise import depth_losses, mean_iou  # noqa: F401
