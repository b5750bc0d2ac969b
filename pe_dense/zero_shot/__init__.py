"""Zero-shot classification and retrieval: what an encoder with a text tower knows by name.

Importing this package registers its parts; nothing is trained.
"""

from pe_dense.zero_shot import (  # noqa: F401
    accuracy_metric,
    captioned_pictures,
    class_folders,
    image_text_backbone,
    image_text_scorer,
    mini_pictures,
    retrieval_metric,
)
