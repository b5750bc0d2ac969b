"""ByteTrack on ViTDet-PE Spatial B/16, on the second halves of MOT17's training sequences.

Paper:    ByteTrack (arXiv:2110.06864; ifzhang/ByteTrack @ d1bf019), MOT17 (arXiv:1603.00831), PE
          (arXiv:2504.13181). The association is ByteTrack's. The detector is not: the paper trains
          YOLOX on CrowdHuman and half of MOT17, and this one has seen COCO alone, so the figures
          are no comparison with the paper's: they are for comparing encoders. Step by step:
          docs/protocols/mot17_bytetrack.md.
Data:     MOT17 from motchallenge.net, unpacked to data/MOT17/train/MOT17-02-FRCNN ...; the three
          copies of a sequence differ in public detections alone, which are not used.
Command:  torchrun --nproc-per-node 8 tools/train.py \\
              configs/detection/vitdet_pe_spatial_b16_coco_36ep.py --launcher pytorch
          python tools/test.py configs/tracking/bytetrack_pe_b16_mot17.py \\
              work_dirs/vitdet_pe_spatial_b16_coco_36ep
Cost:     2,652 frames; one GPU, minutes.
Expected: not measured yet.
Choices:  Frames of 1024 px as the detector was trained with (there 800 x 1440, padded with grey),
          its NMS at IoU 0.5 (there 0.7), persons alone. A frame without any box ages tracks (there
          it is skipped). Written boxes count pixels from 1, as MOTChallenge does (there from 0).
          TrackEval scores, HOTA is the headline (there py-motmetrics, MOTA and IDF1); no gaps are
          filled afterwards.
"""

_base_ = ["../_base_/runtime.py", "../_base_/mot.py", "../_base_/vitdet.py"]
protocol = dict(
    id="mot17-half-bytetrack-coco-detector",
    version=1,
    task="tracking",
    dataset="mot17",
    split="train, second halves",
    metric="HOTA",
    higher_is_better=True,
)
evaluation_only = True

encoder = "pe_spatial_b16_512"
weights = "released"
layer, frozen = -1, False
global_blocks = [2, 5, 8, 11]
amp_dtype, grad_checkpointing = None, False
num_classes = 80
canvas = 1024
score_thr, max_per_img = 0.05, 100
data_root, pattern, half = "data/MOT17/train", "*-FRCNN", "second"
tracked_classes = ["pedestrian"]
benchmark, out_dir = "MOT17", "work_dirs/mot_results"
image_scale = (1024, 1024)
model = dict(
    _delete_=True,
    type="TrackByDetection",
    data_preprocessor=dict(
        type="TrackDataPreprocessor",
        mean="$pixel_mean",
        std="$pixel_std",
        bgr_to_rgb=True,
        pad_size_divisor="$canvas",
    ),
    # What the detector was trained with; drop path plays no part in scoring.
    detector=dict(
        _base_.model,
        backbone=dict(
            _base_.model.backbone,
            encoder_options=dict(
                patch_size=16,
                image_size=512,
                cls_token=False,
                window_size=32,
                global_blocks="$global_blocks",
                pos_embed="tile",
                rope_grid=32,
            ),
        ),
    ),
    keep_labels=[0],  # person
    merge_classes=0.7,
    tracker=dict(
        type="PublishedByteTracker",
        keep_seconds=1.0,
        high=0.6,
        low=0.1,
        min_area=100.0,
        max_aspect=1.6,
    ),
)
