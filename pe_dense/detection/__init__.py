"""Detection on PE through mmdet; importing this package registers its parts."""

from pe_dense.detection import (  # noqa: F401
    anchor_assignment,
    checkpoint_layouts,
    coco_dataset,
    coco_metric,
    deta,
    deta_head,
    deta_transforms,
    deta_tta,
    enough_tokens,
    federated_loss,
    gradient_compression,
    large_scale_jitter,
    lvis_dataset,
    lvis_metric,
    mask_head,
    optional_masks,
    pair_assignment,
    polygon_loading,
    repeat_factor_sampler,
    resizing,
    tiles,
)
from pe_dense.openmmlab import (  # noqa: F401
    backbone,
    deformable_attention,
    image_loading,
    layer_decay,
    necks,
)
