"""Spatial alignment of an encoder to teachers; importing this package registers its parts."""

from pe_dense.alignment import (  # noqa: F401
    encoder_teacher,
    instance_mask_teacher,
    losses,
    sam_teacher,
)
