"""Mask2Former on a PE Spatial T/16 trained from random weights: segmentation of the mini world.

Paper:    Mask2Former (arXiv:2112.01527) on a simple pyramid (arXiv:2203.16527); four blocks.
Data:     python tools/prepare_data.py mini
Command:  python tools/train.py configs/segmentation/mask2former_pe_t16_mini.py
          python tools/test.py configs/segmentation/mask2former_pe_t16_mini.py \\
              work_dirs/mask2former_pe_t16_mini
Cost:     2 CPU cores; minutes not measured.
Expected: not measured yet.
"""

_base_ = ["../_base_/runtime.py", "../_base_/segmentation.py"]
custom_imports = dict(imports=["pe_dense.run.resume", "pe_dense.segmentation", "mmdet.models"])
protocol = dict(
    id="mini-segmentation-mask2former",
    version=1,
    task="segmentation",
    dataset="mini",
    split="val",
    metric="mIoU",
    higher_is_better=True,
)

encoder = "pe_spatial_t16_512"
weights = "random"
layers, frozen = [3], False
data_root = "data/mini/ade"
classes = ["sky", "wall", "ground", "path", "disc", "box", "triangle", "star", "ring", "cross"]
num_classes = 10
train_images, train_maps = "images/training", "annotations/training"
val_images, val_maps = "images/validation", "annotations/validation"
reduce_zero_label = True
image_scale, ratio_range = (256, 256), (0.8, 1.5)
crop_size = (256, 256)
batch_size = 4
num_queries = 20
max_epochs, val_interval = 8, 8
lr, weight_decay = 4e-4, 1e-2
backbone_lr_mult, layer_decay = 1.0, 1.0
warmup_iters = 50
model = dict(
    type="EncoderDecoder",
    neck=dict(
        type="SimplePyramid",
        in_channels="$encoder.embed_dim",
        out_channels=64,
        scales=(4, 2, 1, 0.5),
        num_extra_levels=0,
    ),
    decode_head=dict(
        _delete_=True,
        type="Mask2FormerHead",
        in_channels=[64, 64, 64, 64],
        strides="$encoder.roi_strides",
        feat_channels=64,
        out_channels=64,
        num_classes="$num_classes",
        num_queries="$num_queries",
        num_transformer_feat_level=3,
        align_corners=False,
        pixel_decoder=dict(
            type="mmdet.MSDeformAttnPixelDecoder",
            num_outs=3,
            norm_cfg=dict(type="GN", num_groups=32),
            act_cfg=dict(type="ReLU"),
            encoder=dict(
                num_layers=1,
                layer_cfg=dict(
                    self_attn_cfg=dict(
                        embed_dims=64,
                        num_heads=4,
                        num_levels=3,
                        num_points=4,
                        dropout=0.0,
                        batch_first=True,
                    ),
                    ffn_cfg=dict(
                        embed_dims=64,
                        feedforward_channels=128,
                        num_fcs=2,
                        ffn_drop=0.0,
                        act_cfg=dict(type="ReLU", inplace=True),
                    ),
                ),
            ),
            positional_encoding=dict(num_feats=32, normalize=True),
        ),
        enforce_decoder_input_project=False,
        positional_encoding=dict(num_feats=32, normalize=True),
        transformer_decoder=dict(
            return_intermediate=True,
            num_layers=2,
            layer_cfg=dict(
                self_attn_cfg=dict(embed_dims=64, num_heads=4, dropout=0.0, batch_first=True),
                cross_attn_cfg=dict(embed_dims=64, num_heads=4, dropout=0.0, batch_first=True),
                ffn_cfg=dict(
                    embed_dims=64,
                    feedforward_channels=128,
                    num_fcs=2,
                    ffn_drop=0.0,
                    act_cfg=dict(type="ReLU", inplace=True),
                ),
            ),
        ),
        loss_cls=dict(
            type="mmdet.CrossEntropyLoss",
            use_sigmoid=False,
            loss_weight=2.0,
            reduction="mean",
            class_weight=[1.0] * 10 + [0.1],  # the last is "no object"
        ),
        loss_mask=dict(
            type="mmdet.CrossEntropyLoss", use_sigmoid=True, reduction="mean", loss_weight=5.0
        ),
        loss_dice=dict(
            type="mmdet.DiceLoss",
            use_sigmoid=True,
            activate=True,
            reduction="mean",
            naive_dice=True,
            eps=1.0,
            loss_weight=5.0,
        ),
        train_cfg=dict(
            num_points=1024,
            oversample_ratio=3.0,
            importance_sample_ratio=0.75,
            assigner=dict(
                type="mmdet.HungarianAssigner",
                match_costs=[
                    dict(type="mmdet.ClassificationCost", weight=2.0),
                    dict(type="mmdet.CrossEntropyLossCost", weight=5.0, use_sigmoid=True),
                    dict(type="mmdet.DiceCost", weight=5.0, pred_act=True, eps=1.0),
                ],
            ),
            sampler=dict(type="mmdet.MaskPseudoSampler"),
        ),
    ),
)
optim_wrapper = dict(clip_grad=dict(max_norm=0.1, norm_type=2))
