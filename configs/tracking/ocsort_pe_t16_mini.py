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

_base_ = ["./bytetrack_pe_t16_mini.py"]
protocol = dict(id="mini-mot-ocsort")

model = dict(
    type="ObservationCentricTracking",
    tracker=dict(
        _delete_=True,
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
