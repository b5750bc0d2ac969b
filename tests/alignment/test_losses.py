"""Alignment losses against golden numbers, a hand-solved case and the plain N x N formula."""

from pathlib import Path

import numpy as np
import pytest
import torch
from interpreted_kernels import interpreted  # noqa: F401 (a fixture)
from mmengine.registry import MODELS

import pe_dense.alignment  # noqa: F401 (registers the losses)
from pe_dense.alignment import losses
from pe_dense.alignment.losses import (
    pairwise_similarity_loss,
    plain_pairwise_loss,
    token_cosine_loss,
)

GOLDEN = Path(__file__).resolve().parents[1] / "golden/sam_alignment.npz"
PRECISIONS = [(torch.float64, 1e-10), (torch.float32, 1e-5)]


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as arrays:
        return {name: torch.from_numpy(np.asarray(arrays[name])) for name in arrays.files}


def tokens(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=dtype)


def with_gradient(loss, student, *rest, **settings):
    student = student.clone().requires_grad_()
    value = loss(student, *rest, **settings)
    return value, *torch.autograd.grad(value, student)


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
@pytest.mark.parametrize("block_size", [None, 4])
@pytest.mark.parametrize("case", range(4))
def test_equal_golden(golden, case, block_size, dtype, tolerance):
    named = {name.split("/")[1]: array for name, array in golden.items() if f"case_{case}/" in name}
    student = named["student"].to(dtype).requires_grad_()
    core = token_cosine_loss(student, named["core_teacher"].to(dtype))
    loc = pairwise_similarity_loss(
        student,
        named["mask_teacher"].to(dtype),
        temperature=named["temperature"].item(),
        block_size=block_size,
    )
    found = {"core": core, "loc": loc, "total": core + loc}
    for name, loss in found.items():
        (gradient,) = torch.autograd.grad(loss, student, retain_graph=True)
        assert loss.dtype == gradient.dtype == dtype
        expected, expected_gradient = named[f"loss_{name}"], named[f"grad_{name}"]
        assert abs(loss.item() - expected.item()) < tolerance, name
        assert (gradient - expected_gradient).abs().max() < tolerance, name


def test_golden_has_all_cases(golden):
    assert {name.split("/")[0] for name in golden if "/" in name} >= {
        f"case_{case}" for case in range(4)
    }


def test_token_cosine_by_hand():
    student = torch.tensor([[[3.0, 0.0], [0.0, 2.0]], [[1.0, 1.0], [-5.0, 0.0]]])
    teacher = torch.tensor([[[1.0, 0.0], [7.0, 0.0]], [[2.0, 0.0], [1.0, 0.0]]])
    # Cosines: 1, 0, 1 / sqrt(2), -1.
    assert token_cosine_loss(student, teacher).item() == pytest.approx(-(0.5**0.5) / 4)


def test_pairwise_similarity_by_hand():
    # Two tokens: the student's at a right angle (cosine 0), the teacher's at 60 degrees.
    student = torch.tensor([[[2.0, 0.0], [0.0, 5.0]]])
    teacher = torch.tensor([[[1.0, 0.0], [1.0, 3.0**0.5]]])
    target = np.exp(4 * (0.5 - 1))
    for loss in (pairwise_similarity_loss, plain_pairwise_loss):
        found = loss(student, teacher, temperature=4)
        assert found.item() == pytest.approx(2 * target**2 / 4)
        found = loss(student, teacher, temperature=4, count_diagonal=False)
        assert found.item() == pytest.approx(target**2)


@pytest.mark.parametrize("count_diagonal", [True, False])
@pytest.mark.parametrize("block_size", [1, 2, 5, 12, 13, 100])
def test_any_block_size_equals_the_plain_matrices(block_size, count_diagonal):
    student, teacher = tokens(3, 13, 7), tokens(3, 13, 4, seed=1)
    settings = dict(temperature=3.0, count_diagonal=count_diagonal)
    found = with_gradient(
        pairwise_similarity_loss, student, teacher, block_size=block_size, **settings
    )
    expected = with_gradient(plain_pairwise_loss, student, teacher, **settings)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("count_diagonal", [True, False])
