"""Heads trained together against each head trained alone, the plain way."""

import copy

import pytest
import torch
from interpreted_kernels import interpreted  # noqa: F401 (a fixture)
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from planted import CLASSES, WIDTH, batch, probe, scene
from torch import nn

import pe_dense.probing
import pe_dense.segmentation  # noqa: F401
from pe_dense import kernels
from pe_dense.openmmlab.nan_stop import bad_term
from pe_dense.pixelwise.upsampled_loss import reference_cross_entropy, upsampled_cross_entropy
from pe_dense.probing.grouped_adamw import GroupedAdamW
from pe_dense.probing.head_bank import HeadBank, head_settings, resolve_sources
from pe_dense.probing.probe_tasks import DepthTask, losses_head_by_head

STEPS = 50
WRAPPER = dict(
    type="OptimWrapper",
    constructor="HeadBankOptimizer",
    optimizer=dict(type="GroupedAdamW", lr=1.0),
)


def train_bank(model, steps=STEPS):
    model.train()
    wrapper = build_optim_wrapper(model, copy.deepcopy(WRAPPER))
    for step in range(steps):
        wrapper.param_groups[0]["lr"] = 1 - step / steps
        images, samples = batch(range(2 * step, 2 * step + 2))
        wrapper.update_params(model.loss(images, samples)["loss"])
    return wrapper


def train_alone(layers, lr, weight_decay, seed, steps=STEPS):
    """One head with batch norm, interpolation, cross-entropy and torch's AdamW."""
    head = nn.Sequential(
        nn.BatchNorm2d(WIDTH * len(layers), affine=False),
        nn.Conv2d(WIDTH * len(layers), CLASSES, 1),
    )
    generator = torch.Generator().manual_seed(seed)
    first = 0.01 * torch.randn(CLASSES, WIDTH * len(layers), generator=generator)
    head[1].weight.data, head[1].bias.data = first[..., None, None], torch.zeros(CLASSES)
    optimizer = torch.optim.AdamW(head.parameters(), lr=lr, weight_decay=weight_decay)
    encoder = probe(sources=[tuple(layers)]).backbone
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = lr * (1 - step / steps)
        images, samples = batch(range(2 * step, 2 * step + 2))
        maps = encoder(images)
        labels = torch.cat([s.gt_sem_seg.data for s in samples])
        optimizer.zero_grad()
        reference_cross_entropy(head(torch.cat(maps, 1)), labels).backward()
        optimizer.step()
    return head


def test_heads_together_are_what_each_is_alone() -> None:
    model = probe(sources=[1, 7, (6, 8)])
    train_bank(model)
    for s, layers in enumerate(model.bank.sources):
        for p, setting in enumerate(model.bank.settings):
            alone = train_alone(layers, setting.lr, setting.weight_decay, setting.seed)
            weight, bias = alone[1].weight[..., 0, 0], alone[1].bias
            torch.testing.assert_close(model.bank.weights[s][p], weight, atol=1e-5, rtol=0)
            torch.testing.assert_close(model.bank.biases[s][p], bias, atol=1e-5, rtol=0)
    alone = train_alone((7,), 1e-3, 0.0, 0)
    torch.testing.assert_close(model.bank.norms["7"].running_mean, alone[0].running_mean)


def test_a_head_that_diverges_harms_no_other() -> None:
    model, calm = probe(sources=[7], lrs=(1e-3, 1e38)), probe(sources=[7], lrs=(1e-3,))
    train_bank(model, 20)
    train_bank(calm, 20)
    logged = model.loss(*batch([0, 1]))
    assert torch.isfinite(logged["loss"])
    diverged = [name for name in logged if "lr 1e+38" in name]
    assert diverged and all(not torch.isfinite(logged[name]) for name in diverged)
    assert bad_term(logged)[0] == diverged[0] and "layer 7 with lr 1e+38" in diverged[0]
    assert not any("lr 0.001" in name for name in logged)
    torch.testing.assert_close(model.bank.weights[0][:4], calm.bank.weights[0], atol=1e-6, rtol=0)


