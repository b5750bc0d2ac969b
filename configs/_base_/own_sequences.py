"""Boxes tracked through a person's own videos; the detector is that of the checkpoint."""

REQUIRED_own_sequences = ("encoder", "weights", "model")
default_scope = "mmdet"
custom_imports = dict(
    imports=[
        "pe_dense.run.resume",
        "pe_dense.detection",
        "pe_dense.tracking.mot",
        "pe_dense.tracking.own_sequences",
    ],
    allow_failed_imports=False,
)
data_root = None  # --cfg-options data_root=DIR
split_file = None  # list of the clips that count, below data_root
data_facts = "pe_dense.tracking.own_sequences:facts"
data_check = "pe_dense.tracking.own_sequences:check_config"
evaluation_only = True
detector_of_checkpoint = True  # with its normalisation and resizing
tracked = None  # 'person,car' or a list: the classes that are tracked; None: all

out_dir = "work_dirs/mot_results"  # each run makes a folder of its own in it
test_dataloader = dict(
    batch_size=1,
    num_workers=1,
    drop_last=False,
    sampler=dict(type="TrackImgSampler"),  # one frame after the other, whole sequences per process
    dataset=dict(
        type="OwnSequences",
        data_root="$data_root",
        split_file="$split_file",
        metainfo=dict(classes=["object"]),
        test_mode=True,
        pipeline=[
            dict(type="TransformBroadcaster", transforms=[dict(type="LoadImage")]),
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
test_evaluator = dict(
    type="MOTChallengeScores", out_dir="$out_dir", benchmark="MOT17", partial=True
)
