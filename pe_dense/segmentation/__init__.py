"""Segmentation through mmseg; importing this package registers its parts."""
