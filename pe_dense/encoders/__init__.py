"""Vision encoders in plain torch; ``backbone`` is the only module that knows OpenMMLab."""
