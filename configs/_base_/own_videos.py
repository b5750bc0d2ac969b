"""Label propagation on a person's own videos: which clips, masks and layers, is found by looking.

Nothing is trained.
"""

REQUIRED_own_videos = ("encoder", "weights")
custom_imports = dict(
    imports=["pe_dense.run.resume", "pe_dense.tracking"], allow_failed_imports=False
)
data_root = None  # --cfg-options data_root=DIR
split_file = None  # list of the clips to report, below data_root
holdout_share = 0.0  # of the scored clips, to choose the layer on
data_facts = "pe_dense.tracking.own_video_facts:facts"
data_check = "pe_dense.tracking.own_video_facts:check_config"
training_free = True
journal_dir = "journal"  # in the work dir; a killed run goes on at the next video
results_dir = "work_dirs/vos_results"  # a folder that is not empty gets a number

norm = False
layers = "$data.layers"  # a middle block, or all where some clips choose
settings = [dict(last_frames=7, radius=12, neighbourhood="circle", topk=5, temperature=0.1)]
size_rule, short_side = "pixels", 480
upsample, stretch = "image", False
report = "chosen"
model = dict(
    type="VideoPropagator",
    backbone=dict(type="DenseBackbone", encoder="$encoder", weights="$weights", norm="$norm"),
    encoder_depth="$encoder.depth",
    layers="$layers",
    settings="$settings",
    size_rule="$size_rule",
    short_side="$short_side",
    upsample="$upsample",
    stretch="$stretch",
    number_results=True,
)
test_dataloader = dict(
    batch_size=1,
    num_workers=0,  # an item is a list of paths; the model decodes ahead
    drop_last=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=dict(type="pseudo_collate"),
    dataset=dict(
        type="OwnVideos",
        data_root="$data_root",
        split_file="$split_file",
        holdout_share="$holdout_share",
    ),
)
test_evaluator = dict(type="VideoObjectMetric", report="$report", settings="$settings")
test_cfg = dict(type="TestLoop")
