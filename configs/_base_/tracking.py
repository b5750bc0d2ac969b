"""Video object segmentation by label propagation: what all its evaluations share.

Nothing is trained.
"""

REQUIRED_tracking = (
    "encoder", "weights", "data_root", "resolution", "style", "split_file", "norm", "layers",
    "settings", "size_rule", "short_side", "upsample", "stretch", "report",
)  # fmt: skip
custom_imports = dict(
    imports=["pe_dense.run.resume", "pe_dense.tracking"], allow_failed_imports=False
)
data_check = "pe_dense.tracking.video_check:check_config"
training_free = True
journal_dir = "journal"  # in the work dir; a killed run goes on at the next video
results_dir = None  # a new folder: indexed PNGs at native size, as davis2017-evaluation reads them
model = dict(
    type="VideoPropagator",
    backbone=dict(type="DenseBackbone", encoder="$encoder", weights="$weights", norm="$norm"),
    encoder_depth="$encoder.depth",
    listed_depth="$listed_depth",
    layers="$layers",
    settings="$settings",
    size_rule="$size_rule",
    short_side="$short_side",
    upsample="$upsample",
    stretch="$stretch",
)
test_dataloader = dict(
    batch_size=1,
    num_workers=0,  # an item is a list of paths; the model decodes ahead
    drop_last=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=dict(type="pseudo_collate"),
    dataset=dict(
        type="DavisVideos",
        data_root="$data_root",
        resolution="$resolution",
        style="$style",
        split_file="$split_file",
    ),
)
test_evaluator = dict(type="VideoObjectMetric", report="$report", settings="$settings")
test_cfg = dict(type="TestLoop")
listed_depth = None
