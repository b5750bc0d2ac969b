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

_base_ = "imagenetv2.py"
protocol = dict(id="imagenet-v2-zero-shot-crop")
fit = "crop"
