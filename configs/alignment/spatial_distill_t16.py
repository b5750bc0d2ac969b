"""PE Spatial T/16 distilled from PE Spatial G/14, starting from PE Core T/16.

Paper:    Perception Encoder (arXiv:2504.13181, appendix on smaller models; facebookresearch/
          perception_models @ 3e352cc, README): PE Spatial G is the only teacher; pairwise
          similarity directly on the last layer, token cosine behind a linear layer to its 1536
          channels, 1024 tokens.
Data:     The paper takes a part of its private images. Any tar shards of images in data/images; the
          probe needs python tools/prepare_data.py mini
Command:  torchrun --nproc-per-node 8 tools/train.py \\
              configs/alignment/spatial_distill_t16.py --launcher pytorch
          python tools/export_student.py work_dirs/spatial_distill_t16 student.safetensors
Cost:     8 GPUs, batch 2,048 (256 images x 8 GPUs), 24,000 steps; time and memory not measured. The
          teacher's 1.9 billion parameters (7.5 GB) are on every GPU and should take most of the
          time.
Expected: not measured. The released PE Spatial T/16: 27.6 mIoU on ADE20K, linear, last layer.
Choices:  Those of spatial_distill_b16.py: learning rate, steps, warm-up, no masks, no DropPath.
"""

_base_ = ["./spatial_distill_b16.py"]
protocol = dict(id="spatial-distill-t16")

encoder = "pe_spatial_t16_512"
weights = "hf://facebook/PE-Core-T16-384:PE-Core-T16-384.pt"
batch_size = 256
