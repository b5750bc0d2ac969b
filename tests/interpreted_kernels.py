"""Runs Triton kernels on CPU tensors, through triton's interpreter, for comparison with references.

    from interpreted_kernels import interpreted  # noqa: F401 (a fixture)

    def test_the_kernel_equals_the_reference(interpreted) -> None: ...

In such a test `use_kernels` says yes to CPU tensors. Where triton is missing the test is skipped;
tests/conftest.py sets TRITON_INTERPRET before anything imports triton. Keep tensors tiny.
"""

from __future__ import annotations

import pytest


@pytest.fixture
def interpreted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels are demanded; skips with the reason where the interpreter cannot run them."""
    torch = pytest.importorskip("torch")
    kernels = pytest.importorskip("pe_dense.kernels")
    problem = kernels.kernels_problem(torch.device("cpu"))
    if problem:
        pytest.skip(f"kernels cannot be interpreted here: {problem}")
    monkeypatch.setenv(kernels.VARIABLE, "on")
    interpreter = pytest.importorskip("triton.runtime.interpreter")
    patch_tensor = interpreter._patch_lang_tensor

    def patch_bounds_of_loops(tensor, scope) -> None:
        patch_tensor(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))

    # Scalars of the interpreter are arrays of one number, which numpy 2.4 no longer takes as ints.
    monkeypatch.setattr(interpreter, "_patch_lang_tensor", patch_bounds_of_loops)