@pytest.mark.parametrize("together", [1, 2, 3, 5, 9])
@pytest.mark.parametrize("block_size", [4, 13])
def test_images_may_pass_in_groups(monkeypatch, block_size, together, count_diagonal):
    """As on a GPU; images of one group share every product."""
    monkeypatch.setitem(losses.BLOCK_PAIRS, "cpu", together * block_size**2)
    products = []
    whole = losses._images_sum
    monkeypatch.setattr(
        losses, "_images_sum", lambda s, *a: (products.append(len(s)), whole(s, *a))[1]
    )
    student, teacher = tokens(5, 13, 7), tokens(5, 13, 4, seed=1)
    settings = dict(temperature=3.0, count_diagonal=count_diagonal)
    found = with_gradient(
        pairwise_similarity_loss, student, teacher, block_size=block_size, **settings
    )
    assert max(products) == min(together, 5) and sum(products) == 5
    expected = with_gradient(plain_pairwise_loss, student, teacher, **settings)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("count_diagonal", [True, False])
@pytest.mark.parametrize("block_size", [7, 20, 64])
def test_the_kernel_equals_the_plain_matrices(interpreted, monkeypatch, block_size, count_diagonal):  # noqa: F811
    from pe_dense.alignment import pairwise_kernel

    monkeypatch.setattr(pairwise_kernel, "COLUMNS", 16)  # several programs, the last ones cut
    monkeypatch.setitem(losses.BLOCK_PAIRS, "cpu", 2 * block_size**2)
    used = []
    whole = pairwise_kernel.errors_in_place
    monkeypatch.setattr(
        pairwise_kernel, "errors_in_place", lambda *a: (used.append(a[7]), whole(*a))[1]
    )
    student, teacher = (tokens(3, 45, c, seed=c, dtype=torch.float32) for c in (7, 4))
    settings = dict(temperature=3.0, count_diagonal=count_diagonal)
    found = with_gradient(
        pairwise_similarity_loss, student, teacher, block_size=block_size, **settings
    )
    expected = with_gradient(plain_pairwise_loss, student, teacher, **settings)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)
    assert used and None not in used
    without = pairwise_similarity_loss(student, teacher, block_size=block_size, **settings)
    torch.testing.assert_close(without, expected[0], rtol=1e-5, atol=1e-7)
    assert used[-1] is None  # no gradient, nothing is written


def test_the_kernel_hides_no_nan(interpreted):  # noqa: F811
    student, teacher = (tokens(2, 6, 4, seed=s, dtype=torch.float32) for s in (0, 1))
    student[0, 2] = 0  # of norm 0: no gradient
    student[1, 5, 3] = float("nan")
    value, gradient = with_gradient(pairwise_similarity_loss, student, teacher)
    assert value.isnan() and gradient[1].isnan().any()
    assert not gradient[0, 2].any() and torch.isfinite(gradient[0]).all()


def test_a_batch_is_the_mean_of_its_images():
    student, teacher = tokens(4, 9, 6), tokens(4, 9, 5, seed=1)
    for loss, other in ((pairwise_similarity_loss, teacher), (token_cosine_loss, -student + 1)):
        single = [loss(student[b : b + 1], other[b : b + 1]) for b in range(4)]
        torch.testing.assert_close(loss(student, other), torch.stack(single).mean())


@pytest.mark.parametrize("count_diagonal", [True, False])
def test_gradients_by_finite_differences(count_diagonal):
    student, teacher = tokens(2, 7, 4).requires_grad_(), tokens(2, 7, 3, seed=1)
    assert torch.autograd.gradcheck(
        lambda student: pairwise_similarity_loss(student, teacher, 5.0, count_diagonal, 3), student
    )
    wide_teacher = tokens(2, 7, 4, seed=2)
    assert torch.autograd.gradcheck(
        lambda student: token_cosine_loss(student, wide_teacher), student
    )


def test_a_second_backward_pass_finds_the_same():
    student, teacher = tokens(2, 7, 4).requires_grad_(), tokens(2, 7, 3, seed=1)
    loss = pairwise_similarity_loss(student, teacher, block_size=3)
    (first,) = torch.autograd.grad(loss, student, 3 * torch.ones_like(loss), retain_graph=True)
    kept = first.clone()
    (second,) = torch.autograd.grad(loss, student, retain_graph=True)
    torch.testing.assert_close(first, kept, rtol=0, atol=0)
    torch.testing.assert_close(first, 3 * second)


