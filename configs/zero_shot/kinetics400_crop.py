"""Kinetics-400 by the names of its classes, frames cropped from the middle.

Paper:    CLIP (arXiv:2103.00020, section 3.1.4: 28 sentences); PE (arXiv:2504.13181).
Data:     validation videos of Kinetics-400, a folder for each class: DIR/val/abseiling/*.mp4
Command:  python tools/test.py configs/zero_shot/kinetics400_crop.py \\
              --encoder pe_core_b16_224 --cfg-options data_root=DIR
Cost:     not measured; one encoder pass over 8 frames of about 19,900 videos, which are decoded
          whole, one over 11,200 sentences.
Expected: top-1 of T16, S16, B16, L14, G14 in the README of perception_models @ 3e352cc, the
          better of squash and crop for each: 41.5, 55.0, 65.6, 73.4, 76.9.
Differs:  float32, not half precision; ties count against the right class; every frame is decoded,
          no video is replaced.

Videos that are gone from the network are missing from every copy: the record counts what was
scored. One that cannot be read is an error; PE's evaluation scores a random other one in its
place.
"""

_base_ = "kinetics400.py"
protocol = dict(id="kinetics400-zero-shot-crop")
fit = "crop"
