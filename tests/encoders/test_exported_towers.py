"""Towers under torch's exporters: real numbers alone, nothing left behind, any size."""

import pytest
import torch
from small_towers import CORE, DETECTION, SPATIAL, tower_of

from pe_dense.encoders.rotation import rope_table, turned_as_complex, turned_in_reals

IMAGES = torch.randn(2, 3, 20, 12, generator=torch.Generator().manual_seed(0))
KINDS = dict(spatial=SPATIAL, core=CORE, detection=DETECTION, tile=dict(SPATIAL, pos_embed="tile"))
each_kind = pytest.mark.parametrize("arch", KINDS.values(), ids=KINDS)


def operators(program):
    return {str(node.target) for node in program.graph.nodes if node.op == "call_function"}


def test_turning_in_reals_equals_complex_products():
    pairs = torch.randn(3, 7, 2, 6, 2, dtype=torch.float64)
    table_ND2 = rope_table((2, 3), 12, (1.0, 1.0), 1.0, 1).double()
    expected = turned_as_complex(pairs, table_ND2)
    torch.testing.assert_close(turned_in_reals(pairs, table_ND2), expected, rtol=1e-14, atol=1e-14)
    assert not torch.equal(expected, pairs)


@each_kind
def test_an_exported_tower_gives_the_same_without_complex_numbers(arch):
    tower = tower_of(**arch)
    with torch.no_grad():
        program = torch.export.export(tower, (IMAGES,))
        expected = tower(IMAGES)
        torch.testing.assert_close(program.module()(IMAGES), expected, rtol=1e-5, atol=1e-5)
    assert not [name for name in operators(program) if "complex" in name or "float64" in name]


def test_an_exporter_leaves_no_table_in_a_tower_that_has_not_run():
    tower = tower_of(**SPATIAL)
    with torch.no_grad():
        torch.export.export(tower, (IMAGES,))
        assert not tower._rope_tables
        found, fresh = tower(IMAGES), tower_of(**SPATIAL)(IMAGES)
    assert type(found) is torch.Tensor
    assert torch.equal(found, fresh)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_torchscript_traces_real_numbers():
    tower = tower_of(**SPATIAL)
    with torch.no_grad():
        expected = tower(IMAGES)
        traced = torch.jit.trace(tower, IMAGES)
        torch.testing.assert_close(traced(IMAGES), expected, rtol=1e-5, atol=1e-5)
    assert "complex" not in str(traced.inlined_graph)


def test_one_program_takes_images_of_any_size():
    tower = tower_of(**SPATIAL)
    batch, rows, columns = (torch.export.Dim(n, min=1, max=99) for n in ("batch", "h", "w"))
    with torch.no_grad():
        shapes = ({0: batch, 2: 4 * rows, 3: 4 * columns},)
        program = torch.export.export(tower, (IMAGES,), dynamic_shapes=shapes)
        for size in ((2, 20, 12), (3, 16, 16), (4, 8, 40)):
            images = torch.randn(size[0], 3, *size[1:])
            torch.testing.assert_close(
                program.module()(images), tower(images), rtol=1e-4, atol=1e-5
            )
