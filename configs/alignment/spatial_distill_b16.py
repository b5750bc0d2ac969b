"""PE Spatial B/16 distilled from PE Spatial G/14, starting from PE Core B/16.

Paper:    Perception Encoder (arXiv:2504.13181, appendix on smaller models; facebookresearch/
          perception_models @ 3e352cc, README): PE Spatial G is the only teacher; pairwise
          similarity directly on the last layer, token cosine behind a linear layer to its 1536
          channels, 1024 tokens.
Data:     The paper takes a part of its private images. Any tar shards of images in data/images; the
          probe needs python tools/prepare_data.py mini
Command:  torchrun --nproc-per-node 8 tools/train.py \\
              configs/alignment/spatial_distill_b16.py --launcher pytorch
          python tools/export_student.py work_dirs/spatial_distill_b16 student.safetensors
Cost:     8 GPUs, batch 2,048 (64 images x 8 GPUs x 4 accumulated), 24,000 steps; time and memory
          not measured. The teacher's 1.9 billion parameters (7.5 GB) are on every GPU and should
          take most of the time.
Expected: not measured. The released PE Spatial B/16: 44.4 mIoU on ADE20K, linear, last layer.
Choices:  Unknown and chosen: learning rate 2e-4, which is G's by the root of the smaller batch (as
          LAMB's authors scale); 24,000 steps as G; 1,000 steps of warm-up, because the linear layer
          starts at random; neither masks nor DropPath, because a small student that matches its
          teacher on the same view (arXiv:2106.05237) has too little capacity rather than too much
          (--cfg-options mask_ratio=0.75 drop_path_rate=0.4 has G's); temperature 20 and weights 1
          as G; the linear layer is dropped at export, as the released files hold none.
"""

_base_ = ["../_base_/runtime.py", "../_base_/alignment.py", "../_base_/mini_world_probes.py"]
protocol = dict(
    id="spatial-distill-b16",
    version=1,
    task="alignment",
    dataset="images",
    split="train",
    metric="loss",
    higher_is_better=False,
)

encoder = "pe_spatial_b16_512"
weights = "hf://facebook/PE-Core-B16-224:PE-Core-B16-224.pt"
core_to_spatial = "preserve"
amp_dtype, grad_checkpointing = "bfloat16", False
data_root = "data/images"
dataset_type, sampler, num_workers = "ShardedImages", "ShardOrderSampler", 8
crop_size = (512, 512)
total_batch, total_steps, warmup_steps = 2_048, 24_000, 1_000
batch_size = 64
lr, weight_decay = 2e-4, 0.05
drop_path_rate, mask_ratio = 0.0, 0.0
teachers = [
    dict(
        name="spatial_g",
        type="EncoderTeacher",
        encoder="pe_spatial_g14_448",
        weights="released",
        layer=-1,
        amp_dtype="bfloat16",
    )
]
losses = [
    dict(name="token", teacher="spatial_g", type="TokenCosineLoss", projection="linear"),
    dict(name="pairwise", teacher="spatial_g", type="PairwiseSimilarityLoss", temperature=20.0),
]
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-3, by_epoch=False, begin=0, end="$warmup_steps"),
    dict(type="CosineAnnealingLR", eta_min=0.0, by_epoch=False, begin=0, end="$total_steps"),
]
probe_interval = 1_000
checkpoint_interval = 500
custom_hooks = [
    dict(type="ExactResumeHook"),
    dict(type="AlignmentFacts"),
    dict(type="StopOnNaN"),
    dict(type="ProtocolEvalHook", probes="$probes", interval="$probe_interval", at_start=True),
]
default_hooks = dict(
    logger=dict(interval="$log_interval"),
    checkpoint=dict(interval="$checkpoint_interval", by_epoch=False),
)
log_processor = dict(by_epoch=False)
