"""Segmentation through mmseg; importing this package registers its parts."""

from pe_dense import layer_decay, necks, pixelwise  # noqa: F401
from pe_dense.data import image_loading  # noqa: F401
from pe_dense.encoders import backbone  # noqa: F401
from pe_dense.segmentation import linear_head, segmentor, test_time_augmentation  # noqa: F401
