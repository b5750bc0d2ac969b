"""Resize for pictures so narrow that their shorter side would be rounded to nothing."""

from __future__ import annotations

import copy

from mmcv.image import rescale_size


class AtLeastOnePixel:
    """Before a Resize of mmcv's kind: a side that would come below half a pixel becomes one pixel.

    Everything else is resized as ever. The libraries' own transforms are replaced under their
    names, so that configs say what they always said.
    """

    def transform(self, results: dict) -> dict:
        """As the Resize."""
        if self.keep_ratio and self.scale:
            height, width = results["img"].shape[:2]
            sides = rescale_size((width, height), self.scale)
            if min(sides) < 1:
                self = copy.copy(self)  # random transforms write into the one that they keep
                self.keep_ratio, self.scale = False, tuple(max(side, 1) for side in sides)
        return super().transform(results)
