"""PE Spatial G/14 from PE Core G/14: block 41 of Core and mask logits of SAM 2.1-L as teachers.

Paper:    Perception Encoder (arXiv:2504.13181), section on spatial alignment and its tables of
          settings: LAMB 5e-4, weight decay 0.05, no warm-up, batch 12,288, 24,000 steps (about 300
          million images), 448 px, masks of 2 x 2 tokens over 0.75, DropPath 0.4, LayerScale 0.1,
          both losses with weight 1, temperature 20.
Data:     The paper's 5.4 billion images are private. Any tar shards of images in data/images; the
          probe needs python tools/prepare_data.py mini
Command:  torchrun --nnodes 8 --nproc-per-node 8 --rdzv-backend c10d \\
              --rdzv-endpoint HOST:29500 --rdzv-id NAME tools/train.py \\
              configs/alignment/spatial_align_g14_448.py --launcher pytorch
          python tools/export_student.py work_dirs/spatial_align_g14_448 spatial_g.safetensors
          Each node runs the first, with the name of one of them as HOST; under Slurm
          python tools/train.py CONFIG --print-sbatch 8 8 prints a job. 8 GPUs: --nproc-per-node 8
          alone; batch_size is what a GPU holds, the rest of the 12,288 is accumulated.
Cost:     64 GPUs of 80 GB x 24 images x 8 accumulated, 24,000 steps; time and memory not
          measured. A process holds the semantic teacher (41 of 50 blocks, 6 GB) and SAM (0.9 GB)
          whole beside its share of the student; SAM's decoder (1024 points per image) should be
          most of the time.
Expected: not measured. The paper's PE Spatial G: 48.9 mIoU on ADE20K with its last
          layer, 61.5 J&F on DAVIS.
Choices:  Unknown and chosen: masked tokens are zeros plus positions (the paper adds no parameter
          but LayerScale); the learning rate decays by a cosine to 0; DropPath is the same in all
          blocks, as the official tower has it; which mask of SAM, its clamp and resampling as in
          SamTeacher; norms and biases decay. LayerScale starts at 0.1 over unchanged projections,
          as published, which damps every block at first: core_to_spatial='preserve' starts as Core.
"""

_base_ = [
    "../_base_/runtime.py",
    "../_base_/alignment.py",
    "../_base_/mini_world_probes.py",
    "../_base_/sharded.py",
]
protocol = dict(
    id="spatial-align-g14",
    version=1,
    task="alignment",
    dataset="images",
    split="train",
    metric="loss",
    higher_is_better=False,
)
sharding = dict(param_dtype="bfloat16")

encoder = "pe_spatial_g14_448"
weights = "hf://facebook/PE-Core-G14-448:PE-Core-G14-448.pt"
core_to_spatial = "published"
amp_dtype, grad_checkpointing = "bfloat16", True
data_root = "data/images"
dataset_type, sampler, num_workers = "ShardedImages", "ShardOrderSampler", 8
crop_size = (448, 448)
total_batch, total_steps = 12_288, 24_000
batch_size = 24
lr, weight_decay = 5e-4, 0.05
teachers = [
    dict(
        name="core",
        type="EncoderTeacher",
        encoder="pe_core_g14_448",
        weights="released",
        layer=40,
        amp_dtype="bfloat16",
    ),
    dict(name="sam", type="SamTeacher", points_per_side=32, amp_dtype="bfloat16"),
]
losses = [
    dict(name="core", teacher="core", type="TokenCosineLoss"),
    dict(name="locality", teacher="sam", type="PairwiseSimilarityLoss", temperature=20.0),
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