def test_second_derivatives_of_losses_head_by_head_are_refused() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 5, 4, 6, requires_grad=True)
    labels = torch.randint(0, 5, (2, 37, 50))
    losses = losses_head_by_head(logits, lambda one: upsampled_cross_entropy(one, labels))
    (grad,) = torch.autograd.grad(losses.sum(), logits, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        (grad.square().sum() + logits.square().sum()).backward()


@pytest.mark.usefixtures("interpreted")
def test_a_training_step_with_kernels_is_that_of_the_plain_forms(monkeypatch) -> None:
    image, sample = scene(3, size=16)
    found = []
    for setting in ("on", "off"):
        monkeypatch.setenv(kernels.VARIABLE, setting)
        model = probe(sources=[(6, 7)], lrs=(1e-2, 1e-3), weight_decays=(0.0,), seeds=(0,))
        model.train()
        (logits,) = model.token_logits(image[None])
        assert (logits.stride(2) == 1) == (setting == "on")  # classes side by side, not tokens
        losses = model.head_losses(image[None], [sample])
        losses.sum().backward()
        found.append((losses, model.bank.weights[0].grad, model.bank.biases[0].grad))
    for fast, slow in zip(*found, strict=True):
        torch.testing.assert_close(fast, slow, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_the_linear_head_is_a_bank_of_one(batch_norm) -> None:
    """Same logits, loss, gradients and running statistics, whichever road a config takes."""
    torch.manual_seed(0)
    bank = HeadBank([(0, 1)], 6, 5, head_settings([1.0], [0.0], [3]), batch_norm)
    init_default_scope("mmseg")
    head = MODELS.build(
        dict(
            type="LinearSegHead", in_channels=6, num_layers=2, num_classes=5, batch_norm=batch_norm
        )
    )
    head.conv_seg.weight.data = bank.weights[0].data[0, :, :, None, None].clone()
    head.conv_seg.bias.data = bank.biases[0].data[0].clone()
    maps = [2 + torch.randn(2, 6, 4, 7) for _ in range(2)]
    labels = torch.randint(0, 5, (2, 31, 50))
    samples = [SegDataSample(gt_sem_seg=PixelData(data=label[None])) for label in labels]
    alone = head(maps)
    (together,) = bank(dict(enumerate(maps)))
    torch.testing.assert_close(together[:, 0], alone)
    head.loss_by_feat(alone, samples)["loss_ce"].backward()
    upsampled_cross_entropy(together, labels).sum().backward()
    torch.testing.assert_close(bank.weights[0].grad[0], head.conv_seg.weight.grad[..., 0, 0])
    torch.testing.assert_close(bank.biases[0].grad[0], head.conv_seg.bias.grad)
    if batch_norm:
        means = torch.cat([bank.norms[str(layer)].running_mean for layer in (0, 1)])
        torch.testing.assert_close(means, head.bn.running_mean)


@pytest.mark.parametrize("warm_up_steps", [0, 2])
def test_depth_losses_equal_autograd_over_one_head(warm_up_steps) -> None:
    torch.manual_seed(0)
    task = DepthTask(0.5, 10, num_bins=8, upsample=2, warm_up_steps=warm_up_steps)
    from pe_dense.pixelwise.depth_losses import DepthGradientLoss, ScaleInvariantLogLoss

    silog = ScaleInvariantLogLoss(max_depth=10, warm_up_steps=warm_up_steps)
    gradient = DepthGradientLoss(0.5, max_depth=10)
    depth = 1 + 5 * torch.rand(2, 24, 32)
    depth[:, :5] = 0
    for _ in range(3):
        logits = torch.randn(2, 1, 8, 3, 4, requires_grad=True)
        task.num_steps += 1
        ours = task.losses(logits, depth)
        (grad,) = torch.autograd.grad(ours.sum(), logits)
        found = task.depth(logits[:, 0], (24, 32))
        plain = silog(found, depth) + gradient(found, depth)
        (expected,) = torch.autograd.grad(plain, logits)
        torch.testing.assert_close(ours[0], plain)
        torch.testing.assert_close(grad, expected)


def test_optimiser_equals_adamw_and_resumes_exactly() -> None:
    torch.manual_seed(0)
    lrs, decays = [1e-1, 1e-3, 1e-2], [0.0, 0.3, 1e-2]
    stacked = [nn.Parameter(torch.randn(3, 4, 5)), nn.Parameter(torch.randn(3, 4))]
    alone = [[nn.Parameter(p[i].detach().clone()) for p in stacked] for i in range(3)]
    plain = [
        torch.optim.AdamW(alone[i], lr=lrs[i], weight_decay=decays[i], eps=1e-6) for i in range(3)
    ]
    ours = GroupedAdamW(stacked, lrs, decays, eps=1e-6)
    for step in range(30):
        if step == 13:  # as a resumed run would
            stacked = [nn.Parameter(p.detach().clone()) for p in stacked]
            state = copy.deepcopy(ours.state_dict())
            ours = GroupedAdamW(stacked, lrs, decays, eps=1e-6)
            ours.load_state_dict(state)
        grads = [torch.randn_like(p) for p in stacked]
        for parameter, grad in zip(stacked, grads, strict=True):
            parameter.grad = grad
        for i in range(3):
            for parameter, grad in zip(alone[i], grads, strict=True):
                parameter.grad = grad[i].clone()
            plain[i].step()
        ours.step()
    for i in range(3):
        for together, single in zip(stacked, alone[i], strict=True):
            torch.testing.assert_close(together[i], single, atol=1e-6, rtol=1e-6)


def test_resumed_steps_are_the_same_bits() -> None:
    def run(stop):
        model = nn.ParameterList([nn.Parameter(torch.ones(2, 3))])
        optimizer = GroupedAdamW(model, [1e-2, 1e-3], [0.1, 0.0])
        for step in range(10):
            if step == stop:
                state = copy.deepcopy(optimizer.state_dict())
                model = copy.deepcopy(model)
                optimizer = GroupedAdamW(model, [1e-2, 1e-3], [0.1, 0.0])
                optimizer.load_state_dict(state)
            generator = torch.Generator().manual_seed(step)
            model[0].grad = torch.randn(2, 3, generator=generator)
            optimizer.step()
        return model[0]

    assert torch.equal(run(4), run(None))


def test_bad_optimisers_are_refused() -> None:
    parameter = nn.Parameter(torch.zeros(3, 2))
    with pytest.raises(ValueError, match="no leading axis of 2 heads"):
        GroupedAdamW([parameter], [1e-3, 1e-3], [0, 0])
    with pytest.raises(ValueError, match="one number of 0 or more"):
        GroupedAdamW([parameter], [], [])
    with pytest.raises(ValueError, match="weight decays"):
        GroupedAdamW([parameter], [1e-3] * 3, [0.0])
    state = GroupedAdamW([parameter], [1e-3] * 3, [0.0] * 3).state_dict()
    with pytest.raises(ValueError, match="resume with the settings"):
        GroupedAdamW([parameter], [1e-4] * 3, [0.0] * 3).load_state_dict(state)
    with pytest.raises(ValueError, match="clip_grad"):
        build_optim_wrapper(probe(), dict(WRAPPER, clip_grad=dict(max_norm=1.0)))


def test_sources_and_settings() -> None:
    assert resolve_sources([0, [-2, -1]], 12) == ((0,), (10, 11))
    with pytest.raises(ValueError, match="layer 12 .* outside an encoder of 12 blocks"):
        resolve_sources([12], 12)
    with pytest.raises(ValueError, match="repeated"):
        resolve_sources([11, -1], 12)
    with pytest.raises(ValueError, match="no layer"):
        resolve_sources([], 12)
    with pytest.raises(ValueError, match="lrs is"):
        head_settings([], [0.0], [0])
    bank = HeadBank([(0,)], 4, 3, head_settings([1e-2, 1e-3], [0.0], [5, 6]))
    assert torch.equal(bank.weights[0][0], bank.weights[0][2])  # the same seed
    assert not torch.equal(bank.weights[0][0], bank.weights[0][1])
