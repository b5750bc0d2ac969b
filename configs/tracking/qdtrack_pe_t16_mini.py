"""QDTrack on ViTDet-PE Spatial T/16 for the mini world, from random weights.

Paper:    QDTrack (arXiv:2210.06984) as mmdet's configs/qdtrack, ViTDet (arXiv:2203.16527) without
          its mask head, PE (arXiv:2504.13181), two encoder blocks. AdamW instead of SGD.
Data:     python tools/prepare_data.py mini
Command:  python tools/train.py configs/tracking/qdtrack_pe_t16_mini.py
          python tools/test.py configs/tracking/qdtrack_pe_t16_mini.py \\
              work_dirs/qdtrack_pe_t16_mini
Cost:     not measured yet; 1.5 s per iteration of 2 pairs of frames on one CPU core.
Expected: not measured yet.
"""

_base_ = ["../_base_/runtime.py", "../_base_/mot.py", "../_base_/vitdet.py"]
protocol = dict(
    id="mini-mot-qdtrack",
    version=1,
    task="tracking",
    dataset="mini-mot",
    split="val",
    metric="HOTA",
    higher_is_better=True,
)

encoder = "pe_spatial_t16_512"
weights = "random"
layer, frozen = 1, False
amp_dtype, grad_checkpointing = None, False
canvas = 256
pixel_mean, pixel_std = "$encoder.mean_255", "$encoder.std_255"
width = 96
num_classes = 1
score_thr, max_per_img = 0.05, 100
data_root, train_root = "data/mini/mot/test", "data/mini/mot/train"
pattern, half = "*", None
tracked_classes = ["object"]
benchmark, out_dir = "MOT17", "work_dirs/mot_results"
image_scale = (256, 256)
batch_size, max_epochs, lr = 2, 12, 5e-4
model = dict(
    _delete_=True,
    type="QuasiDenseTracking",
    data_preprocessor=dict(
        type="TrackDataPreprocessor",
        mean="$pixel_mean",
        std="$pixel_std",
        bgr_to_rgb=True,
        pad_size_divisor="$canvas",
    ),
    detector=dict(
        type="FasterRCNN",
        backbone=_base_.model.backbone,
        neck=dict(_base_.model.neck, out_channels="$width"),
        rpn_head=dict(
            _base_.model.rpn_head,
            num_convs=1,
            in_channels="$width",
            feat_channels="$width",
            anchor_generator=dict(_base_.model.rpn_head.anchor_generator, scales=[6]),
        ),
        roi_head=dict(
            type="StandardRoIHead",
            bbox_roi_extractor=dict(
                _base_.model.roi_head.bbox_roi_extractor, out_channels="$width"
            ),
            bbox_head=dict(
                _base_.model.roi_head.bbox_head,
                in_channels="$width",
                conv_out_channels="$width",
                fc_out_channels=256,
            ),
        ),
        train_cfg=_base_.model.train_cfg,
        test_cfg=_base_.model.test_cfg,
    ),
    track_head=dict(
        type="QuasiDenseTrackHead",
        roi_extractor=dict(
            type="SingleRoIExtractor",
            roi_layer=dict(type="RoIAlign", output_size=7, sampling_ratio=0),
            out_channels="$width",
            featmap_strides="$roi_strides",
        ),
        embed_head=dict(
            type="QuasiDenseEmbedHead",
            num_convs=4,
            num_fcs=1,
            in_channels="$width",
            conv_out_channels="$width",
            fc_out_channels=256,
            embed_channels=64,
            norm_cfg=dict(type="GN", num_groups=32),
            loss_track=dict(type="MultiPosCrossEntropyLoss", loss_weight=0.25),
            loss_track_aux=dict(
                type="MarginL2Loss",
                neg_pos_ub=3,
                pos_margin=0,
                neg_margin=0.1,
                hard_mining=True,
                loss_weight=1.0,
            ),
        ),
        loss_bbox=dict(type="L1Loss", loss_weight=1.0),
        train_cfg=dict(
            assigner=dict(
                type="MaxIoUAssigner",
                pos_iou_thr=0.7,
                neg_iou_thr=0.5,
                min_pos_iou=0.5,
                match_low_quality=False,
                ignore_iof_thr=-1,
            ),
            sampler=dict(
                type="CombinedSampler",
                num=64,
                pos_fraction=0.5,
                neg_pos_ub=3,
                add_gt_as_proposals=True,
                pos_sampler=dict(type="InstanceBalancedPosSampler"),
                neg_sampler=dict(type="RandomSampler"),
            ),
        ),
    ),
    tracker=dict(
        type="QuasiDenseTracker",
        init_score_thr=0.5,
        obj_score_thr=0.3,
        match_score_thr=0.5,
        memo_tracklet_frames=12,  # one second
        memo_backdrop_frames=1,
        memo_momentum=0.8,
        nms_conf_thr=0.5,
        nms_backdrop_iou_thr=0.3,
        nms_class_iou_thr=0.7,
        with_cats=True,
        match_metric="bisoftmax",
    ),
)
train_dataloader = dict(
    batch_size="$batch_size",
    num_workers=1,
    sampler=dict(type="TrackImgSampler"),
    dataset=dict(
        type="MOTSequences",
        data_root="$train_root",
        metainfo=dict(classes="$tracked_classes"),
        pipeline=[
            dict(type="UniformRefFrameSample", num_ref_imgs=1, frame_range=5),
            dict(
                type="TransformBroadcaster",
                share_random_params=True,
                transforms=[
                    dict(type="LoadImage"),
                    dict(type="LoadTrackAnnotations"),
                    dict(type="Resize", scale="$image_scale", keep_ratio=True),
                    dict(type="RandomFlip", prob=0.5),
                ],
            ),
            dict(type="PackTrackInputs"),
        ],
    ),
)
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr="$lr", weight_decay=1e-4),
    clip_grad=dict(max_norm=10.0, norm_type=2),
)
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs="$max_epochs", val_interval="$max_epochs")
val_dataloader, val_evaluator = _base_.test_dataloader, _base_.test_evaluator
val_cfg = dict(type="ValLoop")
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(
        type="CosineAnnealingLR",
        eta_min_ratio=0.01,
        by_epoch=True,
        begin=0,
        end="$max_epochs",
        T_max="$max_epochs",
        convert_to_iter_based=True,
    ),
]
