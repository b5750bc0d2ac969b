"""Spatial alignment: data, model, optimiser and schedule, without teachers and losses.

Source: Perception Encoder (arXiv:2504.13181), table of settings of spatial alignment: aspect jitter
0.75 to 1.33, brightness and saturation jitter 0.32, mirroring; LAMB with betas 0.9 and 0.95; masks
of 2 x 2 tokens over 0.75 of them; DropPath 0.4. Not said there, and chosen here: the decay of the
learning rate (cosine to 0, as the schedule has no other parameter), eps of LAMB (1e-6, as its
paper), that norms and biases decay and get a trust ratio like the rest (LAMB's algorithm as it
stands), and that no gradient is clipped (the trust ratio bounds the step).

total_batch is the images of a step on all processes, and everything that is counted is counted in
such steps: total_steps, warmup_steps and all intervals. batch_size is what one process holds at a
time, as its memory allows; how many of those make a step follows from the number of processes.
Neither is part of the protocol. core_to_spatial is for weights of a Core tower.
"""

REQUIRED_alignment = (
    "encoder", "weights", "data_root", "crop_size", "total_batch", "total_steps", "batch_size",
    "lr", "weight_decay", "teachers", "losses", "probe_interval", "checkpoint_interval",
)  # fmt: skip
custom_imports = dict(
    imports=[
        "pe_dense.run.resume",
        "pe_dense.run.step_loop",
        "pe_dense.openmmlab.layer_decay",
        "pe_dense.alignment",
        "pe_dense.data.unlabelled_images",
        "pe_dense.data.instance_id_images",
        "pe_dense.data.image_shards",
        "pe_dense.data.photo_jitter",
    ],
    allow_failed_imports=False,
)
default_scope = "mmengine"
data_check = "pe_dense.alignment.mask_check:check_config"
model = dict(
    type="SpatialAligner",
    data_preprocessor=dict(
        type="ImgDataPreprocessor",
        mean=[0.0, 0.0, 0.0],
        std=[255.0, 255.0, 255.0],  # RGB in 0..1; student and teachers normalise themselves
        bgr_to_rgb=True,
    ),
    backbone=dict(
        type="DenseBackbone",
        encoder="$encoder",
        weights="$weights",
        weights_options=dict(core_to_spatial="$core_to_spatial"),
        encoder_options=dict(drop_path_rate="$drop_path_rate"),
        out_indices=(-1,),
        amp_dtype="$amp_dtype",
        grad_checkpointing="$grad_checkpointing",
    ),
    teachers="$teachers",
    losses="$losses",
    masking=dict(ratio="$mask_ratio", block_size="$mask_size", token="$mask_token"),
    layer_scale="$layer_scale",
)
drop_path_rate = 0.4
mask_ratio, mask_size, mask_token = 0.75, 2, "zero"
layer_scale = None
core_to_spatial = None
amp_dtype = None
grad_checkpointing = False
train_dataloader = dict(
    batch_size="$batch_size",
    num_workers="$num_workers",
    drop_last=True,
    sampler=dict(type="$sampler", shuffle=True),
    dataset=dict(
        type="$dataset_type",
        data_root="$data_root",
        pipeline=[
            dict(type="AspectJitterResize", size="$crop_size", ratio=(0.75, 1.33)),
            dict(type="ColorJitter", brightness=0.32, contrast=0.0, saturation=0.32, hue=0.0),
            dict(type="RandomMirror", prob=0.5),
            dict(type="PackImages"),
        ],
    ),
)
dataset_type, sampler, num_workers = "UnlabelledImages", "InfiniteSampler", 1
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(
        type="LAMB",
        lr="$lr",
        betas=(0.9, 0.95),
        weight_decay="$weight_decay",
        adapt_undecayed=True,
    ),
    constructor="EncoderLayerDecay",
    paramwise_cfg=dict(layer_decay=1.0, decay_norm_and_bias=True),
)
train_cfg = dict(type="StepTrainLoop", max_iters="$total_steps", val_interval="$total_steps")
param_scheduler = [
    dict(type="CosineAnnealingLR", eta_min=0.0, by_epoch=False, begin=0, end="$total_steps")
]
log_interval = 1
