"""Operators of detectors and trackers in PyTorch, on any device; what `mmcv._ext` compiles."""
