"""The state dict of detectron2's ViTDet on PE, written down from its modules."""

import torch


def official_vitdet(
    make, width=1536, depth=50, hidden=8960, positions=1024, classes=80, canvas=1024, masks=True,
    tables=True, out=256, fc=1024,
):  # fmt: skip
    """Parameters by detectron2's names; `make(*shape)` gives each tensor."""
    state, net = {}, "backbone.net."

    def both(name, *shape):
        state[f"{name}.weight"], state[f"{name}.bias"] = make(*shape), make(shape[0])

    def norm(name, size):
        state[f"{name}.weight"], state[f"{name}.bias"] = make(size), make(size)

    def normed_conv(name, outside, inside, side):
        state[f"{name}.weight"] = make(outside, inside, side, side)
        norm(f"{name}.norm", outside)

    def deconv(name, inside, outside):
        state[f"{name}.weight"], state[f"{name}.bias"] = make(inside, outside, 2, 2), make(outside)

    state[net + "positional_embedding"] = make(1, positions, width)
    state[net + "conv1.weight"] = make(width, 3, 16, 16)
    norm(net + "ln_pre", width)
    for i in range(depth):
        block = f"{net}transformer.resblocks.{i}."
        state[block + "attn.in_proj_weight"] = make(3 * width, width)
        state[block + "attn.in_proj_bias"] = make(3 * width)
        both(block + "attn.out_proj", width, width)
        for part in ("1", "2"):
            norm(f"{block}ln_{part}", width)
            state[f"{block}ls_{part}.gamma"] = make(width)
        both(block + "mlp.c_fc", hidden, width)
        both(block + "mlp.c_proj", width, hidden)
    if tables:
        places = ["rope_win", "rope_glb"]
        places += [f"transformer.resblocks.{i}.attn.rope" for i in range(depth)]
        for place in places:
            rows = (canvas // 16) ** 2 if place == "rope_glb" else positions
            for kind in ("cos", "sin"):
                state[f"{net}{place}.freqs_{kind}"] = make(rows, 96)
    deconv("backbone.simfp_2.0", width, width // 2)
    norm("backbone.simfp_2.1", width // 2)
    deconv("backbone.simfp_2.3", width // 2, width // 4)
    deconv("backbone.simfp_3.0", width, width // 2)
    for stage, first, inside in (
        (2, 4, width // 4),
        (3, 1, width // 2),
        (4, 0, width),
        (5, 1, width),
    ):
        normed_conv(f"backbone.simfp_{stage}.{first}", out, inside, 1)
        normed_conv(f"backbone.simfp_{stage}.{first + 1}", out, out, 3)
    rpn = "proposal_generator.rpn_head."
    both(rpn + "conv.conv0", out, out, 3, 3)
    both(rpn + "conv.conv1", out, out, 3, 3)
    both(rpn + "objectness_logits", 3, out, 1, 1)
    both(rpn + "anchor_deltas", 12, out, 1, 1)
    for i in range(4):
        normed_conv(f"roi_heads.box_head.conv{i + 1}", out, out, 3)
    both("roi_heads.box_head.fc1", fc, out * 49)
    both("roi_heads.box_predictor.cls_score", classes + 1, fc)
    both("roi_heads.box_predictor.bbox_pred", classes * 4, fc)
    if masks:
        for i in range(4):
            normed_conv(f"roi_heads.mask_head.mask_fcn{i + 1}", out, out, 3)
        deconv("roi_heads.mask_head.deconv", out, out)
        both("roi_heads.mask_head.predictor", classes, out, 1, 1)
    return state


def blank(*shape):
    """A tensor of any shape that takes the memory of one number."""
    return torch.zeros(1).expand(shape)


def small_vitdet(**options):
    """One with random values, two blocks wide 16."""
    generator = torch.Generator().manual_seed(0)

    def make(*shape):
        return torch.randn(shape, generator=generator)

    sizes = dict(width=16, depth=2, hidden=24, positions=16, classes=3, out=8, fc=12)
    return official_vitdet(make, **{**sizes, **options})
