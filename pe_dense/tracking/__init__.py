"""Tracking: video object segmentation by label propagation, and its measures.

Importing this package registers its parts.
"""

from pe_dense.openmmlab import backbone  # noqa: F401
from pe_dense.tracking import davis_dataset, own_videos, video_propagator, vos_metric  # noqa: F401
