"""ImageNet-A, among its own 200 classes, by name, pictures cropped from the middle.

Paper:    CLIP (arXiv:2103.00020, section 3.1.4: 80 sentences); PE (arXiv:2504.13181).
Data:     imagenet-a.tar as it is unpacked, a folder for each WordNet id
Command:  python tools/test.py configs/zero_shot/imagenet_a_crop.py \\
              --encoder pe_core_b16_224 --cfg-options data_root=DIR
Cost:     not measured; one encoder pass over 7,500 pictures, one over 16,000 sentences.
Expected: top-1 of T16, S16, B16, L14, G14 in the README of perception_models @ 3e352cc, the
          better of squash and crop for each: 21.1, 49.5, 62.4, 89.0, 92.6.
Differs:  float32, not half precision; ties count against the right class.
"""

_base_ = "imagenet_a.py"
protocol = dict(id="imagenet-a-zero-shot-crop")
fit = "crop"
