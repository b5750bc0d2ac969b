"""Spatial alignment of an encoder to teachers; importing this package registers its parts."""

from pe_dense.alignment import (  # noqa: F401
    aligner,
    cached_teacher,
    encoder_teacher,
    eval_hook,
    facts_hook,
    instance_mask_teacher,
    lamb,
    losses,
    sam_teacher,
)
from pe_dense.openmmlab import nan_stop  # noqa: F401
