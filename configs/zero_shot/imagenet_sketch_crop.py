"""ImageNet-Sketch by the names of its classes, pictures cropped from the middle.

Paper:    CLIP (arXiv:2103.00020, section 3.1.4: 80 sentences); PE (arXiv:2504.13181).
Data:     ImageNet-Sketch.zip as it is unpacked: DIR/sketch/n01440764/*.JPEG
Command:  python tools/test.py configs/zero_shot/imagenet_sketch_crop.py \\
              --encoder pe_core_b16_224 --cfg-options data_root=DIR
Cost:     not measured; one encoder pass over 50,889 pictures, one over 80,000 sentences.
Expected: not known here.
Differs:  float32, not half precision; ties count against the right class.
"""

_base_ = ["../_base_/runtime.py", "../_base_/zero_shot.py"]
protocol = dict(
    id="imagenet-sketch-zero-shot-crop",
    version=1,
    task="zero_shot",
    dataset="imagenet-sketch",
    split="test",
    metric="top1",
    higher_is_better=True,
)

encoder = "pe_core_b16_224"
weights = "released"
data_root = "data/imagenet-sketch"
folder, names, num_classes = "sketch", "imagenet", 1000
folders_sha256 = "385e0240499426c022b773be1ae4da780f057b89c9694c7f47199f62746b6edd"
repeated_names = "first"
templates = "clip_imagenet_templates"
templates_sha256 = "8f1050a460cfeddf3bc204a36dad3b256328b0e19f7ce481f88f7f652db0f526"
fit = "crop"
