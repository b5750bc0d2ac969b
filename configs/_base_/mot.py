"""Multi-object tracking of MOTChallenge sequences, frame by frame, and its scores.

Tracking by detection trains nothing: it takes the checkpoint of a detector.
"""

REQUIRED_mot = (
    "data_root", "pattern", "half", "image_scale", "tracked_classes", "benchmark", "out_dir",
    "model",
)  # fmt: skip
custom_imports = dict(
    imports=["pe_dense.run.resume", "pe_dense.detection", "pe_dense.tracking.mot"],
    allow_failed_imports=False,
)
data_check = "pe_dense.tracking.mot:check_config"

test_dataloader = dict(
    batch_size=1,
    num_workers=1,
    drop_last=False,
    sampler=dict(type="TrackImgSampler"),  # one frame after the other, whole sequences per process
    dataset=dict(
        type="MOTSequences",
        data_root="$data_root",
        pattern="$pattern",
        half="$half",
        metainfo=dict(classes="$tracked_classes"),
        test_mode=True,
        pipeline=[
            dict(
                type="TransformBroadcaster",
                transforms=[
                    dict(type="LoadImage"),
                    dict(type="Resize", scale="$image_scale", keep_ratio=True),
                ],
            ),
            dict(
                type="PackTrackInputs",
                default_meta_keys=(
                    "img_id",
                    "img_path",
                    "ori_shape",
                    "img_shape",
                    "scale_factor",
                    "frame_id",
                    "frame_number",
                    "sequence_dir",
                    "video_id",
                    "video_length",
                    "ori_video_length",
                ),
            ),
        ],
    ),
)
test_cfg = dict(type="TestLoop")
test_evaluator = dict(type="MOTChallengeScores", out_dir="$out_dir", benchmark="$benchmark")
