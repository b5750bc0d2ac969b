"""Probes of all 12 blocks of a small encoder, and of the last four together, on the mini world."""

REQUIRED_mini_probing = ("task", "half_length", "model.data_preprocessor", "model.task_options")
encoder = "pe_spatial_t16_512"
weights = "random"
listed_depth = 12
sources = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, [8, 9, 10, 11]]
lrs, weight_decays, seeds = [1e-2, 1e-3, 1e-4], [1e-2, 1e-4], [0, 1, 2]
batch_size = 4
test_mode = "whole"
model = dict(
    type="LayerProbe",
    backbone=dict(type="DenseBackbone", encoder="$encoder", weights="$weights", norm=False),
    encoder_depth="$encoder.depth",
    listed_depth="$listed_depth",
    sources="$sources",
    task="$task",
    lrs="$lrs",
    weight_decays="$weight_decays",
    seeds="$seeds",
    half_length="$half_length",
    test_cfg=dict(mode="$test_mode"),
)
