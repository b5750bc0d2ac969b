"""ImageNet v2 (matched frequency) by the names of its classes, pictures cropped from the middle.

Paper:    CLIP (arXiv:2103.00020, section 3.1.4: 80 sentences); PE (arXiv:2504.13181).
Data:     imagenetv2-matched-frequency, folders 0 to 999 as it is unpacked
Command:  python tools/test.py configs/zero_shot/imagenetv2_crop.py \\
              --encoder pe_core_b16_224 --cfg-options data_root=DIR
Cost:     not measured; one encoder pass over 10,000 pictures, one over 80,000 sentences.
Expected: top-1 of T16, S16, B16, L14, G14 in the README of perception_models @ 3e352cc, the
          better of squash and crop for each: 54.7, 65.0, 71.7, 77.9, 80.2.
Differs:  float32, not half precision; ties count against the right class.
"""

_base_ = ["../_base_/runtime.py", "../_base_/zero_shot.py"]
protocol = dict(
    id="imagenet-v2-zero-shot-crop",
    version=1,
    task="zero_shot",
    dataset="imagenet-v2",
    split="test",
    metric="top1",
    higher_is_better=True,
)

encoder = "pe_core_b16_224"
weights = "released"
data_root = "data/imagenet-v2"
folder, names, num_classes = "imagenetv2-matched-frequency-format-val", "imagenet_index", 1000
repeated_names = "first"
templates = "clip_imagenet_templates"
templates_sha256 = "8f1050a460cfeddf3bc204a36dad3b256328b0e19f7ce481f88f7f652db0f526"
fit = "crop"
