"""Linear probes of every layer of a frozen encoder: heads side by side, choice and schedule.

Layer, learning rate and weight decay are chosen on held-out images of the training set, a tenth
of them as nearly as whole groups allow (docs/holdouts.md); the reported split is scored once, for
every seed of the heads.
"""

REQUIRED_probing = (
    "encoder", "task", "sources", "lrs", "weight_decays", "seeds", "max_epochs", "warmup_iters",
    "model", "train_dataloader", "test_dataloader",
)  # fmt: skip
select_on = "holdout"
half_length = True  # heads of half the training beside the others: were those trained to their end?
holdout_share = 0.1
allow_absent_classes = False
test_evaluator = dict(
    type="ProbeMetric",
    task="$task",
    encoder_depth="$encoder.depth",
    sources="$sources",
    lrs="$lrs",
    weight_decays="$weight_decays",
    seeds="$seeds",
    half_length="$half_length",
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
