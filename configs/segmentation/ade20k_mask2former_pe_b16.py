"""ADE20K by Mask2Former on a simple pyramid, the whole of PE Spatial B/16 fine-tuned.

Paper:    Mask2Former (arXiv:2112.01527), pyramid of ViTDet (arXiv:2203.16527), on PE
          (arXiv:2504.13181). PE published no such model: head, matching, losses and schedule are
          mmseg's for ADE20K with Swin-T (encoder at a tenth of the learning rate, gradients clipped
          to 0.01, drop path 0.3, 160,000 iterations).
Data:     ADE20K (SceneParse150): python tools/prepare_data.py ade20k DIR
Command:  torchrun --nproc-per-node 8 tools/train.py \\
              configs/segmentation/ade20k_mask2former_pe_b16.py --launcher pytorch
          python tools/test.py configs/segmentation/ade20k_mask2former_pe_b16.py \\
              work_dirs/ade20k_mask2former_pe_b16
Cost:     8 GPUs x 2 images, 160,000 iterations; hours not measured.
Expected: not measured yet. DINOv2 g/14, frozen, with ViT-Adapter: 60.2; DINOv3 7B/16: 62.6
          (reported, their papers; other necks, sizes and schedules).
Choices:  Needs mmdet. Crop 32 x 32 tokens; whole images at test, padded to the patch. Scales are
          continuous from 0.5 to 2, where mmseg draws among sixteen.
"""

_base_ = ["../_base_/runtime.py", "../_base_/segmentation_data.py"]
custom_imports = dict(imports=["pe_dense.run.resume", "pe_dense.segmentation", "mmdet.models"])
protocol = dict(
    id="ade20k-mask2former-b-160k",
    version=1,
    task="segmentation",
    dataset="ade20k",
    split="val",
    metric="mIoU",
    higher_is_better=True,
)

encoder = "pe_spatial_b16_512"
weights = "released"
drop_path_rate = 0.3
grad_checkpointing = False
data_root = "data/ade/ADEChallengeData2016"
dataset_type = "ADE20KDataset"
img_suffix, seg_map_suffix, reduce_zero_label = ".jpg", ".png", True
train_images, train_maps, train_list = "images/training", "annotations/training", ""
val_images, val_maps, val_list = "images/validation", "annotations/validation", ""
crop_size = ("$encoder.side_of_32_tokens", "$encoder.side_of_32_tokens")
train_scale, ratio_range = (2048, "$encoder.side_of_32_tokens"), (0.5, 2.0)
test_scale = (2048, "$encoder.side_of_32_tokens")
hue_delta = 18
batch_size = 2
processes = 8
max_iters, val_interval = 160_000, 5_000
num_queries = 100
lr, weight_decay = 1e-4, 0.05
model = dict(
    type="EncoderDecoder",
    data_preprocessor=dict(
        type="SegDataPreProcessor",
        mean="$encoder.mean_255",
        std="$encoder.std_255",
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        size="$crop_size",
        test_cfg=dict(size_divisor="$encoder.patch_size"),
    ),
    backbone=dict(
        type="DenseBackbone",
        encoder="$encoder",
        weights="$weights",
        out_indices=[-1],
        grad_checkpointing="$grad_checkpointing",
        encoder_options=dict(
            drop_path_rate="$drop_path_rate",
            drop_path_schedule="linear",
        ),
    ),
    neck=dict(
        type="SimplePyramid",
        in_channels="$encoder.embed_dim",
        out_channels=256,
        scales=(4, 2, 1, 0.5),
        num_extra_levels=0,
    ),
    decode_head=dict(
        type="Mask2FormerHead",
        in_channels=[256, 256, 256, 256],
        strides="$encoder.roi_strides",
        feat_channels=256,
        out_channels=256,
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
                num_layers=6,
                layer_cfg=dict(
                    self_attn_cfg=dict(
                        embed_dims=256,
                        num_heads=8,
                        num_levels=3,
                        num_points=4,
                        dropout=0.0,
                        batch_first=True,
                    ),
                    ffn_cfg=dict(
                        embed_dims=256,
                        feedforward_channels=1024,
                        num_fcs=2,
                        ffn_drop=0.0,
                        act_cfg=dict(type="ReLU", inplace=True),
                    ),
                ),
            ),
            positional_encoding=dict(num_feats=128, normalize=True),
        ),
        enforce_decoder_input_project=False,
        positional_encoding=dict(num_feats=128, normalize=True),
        transformer_decoder=dict(
            return_intermediate=True,
            num_layers=9,
            layer_cfg=dict(
                self_attn_cfg=dict(embed_dims=256, num_heads=8, dropout=0.0, batch_first=True),
                cross_attn_cfg=dict(embed_dims=256, num_heads=8, dropout=0.0, batch_first=True),
                ffn_cfg=dict(
                    embed_dims=256,
                    feedforward_channels=2048,
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
            class_weight=[1.0] * 150 + [0.1],  # the last is "no object"
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
            num_points=12544,
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
    test_cfg=dict(mode="whole"),
)
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr="$lr", betas=(0.9, 0.999), weight_decay="$weight_decay"),
    clip_grad=dict(max_norm=0.01, norm_type=2),
    constructor="EncoderLayerDecay",
    paramwise_cfg=dict(
        layer_decay=1.0,
        custom_keys={
            "backbone.": dict(lr_mult=0.1),
            "query_embed": dict(decay_mult=0.0),
            "query_feat": dict(decay_mult=0.0),
            "level_embed": dict(decay_mult=0.0),
            "level_encoding": dict(decay_mult=0.0),
        },
    ),
)
param_scheduler = [
    dict(type="PolyLR", power=0.9, eta_min=0.0, by_epoch=False, begin=0, end="$max_iters"),
]
default_hooks = dict(
    logger=dict(interval=50),
    checkpoint=dict(interval="$val_interval", by_epoch=False),
)
log_processor = dict(window_size=50, by_epoch=False)
