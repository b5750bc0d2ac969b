"""ObjectNet, among the 113 classes of ImageNet, by name, pictures cropped from the middle.

Paper:    CLIP (arXiv:2103.00020, section 3.1.4: 80 sentences); PE (arXiv:2504.13181).
Data:     objectnet-1.0.zip as it is unpacked: DIR/images and DIR/mappings
Command:  python tools/test.py configs/zero_shot/objectnet_crop.py \\
              --encoder pe_core_b16_224 --cfg-options data_root=DIR
Cost:     not measured; one encoder pass over 18,574 pictures, one over 9,040 sentences.
Expected: top-1 of T16, S16, B16, L14, G14 in the README of perception_models @ 3e352cc, the
          better of squash and crop for each: 43.9, 60.0, 71.9, 84.7, 88.2.
Differs:  float32, not half precision; ties count against the right class.
"""

_base_ = "objectnet.py"
protocol = dict(id="objectnet-zero-shot-crop")
fit = "crop"
