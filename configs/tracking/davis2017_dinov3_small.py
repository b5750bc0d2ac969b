"""DAVIS 2017 as DINOv3 evaluates it, size S: 30 patches short side, setting chosen on train.

Paper:    DINOv3 (arXiv:2508.10104, section 6.1, table 5 and appendix D): 420 / 480 px for patch
          14 / 16, the other side rounded up to a multiple of the patch; bilinear to the native
          size, then the best label. Step by step: docs/protocols/davis_dinov3.md.
Data:     DAVIS 2017, 480p, as it is unpacked: https://davischallenge.org/davis2017/code.html
Command:  python tools/test.py configs/tracking/davis2017_dinov3_small.py \\
              --encoder pe_spatial_s16_512
Cost:     not measured yet; 18 settings on 60 train videos, one on 30 val videos.
Expected: J&F 71.1 (DINOv3-7B), 63.9 (DINOv2 g), 68.4 (PE spatial G) (DINOv3, table 5).
          Not reproduced here yet.
Choices:  The output rule is the paper's. The released notebook has another one, each pixel takes
          its token's labels, each label is stretched to 0..1, then the best label: that is
          davis2017_dinov3_notebook. The paper's 18 settings are not listed; the ones here change
          one value of the notebook at a time, among the values the paper names, which makes 18.
          Colours are normalised by the encoder's own mean and deviation.
"""

_base_ = [
    "../_base_/runtime.py",
    "../_base_/tracking.py",
    "../_base_/datasets/davis2017.py",
]
protocol = dict(
    id="davis-dinov3-s",
    version=1,
    task="tracking",
    dataset="davis2017",
    split="val",
    metric="J&F",
    higher_is_better=True,
)

encoder = "pe_spatial_s16_512"
weights = "released"
test_dataloader = dict(dataset=dict(selection=dict(split_file="ImageSets/2017/train.txt")))
norm = "$encoder.has_final_norm"
layers = [-1]
notebook = dict(last_frames=7, radius=12, neighbourhood="circle", topk=5, temperature=0.2)
settings = [
    notebook,
    *[dict(notebook, last_frames=n) for n in (4, 10, 15)],
    *[dict(notebook, radius=r) for r in (5, 24, 36)],
    *[dict(notebook, radius=r, neighbourhood="square") for r in (5, 12, 24, 36, 0)],
    *[dict(notebook, topk=k) for k in (3, 10, 15)],
    *[dict(notebook, temperature=t) for t in (0.01, 0.1, 0.7)],
]
del notebook
size_rule, short_side = "dinov3", 30
upsample, stretch = "image", False
report = "selected"
default_hooks = dict(logger=dict(interval=1))  # one iteration is one video
