"""Objects of a first mask followed through your own videos; scored where you have more masks.

Paper:    propagation as DINO and DINOv3 (arXiv:2104.14294, arXiv:2508.10104): nothing is trained.
Data:     DIR with clips (folders of frames, or MP4, MOV, AVI, MKV, WebM) and masks, for all
          frames, some, or the first alone. What may lie where: docs/own_video.md.
Command:  python tools/test.py configs/tracking/vos_custom.py --cfg-options data_root=DIR
          python tools/predict.py configs/tracking/vos_custom.py VIDEO --mask FIRST.png --out OUT
Cost:     one encoder pass over the frames: on 2 CPU cores a frame or two a second at short_side
          480, several at 240.
Expected: depends on the data; above the first mask copied to all frames, which needs trained
          weights.

Label maps are indexed PNGs in work_dirs/vos_results. Layer: one is chosen on clips that are there
for it (train.txt, train/ or holdout_share=0.3), else a middle block. Records are filed under this
protocol and the hash of the masks.
"""

_base_ = ["../_base_/runtime.py", "../_base_/own_videos.py"]
protocol = dict(
    id="custom-vos",
    version=1,
    task="tracking",
    dataset="$data.name",
    split="own",
    metric="J&F",
    higher_is_better=True,
    own_annotations=dict(val="$data.sha256"),
)

encoder = "pe_spatial_s16_512"
weights = "released"
default_hooks = dict(logger=dict(interval=1))  # one iteration is one video
