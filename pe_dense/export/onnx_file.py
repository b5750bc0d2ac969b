"""A program as an ONNX file that knows how it is fed.

Facts lie in the file's metadata under 'pe_dense', as JSON; the runner needs nothing else.
"""

from __future__ import annotations

import json
import re
import warnings
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from pe_dense.export.onnx_operators import translations
from pe_dense.export.program import Program

METADATA_KEY = "pe_dense"
OPSET = 20
MOST_BYTES_IN_ONE_FILE = 2**31 - 2**20  # protobuf's limit of 2 GiB, and room for the graph
NEEDED = ("onnx", "onnxscript", "onnxruntime")


def import_needed(name: str) -> ModuleType:
    """Import one of `NEEDED`.

    Raises:
        ValueError: If it is not installed.
    """
    import importlib

    assert name.partition(".")[0] in NEEDED
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{error.name} is not installed, which an export needs; pip install 'pe_dense[export]'"
        ) from error


def write_onnx(program: Program, target: Path, opset: int = OPSET) -> dict[str, int]:
    """Write a program; weights above 2 GiB go to `target` + '.data' beside it.

    Returns:
        Operators of the file and how often each occurs.

    Raises:
        ValueError: If something of it has no form in ONNX: what, and where.
    """
    for name in NEEDED:
        import_needed(name)
    example = program.example(program.sizes.examples()[0], seed=0)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program.module(*example)  # whatever is kept for a size is kept now, with values
        try:
            written = torch.onnx.export(
                program.module,
                example,
                dynamo=True,
                verbose=False,
                optimize=False,
                opset_version=opset,
                input_names=list(program.inputs),
                output_names=list(program.outputs),
                dynamic_shapes=program.dynamic_shapes(),
                custom_translation_table=translations(),
            )
            assert written is not None
            import_needed("onnxscript.optimizer").optimize_ir(written.model)
            _keep_constants(written.model)
        except Exception as error:  # the exporter has no common class of errors
            raise ValueError(refusal(error)) from error
    facts = dict(program.described(), operators=sorted(_operators(written.model)), opset=opset)
    written.model.metadata_props[METADATA_KEY] = json.dumps(facts, sort_keys=True)
    written.model.producer_name = "pe_dense"
    _forget_the_machine(written.model)
    size = sum(p.numel() * p.element_size() for p in program.module.state_dict().values())
    written.save(target, external_data=size > MOST_BYTES_IN_ONE_FILE)
    return dict(_operators(written.model))


def _keep_constants(model: Any) -> None:
    """Constants that nodes read and the graph does not hold: folding may drop one of two equals."""
    graph = model.graph
    inputs = {id(value) for value in graph.inputs}
    for node in graph.all_nodes():
        for value in node.inputs:
            if value is None or value.producer() is not None or id(value) in inputs:
                continue
            held = graph.initializers.get(value.name)
            if held is not value and value.const_value is not None:
                if held is not None:
                    value.name = f"{value.name}_{len(graph.initializers)}"
                graph.register_initializer(value)


def _forget_the_machine(model: Any) -> None:
    """Take out the exporter's notes: they name the files of this machine, line by line."""
    for graph in (model.graph, *model.functions.values()):
        graph.metadata_props.clear()
        for node in graph.all_nodes():
            node.metadata_props.clear()
            node.doc_string = None
            for value in node.outputs:
                value.metadata_props.clear()
        for value in (*graph.inputs, *graph.outputs):
            value.metadata_props.clear()
    for value in model.graph.initializers.values():
        value.metadata_props.clear()


def _operators(model: Any) -> Counter[str]:
    """Names of all operators, those of subgraphs and functions too."""
    found: Counter[str] = Counter()
    for node in model.graph.all_nodes():
        found[node.op_type if not node.domain else f"{node.domain}.{node.op_type}"] += 1
    for function in model.functions.values():
        found.update(n.op_type for n in function.all_nodes())
    return found


_OPERATOR = re.compile(r"<OpOverload\(op='([\w.:]+)'")
_PLACE = re.compile(r'File "([^"]+)", line (\d+), in (\w+)')


def refusal(error: BaseException) -> str:
    """Why an export has failed, in one sentence: the operator, and the function that calls it."""
    texts, cause = [], error
    while cause is not None:
        texts.append(str(cause))
        cause = cause.__cause__  # type: ignore[assignment]
    whole = "\n".join(texts)
    operator = _OPERATOR.search(whole)
    own = [place for place in _PLACE.findall(whole) if "/torch/" not in place[0]]
    where = f" in {own[-1][2]} of {Path(own[-1][0]).name}" if own else ""
    if operator:
        return f"operator {operator[1]}{where} has no form in ONNX, so this model is not exported"
    reason = next((line.strip() for line in reversed(texts) if line.strip()), type(error).__name__)
    return f"the model cannot be traced{where}: {reason.splitlines()[0][:300]}"


def onnx_session(path: Path, threads: int = 0) -> Any:
    """An onnxruntime session on the CPU.

    Raises:
        ValueError: If the runtime refuses the file.
    """
    runtime = import_needed("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    try:
        return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors have no common class
        reason = str(error).splitlines()[0][:300]
        raise ValueError(f"onnxruntime does not run {path.name}: {reason}") from error


def outputs_of(session: Any, arrays: Mapping[str, np.ndarray], name: str) -> list[np.ndarray]:
    """Outputs of a session of the file `name`.

    Raises:
        ValueError: If the runtime stops.
    """
    try:
        return session.run(None, dict(arrays))
    except Exception as error:  # its errors have no common class
        reason = str(error).splitlines()[0][:300]
        raise ValueError(f"onnxruntime stops in {name}: {reason}") from error
