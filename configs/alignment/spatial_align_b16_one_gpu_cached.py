"""Spatial alignment of PE Core B/16 on one GPU, SAM 2.1 read from a cache that was filled before.

Paper:    as spatial_align_b16_one_gpu.py; the cache and 16 x 16 points are ours.
Data:     as spatial_align_b16_one_gpu.py, and the cache:
          python tools/cache_teacher.py configs/alignment/spatial_align_b16_one_gpu_cached.py
Command:  python tools/train.py configs/alignment/spatial_align_b16_one_gpu_cached.py
          python tools/export_student.py work_dirs/spatial_align_b16_one_gpu_cached b16.safetensors
Cost:     58 GiB of cache for the 118,287 images of COCO (--dry-run says the size); time not
          measured. Pays from the second epoch on: 1.3 million views are 11 epochs.
Expected: not measured.
Choices:  256 points per image instead of 1,024, which would take 231 GiB. Views cut tokens from
          those of the whole image, so that SAM sees neither crop nor colour jitter; a mirrored view
          takes mirrored logits. Everything else as spatial_align_b16_one_gpu.py.
"""

_base_ = ["./spatial_align_b16_one_gpu.py"]
protocol = dict(id="spatial-align-b16-one-gpu-cached")

train_dataloader = dict(dataset=dict(hash_images=True))
cache_folder = "data/caches/coco_sam2.1_small"
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
        type="CachedTeacher",
        folder="$cache_folder",
        grid_hw=(32, 32),
        image_hw=(1024, 1024),
        teacher=dict(
            type="SamTeacher",
            model="facebook/sam2.1-hiera-small",
            points_per_side=16,
            amp_dtype="bfloat16",
        ),
    ),
]