def test_double_backward_is_refused():
    student, teacher = tokens(1, 5, 4).requires_grad_(), tokens(1, 5, 3, seed=1)
    loss = pairwise_similarity_loss(student, teacher)
    (gradient,) = torch.autograd.grad(loss, student, create_graph=True)
    torch.testing.assert_close(
        gradient.detach(), with_gradient(plain_pairwise_loss, student.detach(), teacher)[1]
    )
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


@pytest.mark.parametrize("loss", [pairwise_similarity_loss, token_cosine_loss])
def test_no_gradient_flows_to_the_teacher(loss):
    student, teacher = tokens(1, 5, 4).requires_grad_(), tokens(1, 5, 4, seed=1).requires_grad_()
    loss(student, teacher).backward()
    assert teacher.grad is None and student.grad.abs().max() > 0
    assert not loss(student.detach(), teacher).requires_grad


def test_without_gradient_none_is_computed(monkeypatch):
    wanted = []
    whole = losses._loss_and_grad
    monkeypatch.setattr(losses, "_loss_and_grad", lambda *a: (wanted.append(a[3]), whole(*a))[1])
    student, teacher = tokens(1, 5, 4).requires_grad_(), tokens(1, 5, 3, seed=1)
    with torch.no_grad():
        pairwise_similarity_loss(student, teacher)
    pairwise_similarity_loss(student.detach(), teacher)
    pairwise_similarity_loss(student, teacher)
    assert wanted == [False, False, True]


def test_tokens_that_lie_otherwise_in_memory():
    maps, teacher = tokens(2, 6, 3, 4), tokens(2, 5, 3, 4, seed=1)
    student, teacher = maps.flatten(2).mT, teacher.flatten(2).mT  # strided (B, N, C)
    found = with_gradient(pairwise_similarity_loss, student, teacher, block_size=5)
    torch.testing.assert_close(found, with_gradient(plain_pairwise_loss, student, teacher))
    leaf = maps.clone().requires_grad_()
    pairwise_similarity_loss(leaf.flatten(2).mT, teacher, block_size=5).backward()
    torch.testing.assert_close(leaf.grad.flatten(2).mT, found[1])


@pytest.mark.parametrize("loss", [pairwise_similarity_loss, token_cosine_loss])
def test_low_precision_is_computed_in_float32(loss):
    student = tokens(2, 40, 64, dtype=torch.float32).bfloat16()
    teacher = tokens(2, 40, 64, seed=1, dtype=torch.float32).bfloat16()
    value, gradient = with_gradient(loss, student, teacher)
    expected, expected_gradient = with_gradient(loss, student.double(), teacher.double())
    assert value.dtype == torch.float32 and gradient.dtype == torch.bfloat16
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)
    assert (gradient - expected_gradient).abs().max() < 2**-8 * expected_gradient.abs().max()
    with torch.autocast("cpu", torch.bfloat16):
        below_autocast = with_gradient(loss, student.float(), teacher.float())
    outside = with_gradient(loss, student.float(), teacher.float())
    torch.testing.assert_close(below_autocast, outside, rtol=0, atol=0)


@pytest.mark.parametrize("loss", [pairwise_similarity_loss, token_cosine_loss])
def test_tokens_of_norm_zero(loss):
    student, teacher = tokens(1, 6, 4), tokens(1, 6, 4, seed=1)
    student[0, 2] = 0
    teacher[0, 4] = 0
    value, gradient = with_gradient(loss, student, teacher)
    reference = plain_pairwise_loss if loss is pairwise_similarity_loss else token_cosine_by_loop
    torch.testing.assert_close(value, reference(student, teacher))
    assert not gradient[0, 2].any() and torch.isfinite(gradient).all()
    assert torch.isfinite(loss(torch.zeros(1, 6, 4), torch.zeros(1, 6, 4)))


