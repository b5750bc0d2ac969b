"""Random numbers of images: the same for every number of processes and every accumulation."""

import pytest
import torch

pytest.importorskip("mmengine")

from pe_dense.alignment import image_random
from pe_dense.alignment.image_random import image_generators, uniform_rows


def drawn(monkeypatch, info, rank, world, batch, stream=4):
    class Hub:
        @staticmethod
        def get_info(name, default=None):
            return info.get(name, default)

    monkeypatch.setattr(image_random.MessageHub, "get_current_instance", lambda: Hub)
    monkeypatch.setattr(image_random, "get_dist_info", lambda: (rank, world))
    generators = image_generators(stream, batch)
    return None if generators is None else uniform_rows(batch, 5, generators)


def test_processes_and_batches_share_the_images_of_a_step(monkeypatch):
    """Step 3 of 8 images: of one process, of two, of two that take two images at a time."""
    whole = drawn(monkeypatch, {"iter": 3, "seed": 11}, 0, 1, 8)
    for rank in range(2):
        half = drawn(monkeypatch, {"iter": 3, "seed": 11}, rank, 2, 4)
        assert torch.equal(half, whole[rank::2])
        quarters = [
            drawn(monkeypatch, {"iter": 3, "batch": 6 + i, "seed": 11}, rank, 2, 2)
            for i in range(2)
        ]
        assert torch.equal(torch.cat(quarters), half)


def test_places_seeds_and_streams_differ(monkeypatch):
    rows = [
        drawn(monkeypatch, {"iter": step, "seed": seed}, 0, 1, 4, stream)
        for step, seed, stream in [(0, 0, 4), (1, 0, 4), (0, 1, 4), (0, 0, 5)]
    ]
    assert len(torch.cat(rows).unique(dim=0)) == 16


def test_outside_of_a_run_the_global_generator_draws(monkeypatch):
    assert drawn(monkeypatch, {}, 0, 1, 4) is None
    assert uniform_rows(0, 5, []).shape == (0, 5)
    assert uniform_rows(2, 3).shape == (2, 3)
