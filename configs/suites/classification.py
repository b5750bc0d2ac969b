"""The classification suite: which classes of ImageNet the features of whole pictures tell apart.

Data:     ImageNet ILSVRC 2012, a folder for each WordNet id, DIR/train and DIR/val, its folder
          given by --data imagenet=DIR.
Command:  python tools/benchmark.py --suite classification --encoders pe_core_b16_224 dinov2_b14
Cost:     not measured; two encoder passes over 1,331,167 pictures for each encoder, whose features
          are kept: 47 GB for 12 layers of width 768, and 4 GB of the last class tokens.

Neighbours of the last class token, nothing chosen, and linear heads on the mean of the patches of
every layer, the layer chosen on held-out training pictures. An encoder without a class token or a
final norm fails in the first and goes on with the second; configs/classification/imagenet_knn.py
says what to give it instead.
"""

suite = dict(
    weights="released",
    seeds=1,
    runs=[
        dict(config="configs/classification/imagenet_knn.py", minutes=120),
        dict(config="configs/classification/imagenet_linear.py", minutes=240),
    ],
)
