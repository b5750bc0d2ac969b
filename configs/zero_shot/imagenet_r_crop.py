"""ImageNet-R, among its own 200 classes, by name, pictures cropped from the middle.

Paper:    CLIP (arXiv:2103.00020, section 3.1.4: 80 sentences); PE (arXiv:2504.13181).
Data:     imagenet-r.tar as it is unpacked, a folder for each WordNet id
Command:  python tools/test.py configs/zero_shot/imagenet_r_crop.py \\
              --encoder pe_core_b16_224 --cfg-options data_root=DIR
Cost:     not measured; one encoder pass over 30,000 pictures, one over 16,000 sentences.
Expected: not known here.
Differs:  float32, not half precision; ties count against the right class.
"""

_base_ = ["../_base_/runtime.py", "../_base_/zero_shot.py"]
protocol = dict(
    id="imagenet-r-zero-shot-crop",
    version=1,
    task="zero_shot",
    dataset="imagenet-r",
    split="test",
    metric="top1",
    higher_is_better=True,
)

encoder = "pe_core_b16_224"
weights = "released"
data_root = "data/imagenet-r"
folder, names, num_classes = "", "imagenet", 200
folders_sha256 = "e19a59d84e3746fafd34d2ccf6ae604a44e9a0500a596f343c878a89e30ce624"
repeated_names = "first"
templates = "clip_imagenet_templates"
templates_sha256 = "8f1050a460cfeddf3bc204a36dad3b256328b0e19f7ce481f88f7f652db0f526"
fit = "crop"
