"""An encoder of nine layers of which one carries the labels, and heads trained alone."""

import torch
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import nn

WIDTH, PATCH, CLASSES, PLANTED = 12, 4, 3, 7


@MODELS.register_module()
class PlantedEncoder(BaseModule):
    """Layers of noise; layer 7 has the class in its first channels, 6 and 8 have little of it.

    Images hold the class of a pixel in the first channel and a seed of the noise in the second.
    """

    embed_dim, patch_size, depth = WIDTH, PATCH, 9

    def __init__(self, out_indices=(-1,), frozen=True, init_cfg=None):
        super().__init__(init_cfg=init_cfg)
        self.out_indices = out_indices

    def forward(self, images):
        labels = images[:, 0, ::PATCH, ::PATCH].long().clamp(0, CLASSES - 1)
        one_hot = nn.functional.one_hot(labels, CLASSES).permute(0, 3, 1, 2).float()
        maps = []
        for layer in self.out_indices:
            noise = []
            for image in images:
                generator = torch.Generator().manual_seed(int(image[1, 0, 0]) * 100 + layer)
                noise.append(torch.randn(WIDTH, *labels.shape[1:], generator=generator))
            features = torch.stack(noise)
            strength = {PLANTED - 1: 0.7, PLANTED: 2.0, PLANTED + 1: 0.7}.get(layer, 0.0)
            features[:, :CLASSES] += strength * one_hot
            maps.append(features)
        return tuple(maps)


def scene(index, size=32, classes=CLASSES):
    """One image (3, H, W) and its sample: blocks of tokens with one class each."""
    generator = torch.Generator().manual_seed(index)
    blocks = torch.randint(0, classes, (size // 8, size // 8), generator=generator)
    labels = blocks.repeat_interleave(8, 0).repeat_interleave(8, 1)
    image = torch.zeros(3, size, size)
    image[0], image[1] = labels, index
    sample = SegDataSample(
        metainfo=dict(
            img_path=f"images/{index}.jpg", ori_shape=(size, size), img_shape=(size, size)
        )
    )
    sample.gt_sem_seg = PixelData(data=labels[None])
    return image, sample


def batch(indices):
    images, samples = zip(*map(scene, indices), strict=True)
    return torch.stack(images), list(samples)


def probe(sources=(1, 7), lrs=(3e-2, 1e-3), weight_decays=(0.5, 0.0), seeds=(0, 1), **more):
    settings = dict(
        type="LayerProbe",
        backbone=dict(type="PlantedEncoder"),
        encoder_depth=9,
        task="segmentation",
        task_options=dict(num_classes=CLASSES),
        sources=sources,
        lrs=lrs,
        weight_decays=weight_decays,
        seeds=seeds,
    )
    return MODELS.build(settings | more)
