"""Linear probes of many layers, settings and seeds from one frozen pass.

Importing this package registers its parts.
"""

from pe_dense import pixelwise  # noqa: F401
from pe_dense.data import holdout  # noqa: F401
from pe_dense.openmmlab import backbone, image_loading  # noqa: F401
from pe_dense.probing import grouped_adamw, probe_metric, probe_model  # noqa: F401

try:
    from pe_dense.openmmlab import label_map_resizing  # noqa: F401 (for pipelines of mmseg)
except ModuleNotFoundError as error:
    if str(error.name).partition(".")[0] not in ("mmcv", "mmseg"):
        raise
