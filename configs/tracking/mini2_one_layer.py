"""Clips of mini world 2 by one layer, the sixth of twelve: nothing is trained, nothing is chosen.

Paper:    propagation as DINO and DINOv3 (arXiv:2104.14294, arXiv:2508.10104), as mini2_v1.py with
          one setting. As nothing is chosen on them, the clips of train.txt, which are twice as many
          as those of val.txt, are the ones to report.
Data:     python tools/prepare_data.py mini2
Command:  python tools/test.py configs/tracking/mini2_one_layer.py --weights released
Cost:     about a minute on 2 CPU cores with a ViT-S/14.
Expected: a ViT-S/14 (docs/encoders.md): J&F 69.0 [61.9, 77.7] pretrained, 34.9 [23.3, 45.8] random:
          colours alone carry a mask some way; 9.0 for the first mask copied.
"""

_base_ = ["./mini2_v1.py"]
protocol = dict(id="mini2-vos-one-layer", split="train")

split_file = "ImageSets/2017/train.txt"
test_dataloader = dict(dataset=dict(selection=None))
layers = [5]
settings = [dict(last_frames=7, radius=12, neighbourhood="circle", topk=5, temperature=0.1)]
report = "first"
