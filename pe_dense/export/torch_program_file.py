"""A program as a file of torch.export, which torch.export.load reads without this package.

A detector's file holds operators of `pe_dense.export.operators`, which must be imported before.
"""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pe_dense.export.onnx_file import refusal
from pe_dense.export.program import Program

FACTS_FILE = "pe_dense.json"


def write_torch_program(program: Program, target: Path) -> dict[str, int]:
    """Write a program; its facts lie in the file as `FACTS_FILE`.

    Returns:
        Operators of the file and how often each occurs.

    Raises:
        ValueError: If something of it cannot be traced.
    """
    example = program.example(program.sizes.examples()[0], seed=0)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program.module(*example)  # whatever is kept for a size is kept now, with values
        try:
            exported = torch.export.export(
                program.module, example, dynamic_shapes=program.dynamic_shapes()
            )
        except Exception as error:  # the exporter has no common class of errors
            raise ValueError(refusal(error)) from error
        facts = {FACTS_FILE: json.dumps(program.described(), sort_keys=True)}
        torch.export.save(exported, target, extra_files=facts)
    targets = (n.target for n in exported.graph.nodes if n.op == "call_function")
    return dict(Counter(str(name).removesuffix(".default") for name in targets))


def run_torch_program(path: Path, example: Sequence[Tensor]) -> Callable[[], list[np.ndarray]]:
    """A function that runs a file with these inputs."""
    module = torch.export.load(path).module()

    def run() -> list[np.ndarray]:
        with torch.inference_mode():
            return [found.numpy() for found in module(*example)]

    return run
