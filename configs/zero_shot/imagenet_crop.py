"""ImageNet by the names of its classes, pictures cropped from the middle.

Paper:    CLIP (arXiv:2103.00020, section 3.1.4: 80 sentences); PE (arXiv:2504.13181).
Data:     ImageNet ILSVRC 2012 val, a folder for each WordNet id: DIR/val/n01440764/*.JPEG
Command:  python tools/test.py configs/zero_shot/imagenet_crop.py \\
              --encoder pe_core_b16_224 --cfg-options data_root=DIR
Cost:     not measured; one encoder pass over 50,000 pictures, one over 80,000 sentences.
Expected: top-1 of T16, S16, B16, L14, G14 in the README of perception_models @ 3e352cc, the
          better of squash and crop for each: 62.1, 72.7, 78.4, 83.5, 85.4.
Differs:  float32, not half precision; ties count against the right class.
"""

_base_ = ["../_base_/runtime.py", "../_base_/zero_shot.py"]
protocol = dict(
    id="imagenet-zero-shot-crop",
    version=1,
    task="zero_shot",
    dataset="imagenet",
    split="val",
    metric="top1",
    higher_is_better=True,
)

encoder = "pe_core_b16_224"
weights = "released"
data_root = "data/imagenet"
folder, names, num_classes = "val", "imagenet", 1000
folders_sha256 = "385e0240499426c022b773be1ae4da780f057b89c9694c7f47199f62746b6edd"
repeated_names = "first"
templates = "clip_imagenet_templates"
templates_sha256 = "8f1050a460cfeddf3bc204a36dad3b256328b0e19f7ce481f88f7f652db0f526"
fit = "crop"
