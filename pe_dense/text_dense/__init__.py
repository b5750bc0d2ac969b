"""Patch labels from texts, with nothing trained: read-outs of a contrastive tower, and scores."""
