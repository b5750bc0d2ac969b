"""ImageNet-R, among its own 200 classes, by name, pictures cropped from the middle.

Paper:    CLIP (arXiv:2103.00020, section 3.1.4: 80 sentences); PE (arXiv:2504.13181).
Data:     imagenet-r.tar as it is unpacked, a folder for each WordNet id
Command:  python tools/test.py configs/zero_shot/imagenet_r_crop.py \\
              --encoder pe_core_b16_224 --cfg-options data_root=DIR
Cost:     not measured; one encoder pass over 30,000 pictures, one over 16,000 sentences.
Expected: not known here.
Differs:  float32, not half precision; ties count against the right class.
"""

_base_ = "imagenet_r.py"
protocol = dict(id="imagenet-r-zero-shot-crop")
fit = "crop"
