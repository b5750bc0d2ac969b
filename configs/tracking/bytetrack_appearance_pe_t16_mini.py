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

_base_ = ["./bytetrack_pe_t16_mini.py"]
protocol = dict(id="mini-mot-bytetrack-appearance")

model = dict(
    tracker=dict(
        _delete_=True,
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
