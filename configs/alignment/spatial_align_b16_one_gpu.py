"""Spatial alignment of PE Core B/16 on one GPU: its own tenth block and SAM 2.1 as teachers.

Paper:    the recipe of PE Spatial G (arXiv:2504.13181) on a tower that one GPU trains; the paper
          trains B by distillation (spatial_distill_b16.py). For the question whether alignment
          helps a given encoder, not for its numbers. Any encoder: --encoder timm:NAME --weights
          released, with a teacher of its own.
Data:     COCO 2017, of which only the images of train2017 are read: python tools/prepare_data.py
          coco data/coco checks them; the probe needs python tools/prepare_data.py mini
Command:  python tools/train.py configs/alignment/spatial_align_b16_one_gpu.py
          python tools/export_student.py work_dirs/spatial_align_b16_one_gpu student.safetensors
Cost:     1 GPU of 24 GB, 16 images x 16 accumulated, 5,000 steps (1.3 million images); time and
          memory not measured; SAM should take most of it.
Expected: not measured.
Choices:  The paper's semantic teacher lies at 82 % of G's depth, which is nearest to the tenth of
          B's 12 blocks (index 9). Batch 256 for G's 12,288, and the learning rate by the root of
          that, 7e-5. SAM's small model. DropPath 0.1, as depth 12 needs less than depth 50;
          LayerScale is not added, because the released B has none. Masks as G. Other choices as in
          spatial_align_g14_448.py.
"""

_base_ = ["../_base_/runtime.py", "../_base_/alignment.py", "../_base_/mini_world_probes.py"]
protocol = dict(
    id="spatial-align-b16-one-gpu",
    version=1,
    task="alignment",
    dataset="coco",
    split="train",
    metric="loss",
    higher_is_better=False,
)

encoder = "pe_spatial_b16_512"
weights = "hf://facebook/PE-Core-B16-224:PE-Core-B16-224.pt"
core_to_spatial = "preserve"
amp_dtype = "bfloat16"
data_root = "data/coco/train2017"
num_workers = 8
crop_size = (512, 512)
total_batch, total_steps = 256, 5_000
batch_size = 16
lr, weight_decay = 7e-5, 0.05
drop_path_rate = 0.1
teachers = [
    dict(
        name="core",
        type="EncoderTeacher",
        encoder="pe_core_b16_224",
        weights="released",
        layer=9,
        amp_dtype="bfloat16",
    ),
    dict(
        name="sam",
        type="SamTeacher",
        model="facebook/sam2.1-hiera-small",
        points_per_side=32,
        amp_dtype="bfloat16",
    ),
]
losses = [
    dict(name="core", teacher="core", type="TokenCosineLoss"),
    dict(name="locality", teacher="sam", type="PairwiseSimilarityLoss", temperature=20.0),
]
probe_interval = 250
checkpoint_interval = 100
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
