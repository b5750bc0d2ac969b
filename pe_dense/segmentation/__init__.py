"""Segmentation through mmseg; importing this package registers its parts."""

from pe_dense import pixelwise  # noqa: F401
from pe_dense.openmmlab import (  # noqa: F401
    backbone,
    deformable_attention,
    image_loading,
    label_map_resizing,
    layer_decay,
    necks,
    warmup_one_cycle,
    warmup_poly,
)
from pe_dense.segmentation import (  # noqa: F401
    blended_colours,
    label_map_data,
    linear_head,
    mapped_text_backbone,
    own_data,
    readout_metric,
    segmentor,
    test_time_augmentation,
    text_segmentor,
)
