"""Every layer times six settings of label propagation: what this project chooses among.

short_side counts patches.
"""

norm = False
layers = "all"
settings = [
    dict(last_frames=n, radius=12, neighbourhood="circle", topk=k, temperature=t)
    for n in (7, 15)
    for k, t in ((5, 0.1), (5, 0.2), (10, 0.1))
]
size_rule = "dinov3"
upsample, stretch = "image", False
