"""Dense prediction with Perception Encoder: backbones, heads, protocols and results."""

__version__ = "0.1.0"
