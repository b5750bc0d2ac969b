"""Checkpoints of other projects: who knows how to turn them into our layout."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

# Functions (state dict, model) -> state dict in our layout, or None where they do not know it. Task
# folders add those of published checkpoints; `load_strictly` asks them in turn.
FOREIGN_LAYOUTS: list[Callable[[Mapping[str, Any], torch.nn.Module], dict[str, Any] | None]] = []
