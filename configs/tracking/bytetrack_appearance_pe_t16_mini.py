"""ByteTrack with PE features as the re-identification embedding, on the mini world.

The features are those of the detector's own encoder, pooled in each box; nothing is trained for
re-identification. Compare with bytetrack_pe_t16_mini.py, the same without appearance.

Data:     python tools/prepare_data.py mini
Command:  python tools/train.py configs/detection/atss_pe_t16_mini.py
          python tools/test.py configs/tracking/bytetrack_appearance_pe_t16_mini.py \\
              work_dirs/atss_pe_t16_mini
Cost:     10 s on one CPU core.
Expected: HOTA 0.346 [0.295, 0.408], IDF1 0.416 (four clips); without appearance 0.330.

The thresholds are lower than those of the paper, which are for YOLOX: ATSS multiplies class score
and centredness.
"""

_base_ = ["../_base_/runtime.py", "../_base_/mot.py", "../_base_/atss_small.py"]
protocol = dict(
    id="mini-mot-bytetrack-appearance",
    version=1,
    task="tracking",
    dataset="mini-mot",
    split="val",
    metric="HOTA",
    higher_is_better=True,
)
evaluation_only = True

encoder = "pe_spatial_t16_512"
weights = "random"
block = 1
num_classes = 6
data_root, pattern, half = "data/mini/mot/test", "*", None
tracked_classes = ["object"]
benchmark, out_dir = "MOT17", "work_dirs/mot_results"
image_scale = (256, 256)
model = dict(
    _delete_=True,
    type="TrackByDetection",
    data_preprocessor=dict(
        type="TrackDataPreprocessor",
        mean="$encoder.mean_255",
        std="$encoder.std_255",
        bgr_to_rgb=True,
        pad_size_divisor="$encoder.patch_size",
    ),
    detector=_base_.model,
    merge_classes=0.7,
    tracker=dict(
        type="AppearanceByteTracker",
        appearance_weight=0.5,
        min_iou=0.1,
        momentum=0.9,
        motion=dict(type="KalmanFilter"),
        obj_score_thrs=dict(high=0.15, low=0.075),
        init_track_thr=0.2,
        weight_iou_with_det_scores=False,
        match_iou_thrs=dict(high=0.1, low=0.5, tentative=0.3),
        num_frames_retain=12,  # one second
    ),
)
