"""Segmentation through mmseg; importing this package registers its parts."""

from pe_dense import pixelwise  # noqa: F401
from pe_dense.openmmlab import backbone, image_loading, layer_decay, necks  # noqa: F401
from pe_dense.segmentation import label_map_data, linear_head, segmentor, test_time_augmentation  # noqa: F401
