"""A PE Spatial T/16 aligned on the mini world, on a CPU: every part of the recipe at toy size.

Paper:    spatial alignment of Perception Encoder (arXiv:2504.13181), with two stand-ins, so that
          nothing is downloaded: true instance masks for SAM's, and another random tower for the
          semantic teacher. The locality term can be learned; the semantic one only checks the
          machinery, and the student is no better encoder for it.
Data:     python tools/prepare_data.py mini
Command:  python tools/train.py configs/alignment/spatial_align_t16_mini.py
          python tools/export_student.py work_dirs/spatial_align_t16_mini student.safetensors
Cost:     0.8 s per step on one CPU core, about 3 min in all.
Expected: not measured as a whole. In a run of 10 steps loss_core falls from 0.01 to -0.09. The
          probes' scores are no result.
Choices:  128 px (8 x 8 tokens), warm-up of 10 steps and a larger learning rate than the
          paper's, because the student starts from random weights; no DropPath, for the same reason.
"""

_base_ = ["../_base_/runtime.py", "../_base_/alignment.py"]
protocol = dict(
    id="mini-spatial-align",
    version=1,
    task="alignment",
    dataset="mini",
    split="train",
    metric="loss",
    higher_is_better=False,
)

encoder = "pe_spatial_t16_512"
weights = "random"
data_root = "data/mini/coco"
train_dataloader = dict(dataset=dict(ann_file="annotations/train.json", img_folder="images/train"))
dataset_type = "CocoInstanceIds"
crop_size = (128, 128)
total_batch, total_steps, warmup_steps = 16, 150, 10
batch_size = 8
lr, weight_decay = 5e-3, 0.05
drop_path_rate = 0.0
teachers = [
    dict(name="core", type="EncoderTeacher", encoder="pe_core_t16_384", weights="random", layer=9),
    dict(name="masks", type="InstanceMaskTeacher", points_per_side=8),
]
losses = [
    dict(name="core", teacher="core", type="TokenCosineLoss"),
    dict(name="locality", teacher="masks", type="PairwiseSimilarityLoss"),
]
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-3, by_epoch=False, begin=0, end="$warmup_steps"),
    dict(type="CosineAnnealingLR", eta_min=0.0, by_epoch=False, begin=0, end="$total_steps"),
]
probes = [
    dict(
        name="mini_segmentation",
        function="pe_dense.alignment.patch_probe:nearest_centroid_segmentation",
        data_root="$probe_root",
        num_classes=10,
        grid_side=8,
        limit=40,
    ),
    dict(
        name="mini_propagation",
        function="pe_dense.tracking.encoder_probe:propagation_scores",
        data_root="$video_root",
        short_side=16,
        limit=2,
    ),
]
video_root = "data/mini/davis"
probe_root = "data/mini/ade"
probe_interval, checkpoint_interval, log_interval = 50, 50, 5
custom_hooks = [
    dict(type="ExactResumeHook"),
    dict(type="AlignmentFacts"),
    dict(type="StopOnNaN"),
    dict(type="ProtocolEvalHook", probes="$probes", interval="$probe_interval", at_start=True),
]
default_hooks = dict(
    logger=dict(interval="$log_interval"),
    checkpoint=dict(interval="$checkpoint_interval", by_epoch=False),
)
log_processor = dict(by_epoch=False)