def test_the_diagonal_of_a_token_of_norm_zero_counts_only_if_asked():
    student, teacher = tokens(1, 6, 4), tokens(1, 6, 4, seed=1)
    student[0, 2] = 0  # cosine 0 with itself, target 1
    found = pairwise_similarity_loss(student, teacher, count_diagonal=False, block_size=4)
    torch.testing.assert_close(found, plain_pairwise_loss(student, teacher, count_diagonal=False))
    counted = pairwise_similarity_loss(student, teacher, block_size=4)
    torch.testing.assert_close(36 * counted, 30 * found + 1)


def token_cosine_by_loop(student, teacher):
    cosines = [
        a @ b / max(a.norm() * b.norm(), 1e-30)
        for a, b in zip(student.flatten(0, 1), teacher.flatten(0, 1))
    ]
    return -sum(cosines) / len(cosines)


@pytest.mark.parametrize("loss", [pairwise_similarity_loss, token_cosine_loss])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("where", ["student", "teacher"])
def test_nan_and_infinity_are_not_hidden(loss, bad, where):
    inputs = {"student": tokens(2, 6, 4), "teacher": tokens(2, 6, 4, seed=1)}
    inputs[where][1, 5, 3] = bad
    value, gradient = with_gradient(loss, inputs["student"], inputs["teacher"])
    assert value.isnan()
    assert gradient[1].isnan().any() and torch.isfinite(gradient[0]).all()


@pytest.mark.parametrize("loss", [pairwise_similarity_loss, token_cosine_loss])
@pytest.mark.parametrize(
    ("student", "teacher", "message"),
    [
        ((2, 6, 4), (2, 5, 4), "differ in images or tokens"),
        ((1, 6, 4), (2, 6, 4), "differ in images or tokens"),
        ((6, 4), (6, 4), "not floating .batch, tokens"),
        ((1, 4, 3, 3), (1, 4, 3, 3), "not floating .batch, tokens"),
        ((0, 6, 4), (0, 6, 4), "hold nothing"),
        ((2, 0, 4), (2, 0, 4), "hold nothing"),
    ],
)
def test_bad_shapes(loss, student, teacher, message):
    with pytest.raises(ValueError, match=message):
        loss(torch.ones(student), torch.ones(teacher))


def test_bad_input():
    good = torch.ones(1, 6, 4)
    with pytest.raises(ValueError, match="not floating"):
        pairwise_similarity_loss(good, good.long())
    with pytest.raises(ValueError, match="project the student"):
        token_cosine_loss(good, torch.ones(1, 6, 5))
    for temperature in (-1.0, float("nan")):
        with pytest.raises(ValueError, match="temperature"):
            pairwise_similarity_loss(good, good, temperature)
    with pytest.raises(ValueError, match="block_size 0"):
        pairwise_similarity_loss(good, good, block_size=0)
    with pytest.raises(ValueError, match="no pairs but itself"):
        pairwise_similarity_loss(good[:, :1], good[:, :1], count_diagonal=False)


def test_memory_grows_with_the_block_and_not_with_the_tokens_squared():
    """No tensor made on the way is larger than a block or the gradient."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Largest(TorchDispatchMode):
        numel = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor):
                self.numel = max(self.numel, result.numel())
            return result

    student, teacher = tokens(1, 300, 4).requires_grad_(), tokens(1, 300, 3, seed=1)
    with Largest() as streamed:
        pairwise_similarity_loss(student, teacher, block_size=32)
    assert 0 < streamed.numel <= max(32 * 32, student.numel())
    with Largest() as whole:
        plain_pairwise_loss(student, teacher)
    assert whole.numel == 300 * 300


def test_modules_are_built_by_name():
    student, teacher = tokens(1, 6, 4), tokens(1, 6, 4, seed=1)
    core = MODELS.build(dict(type="TokenCosineLoss", loss_weight=0.5))
    torch.testing.assert_close(core(student, teacher), 0.5 * token_cosine_loss(student, teacher))
    settings = dict(temperature=5.0, count_diagonal=False)
    loc = MODELS.build(
        dict(type="PairwiseSimilarityLoss", loss_weight=2.0, block_size=4, **settings)
    )
    expected = 2 * plain_pairwise_loss(student, teacher, **settings)
    torch.testing.assert_close(loc(student, teacher), expected)
    with pytest.raises(ValueError, match="temperature"):
        MODELS.build(dict(type="PairwiseSimilarityLoss", temperature=-1.0))
