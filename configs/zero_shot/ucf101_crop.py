"""UCF101 by the names of its classes, frames cropped from the middle.

Paper:    CLIP (arXiv:2103.00020, section 3.1.4: 48 sentences); PE (arXiv:2504.13181).
Data:     UCF-101 and ucfTrainTestlist below DIR, as they are unpacked
Command:  python tools/test.py configs/zero_shot/ucf101_crop.py \\
              --encoder pe_core_b16_224 --cfg-options data_root=DIR
Cost:     not measured; one encoder pass over 8 frames of 3,783 videos, one over 4,848 sentences.
Expected: not known here.
Differs:  float32, not half precision; ties count against the right class; every frame is decoded,
          no video is replaced; names and test list, see below.

PE's evaluation reads names from a list that is not published; here they are the words of the
folders (ApplyEyeMakeup: Apply Eye Makeup), and the videos are those of the first test list.
"""

_base_ = "ucf101.py"
protocol = dict(id="ucf101-zero-shot-crop")
fit = "crop"
