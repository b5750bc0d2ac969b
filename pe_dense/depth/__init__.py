"""Depth estimation on PE; importing this package registers its parts."""

from pe_dense import pixelwise  # noqa: F401
from pe_dense.depth import (  # noqa: F401
    bins_head,
    depth_datasets,
    depth_metric,
    depth_transforms,
    dpt_head,
    estimator,
    mmcv1_schedules,
    own_data,
    released_heads,
)
from pe_dense.openmmlab import (  # noqa: F401
    backbone,
    image_loading,
    layer_decay,
    necks,
    warmup_one_cycle,
)
