"""Objects of your own videos tracked by any detector that was trained here; scored with your boxes.

Paper:    ByteTrack (arXiv:2110.06864) on a detector of configs/detection/.
Data:     DIR with clips (folders of frames, or MP4, MOV, AVI, MKV, WebM) and, to be scored, boxes
          as MOT text, COCO of videos or CVAT for video. What may lie where: docs/own_video.md.
Command:  python tools/test.py configs/tracking/mot_custom.py work_dirs/dino_custom \\
              --cfg-options data_root=DIR
          python tools/predict.py configs/tracking/mot_custom.py work_dirs/dino_custom VIDEO \\
              --out OUT
Cost:     that of the detector for each frame.
Expected: depends on detector and data.

Detector, normalisation and image size are the checkpoint's (before it is read the tower has random
weights, so that nothing is downloaded). What to change first: the scores that
begin and continue a track, start and keep, when a detector is less sure of itself than 0.4;
tracked=person,car for some of its classes.
"""

_base_ = ["../_base_/runtime.py", "../_base_/own_sequences.py"]
protocol = dict(
    id="custom-mot",
    version=1,
    task="tracking",
    dataset="$data.name",
    split="own",
    metric="HOTA",
    higher_is_better=True,
    own_annotations=dict(val="$data.sha256"),
)

encoder = "pe_spatial_t16_512"  # of the checkpoint, in truth
weights = "random"  # likewise
start, sure, keep = 0.4, 0.3, 0.1  # scores that begin a track, are matched first, and go on
frames_kept = 30  # without a box, before a track ends
model = dict(
    type="TrackByDetection",
    data_preprocessor=None,
    detector=None,
    keep_labels=None,
    merge_classes=0.7,
    tracker=dict(
        type="ByteTracker",
        motion=dict(type="KalmanFilter"),
        obj_score_thrs=dict(high="$sure", low="$keep"),
        init_track_thr="$start",
        weight_iou_with_det_scores=False,
        match_iou_thrs=dict(high=0.1, low=0.5, tentative=0.3),
        num_frames_retain="$frames_kept",
    ),
)
