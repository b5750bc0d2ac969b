"""kNN and linear probes on features of whole pictures.

Importing this package registers its parts.
"""

from pe_dense.data import holdout  # noqa: F401
from pe_dense.openmmlab import backbone  # noqa: F401
from pe_dense.probing import grouped_adamw  # noqa: F401
from pe_dense.probing.classification import (  # noqa: F401
    class_images,
    class_metric,
    global_neighbours,
    global_probe,
)
