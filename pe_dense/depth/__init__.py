"""Depth estimation on PE; importing this package registers its parts."""

from pe_dense import layer_decay, necks, pixelwise  # noqa: F401
from pe_dense.data import image_loading  # noqa: F401
from pe_dense.depth import (  # noqa: F401
    bins_head,
    depth_datasets,
    depth_metric,
    depth_transforms,
    dpt_head,
    estimator,
    one_cycle_momentum,
)
from pe_dense.encoders import backbone  # noqa: F401
