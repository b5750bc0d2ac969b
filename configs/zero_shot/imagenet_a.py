"""ImageNet-A, among its own 200 classes, by name, pictures squashed to the square.

Paper:    CLIP (arXiv:2103.00020, section 3.1.4: 80 sentences); PE (arXiv:2504.13181).
Data:     imagenet-a.tar as it is unpacked, a folder for each WordNet id
Command:  python tools/test.py configs/zero_shot/imagenet_a.py \\
              --encoder pe_core_b16_224 --cfg-options data_root=DIR
Cost:     not measured; one encoder pass over 7,500 pictures, one over 16,000 sentences.
Expected: top-1 of T16, S16, B16, L14, G14 in the README of perception_models @ 3e352cc, the
          better of squash and crop for each: 21.1, 49.5, 62.4, 89.0, 92.6.
Differs:  float32, not half precision; ties count against the right class.
"""

_base_ = ["../_base_/runtime.py", "../_base_/zero_shot.py"]
protocol = dict(
    id="imagenet-a-zero-shot",
    version=1,
    task="zero_shot",
    dataset="imagenet-a",
    split="test",
    metric="top1",
    higher_is_better=True,
)

encoder = "pe_core_b16_224"
weights = "released"
data_root = "data/imagenet-a"
folder, names, num_classes = "", "imagenet", 200
folders_sha256 = "f6aa4b23244554d9b864fd715ae20048f6a9686388911b2dfbf1ada01bf0f520"
repeated_names = "first"
templates = "clip_imagenet_templates"
templates_sha256 = "8f1050a460cfeddf3bc204a36dad3b256328b0e19f7ce481f88f7f652db0f526"
fit = "squash"
