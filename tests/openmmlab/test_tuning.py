"""How much of an encoder is trained: what has a gradient, what is in eval mode, at which rate."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("mmengine")

from mmengine.optim import build_optim_wrapper

import pe_dense.openmmlab.layer_decay  # noqa: F401 (registers it)
from pe_dense.encoders.low_rank import is_adapter_parameter, merged
from pe_dense.openmmlab.backbone import DenseBackbone
from pe_dense.openmmlab.tuning import (
    RANK,
    Tuning,
    in_words,
    parse_tuning,
    trainable_and_all,
)
from pe_dense.run.checkpoint import load_strictly

TINY, CORE = "pe_spatial_t16_512", "pe_core_t16_384"
needs_peft = pytest.mark.skipif(find_spec("peft") is None, reason="peft is not installed")


def images() -> Tensor:
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def trained(module: nn.Module) -> set[str]:
    return {name for name, parameter in module.named_parameters() if parameter.requires_grad}


def backbone(tune: str | None, **options: object) -> DenseBackbone:
    torch.manual_seed(0)
    return DenseBackbone(TINY, out_indices=(1, 3), tune=tune, **options)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("frozen", Tuning("frozen")),
        ("full", Tuning("full")),
        ("lora", Tuning("lora", RANK)),
        ("lora=4", Tuning("lora", 4)),
        ("layers=12", Tuning("layers", 12)),
    ],
)
def test_forms(text: str, expected: Tuning) -> None:
    assert parse_tuning(text) == expected
    assert parse_tuning(str(expected)) == expected


@pytest.mark.parametrize(
    "text", ["", "layers", "layers=0", "lora=-1", "lora=4.5", "Lora", "layers=1 ", True, None, 4]
)
def test_other_forms_are_one_sentence(text: object) -> None:
    with pytest.raises(ValueError, match=r"tune=.* is none of frozen, lora, lora=RANK, layers=N"):
        parse_tuning(text)


def test_frozen_is_what_frozen_was() -> None:
    old, new = backbone(None, frozen=True), backbone("frozen")
    for one in (old, new, backbone("frozen", frozen=True)):
        assert one.frozen and not trained(one)
        one.train()
        assert one.training and not any(m.training for m in one.encoder.modules())
        assert not one(images())[0].requires_grad
    assert torch.equal(old(images())[1], new(images())[1])
    full = backbone("full")
    assert trained(full) == trained(backbone(None)) and not full.frozen
    with pytest.raises(ValueError, match=r"frozen=True and tune=lora=16 contradict"):
        DenseBackbone(TINY, frozen=True, tune="lora")


def test_the_last_blocks_that_are_used() -> None:
    options = dict(encoder_options=dict(drop_path_rate=0.5))
    one = backbone("layers=1", **options)
    assert {name.rpartition("resblocks.")[2].split(".")[0] for name in trained(one)} == {"3"}
    assert trained(one) == {n for n, _ in one.named_parameters() if ".resblocks.3." in n}
    one.train()
    assert [block.training for block in one.encoder.blocks] == [False, False, False, True]
    many = images().repeat(8, 1, 1, 1)
    (first, last), (again, other) = one(many), one(many)
    assert not first.requires_grad and torch.equal(first, again)  # no drop path there
    assert not torch.equal(last, other)
    last.sum().backward()
    assert {n for n, p in one.named_parameters() if p.grad is not None} == trained(one)
    one.eval()
    assert not any(m.training for m in one.modules())
    every = backbone("layers=4")
    assert not any("conv1" in n or "ln_pre" in n or "positional" in n for n in trained(every))
    with pytest.raises(ValueError, match=r"layers=5 asks for more blocks than the 4 that are used"):
        backbone("layers=5")


def test_a_final_norm_stays_where_blocks_are_trained() -> None:
    torch.manual_seed(0)
    one = DenseBackbone(CORE, out_indices=(1,), norm=True, tune="layers=2")
    assert all(".resblocks." in name for name in trained(one))
    full = DenseBackbone(CORE, out_indices=(1,), norm=True, tune="full")
    assert "encoder.ln_post.weight" in trained(full)


@needs_peft
def test_updates_alone_are_trained_and_counted() -> None:
    one = backbone("lora=2")
    assert trained(one) == {n for n, _ in one.named_parameters() if is_adapter_parameter(n)}
    # A and B of in_proj (192 to 576), out_proj (192 to 192), c_fc and c_proj (192 to 768, back)
    by_hand = 4 * 2 * ((192 + 576) + (192 + 192) + 2 * (192 + 768))
    plain = sum(p.numel() for p in backbone("full").encoder.parameters())
    assert trainable_and_all(one.encoder) == (by_hand, plain + by_hand)
    model = nn.ModuleDict(dict(backbone=one, head=nn.Linear(3, 5)))
    words = in_words(model, one)
    assert (
        "LoRA of rank 2 on attn.in_proj, attn.out_proj, mlp.c_fc, mlp.c_proj of 4 blocks" in words
    )
    assert f"{by_hand:,} of {plain + by_hand:,} parameters of the encoder" in words
    assert f"{by_hand + 20:,} of {plain + by_hand + 20:,} of the model" in words


def test_words_of_the_others() -> None:
    for tune, words in (
        ("frozen", "tune=frozen: trains nothing; 0 of"),
        ("layers=2", "the last 2 of 4 blocks"),
        ("full", "all parameters that the maps use"),
    ):
        assert words in in_words(nn.ModuleDict(dict(backbone=(b := backbone(tune)))), b)


@needs_peft
def test_updates_are_loaded_strictly_and_merge_into_a_plain_model() -> None:
    one = backbone("lora=2")
    for name, parameter in one.named_parameters():
        if is_adapter_parameter(name):
            nn.init.normal_(parameter, std=0.1)
    content = {"state_dict": one.state_dict()}
    again = backbone("lora=2")
    load_strictly(again, content, "lora.pth")
    plain = backbone("full")
    load_strictly(plain, content, "lora.pth")
    with torch.no_grad():
        expected = one.eval()(images())
        assert all(map(torch.equal, again.eval()(images()), expected))
        for model in (plain.eval(), merged(one)):
            for found, level in zip(model(images()), expected, strict=True):
                assert (found - level).abs().max() <= 1e-6 * level.abs().max()
    for other in (backbone("lora=4"), DenseBackbone(TINY, out_indices=(2,), tune="lora=2")):
        with pytest.raises(ValueError, match=r"lora\.pth does not fit the model"):
            load_strictly(other, content, "lora.pth")
    with pytest.raises(ValueError, match="updates are of rank 2: give tune=lora=2"):
        load_strictly(backbone("lora=4"), content, "lora.pth")


@needs_peft
def test_a_plain_checkpoint_is_where_updates_begin() -> None:
    plain = backbone("full").eval()
    for parameter in plain.parameters():
        nn.init.normal_(parameter, std=0.05)
    one = backbone("lora=2").eval()
    load_strictly(one, {"state_dict": plain.state_dict()}, "plain.pth")
    with torch.no_grad():
        assert all(map(torch.equal, one(images()), plain(images())))
    less = {k: v for k, v in plain.state_dict().items() if not k.endswith("c_fc.bias")}
    with pytest.raises(ValueError, match=r"plain\.pth does not fit .*missing: .*c_fc\.base_layer"):
        load_strictly(one, {"state_dict": less}, "plain.pth")


@needs_peft
def test_a_student_is_exported_with_its_updates() -> None:
    from pe_dense.alignment.export import student_state

    one = backbone("lora=2")
    for parameter in one.parameters():
        nn.init.normal_(parameter, std=0.05)
    state = {f"backbone.{key}": value for key, value in one.state_dict().items()}
    found, left_out = student_state(state, TINY)
    expected = merged(one).encoder.state_dict()
    assert found.keys() == expected.keys() and not left_out
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=0, atol=1e-6)


@needs_peft
@pytest.mark.parametrize("tune", ["frozen", "lora=2", "layers=1"])
def test_what_a_model_initialises_over_the_encoder_is_undone(tune: str, tmp_path: Path) -> None:
    from pe_dense.encoders.build import build_encoder

    torch.manual_seed(5)
    torch.save(build_encoder(TINY).state_dict(), tmp_path / "tower.pt")
    one = DenseBackbone(TINY, str(tmp_path / "tower.pt"), out_indices=(1,), tune=tune).eval()
    with torch.no_grad():
        expected = one(images())[0]
        for parameter in one.encoder.parameters():
            nn.init.normal_(parameter)
        kept = dict(one.named_parameters())
        one.init_weights()
        assert torch.equal(one(images())[0], expected)
    assert all(kept[name] is parameter for name, parameter in one.named_parameters())


def test_without_peft_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ValueError, match=r"tune=lora .*pip install 'pe_dense\[lora\]'"):
        backbone("lora")


LR, DECAY = 1e-3, 0.5


def groups(tune: str, **keys: dict) -> dict[str, float]:
    """Learning rate of every parameter in the optimiser, by name."""
    model = nn.ModuleDict(dict(backbone=backbone(tune), head=nn.Linear(2, 2)))
    wrapper = build_optim_wrapper(
        model,
        dict(
            type="OptimWrapper",
            optimizer=dict(type="AdamW", lr=LR, weight_decay=0.1),
            constructor="EncoderLayerDecay",
            paramwise_cfg=dict(layer_decay=DECAY, custom_keys=keys),
        ),
    )
    names = {parameter: name for name, parameter in model.named_parameters()}
    found: dict[str, float] = {}
    for group in wrapper.optimizer.param_groups:
        for parameter in group["params"]:
            assert parameter.requires_grad and names[parameter] not in found
            found[names[parameter]] = group["lr"]
    assert set(found) == trained(model)
    return found


def test_frozen_parameters_are_in_no_group() -> None:
    assert set(groups("frozen")) == {"head.weight", "head.bias"}
    rates = groups("layers=2", **{"backbone.": dict(lr_mult=0.25)})
    block = "backbone.encoder.transformer.resblocks."
    assert rates["head.bias"] == LR
    assert rates[f"{block}3.ln_1.weight"] == pytest.approx(LR * DECAY * 0.25)
    assert rates[f"{block}2.attn.in_proj_weight"] == pytest.approx(LR * DECAY**2 * 0.25)


@needs_peft
def test_updates_get_the_rate_of_a_head() -> None:
    rates = groups("lora=2", **{"backbone.": dict(lr_mult=0.25)})
    assert set(rates.values()) == {LR} and len(rates) == 2 + 4 * 4 * 2
    rates = groups("lora=2", lora_=dict(lr_mult=3.0))
    assert {round(v / LR) for n, v in rates.items() if "lora_" in n} == {3}
    assert rates["head.weight"] == LR
