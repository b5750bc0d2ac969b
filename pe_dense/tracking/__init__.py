"""Tracking: video object segmentation by label propagation, and its measures."""
