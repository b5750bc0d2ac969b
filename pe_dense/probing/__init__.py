"""Linear probes of many layers, settings and seeds from one frozen pass.

Importing this package registers its parts.
"""

from pe_dense import pixelwise  # noqa: F401
from pe_dense.data import holdout  # noqa: F401
from pe_dense.openmmlab import backbone, image_loading, label_map_resizing  # noqa: F401
from pe_dense.probing import grouped_adamw, probe_metric, probe_model  # noqa: F401
