"""Linear probes of every layer of a frozen encoder: what segmentation and depth share.

The config that uses this defines the data loaders, model.data_preprocessor, model.task_options,
task, sources, listed_depth, lrs, weight_decays, seeds, encoder, weights, max_epochs and
warmup_iters.
"""

custom_imports = dict(
    imports=["pe_dense.run.resume", "pe_dense.probing"], allow_failed_imports=False
)
test_mode = "whole"
select_on = "holdout"
holdout_share = 0.1
allow_absent_classes = False
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
    test_cfg=dict(mode="$test_mode"),
)
test_evaluator = dict(
    type="ProbeMetric",
    task="$task",
    encoder_depth="$encoder.depth",
    sources="$sources",
    lrs="$lrs",
    weight_decays="$weight_decays",
    seeds="$seeds",
    select_on="$select_on",
    allow_absent_classes="$allow_absent_classes",
)
optim_wrapper = dict(
    type="OptimWrapper",
    constructor="HeadBankOptimizer",
    optimizer=dict(type="GroupedAdamW", lr=1.0, betas=(0.9, 0.999)),  # lr: factor of all heads
)
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs="$max_epochs", val_interval="$max_epochs")
# Selection belongs to the evaluation: it scores the holdout and the reported split in one pass.
val_dataloader = None
val_evaluator = None
val_cfg = None
test_cfg = dict(type="TestLoop")
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-6, by_epoch=False, begin=0, end="$warmup_iters"),
    dict(
        type="PolyLR",
        power=1.0,
        eta_min=0.0,
        by_epoch=True,
        begin=0,
        end="$max_epochs",
        convert_to_iter_based=True,
    ),
]
