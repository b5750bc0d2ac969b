"""OC-SORT (arXiv:2203.14360) on the detector of the mini world.

Data:     python tools/prepare_data.py mini
Command:  python tools/train.py configs/detection/atss_pe_t16_mini.py
          python tools/test.py configs/tracking/ocsort_pe_t16_mini.py \\
              work_dirs/atss_pe_t16_mini
Cost:     10 s on one CPU core.
Expected: HOTA 0.314 [0.256, 0.388], IDF1 0.380 (four clips).

The thresholds are lower than those of the paper, which are for YOLOX: ATSS multiplies class score
and centredness.
"""

_base_ = ["../_base_/runtime.py", "../_base_/mot.py", "../_base_/atss_small.py"]
protocol = dict(
    id="mini-mot-ocsort",
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
    type="ObservationCentricTracking",
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
        type="OCSORTTracker",
        motion=dict(type="KalmanFilter"),
        obj_score_thr=0.15,
        init_track_thr=0.2,
        weight_iou_with_det_scores=False,
        match_iou_thr=0.3,
        num_tentatives=3,
        vel_consist_weight=0.2,
        vel_delta_t=3,
        num_frames_retain=12,  # one second
    ),
)
