"""Class vectors: by hand, against open_clip's code, and what is refused."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from pe_dense.text_dense.class_vectors import class_vectors, sentences


class WordTower:
    """Texts to vectors of any length: sums of random vectors of their letters, with places."""

    def __init__(self, width: int = 7) -> None:
        torch.manual_seed(0)
        self.letters = torch.randn(256, width)

    def __call__(self, texts) -> torch.Tensor:
        rows = []
        for text in texts:
            codes = torch.tensor([min(ord(letter), 255) for letter in text])
            places = torch.arange(1.0, len(codes) + 1)[:, None]
            rows.append((self.letters[codes] * places.sqrt()).sum(dim=0))
        return torch.stack(rows)


NAMES = ["cat", "sea {}", "red fox", "o'clock", "dog"]
TEMPLATES = ["a photo of a {}.", "{}", "the {}, a kind of {}"]


def test_a_class_is_the_direction_of_the_mean_of_directions():
    of_text = {"a x": [3.0, 0.0], "b x": [0.0, 0.5], "a y": [0.0, 2.0], "b y": [0.0, 9.0]}
    found = class_vectors(lambda texts: torch.tensor([of_text[t] for t in texts]), ["x", "y"],
                          ["a {}", "b {}"])  # fmt: skip
    half = 0.5**0.5
    torch.testing.assert_close(found, torch.tensor([[half, half], [0.0, 1.0]]))


@pytest.mark.parametrize("at_once", [1, 4, 7, 512])
def test_chunks_change_nothing(at_once):
    tower = WordTower()
    slow = []
    for name in NAMES:
        vectors = [F.normalize(tower([t.replace("{}", name)])[0], dim=0) for t in TEMPLATES]
        mean = torch.stack(vectors).mean(dim=0)
        slow.append(mean / mean.norm())
    found = class_vectors(tower, NAMES, TEMPLATES, at_once)
    torch.testing.assert_close(found, torch.stack(slow), rtol=0, atol=1e-6)


def test_equal_to_open_clips_classifier():
    open_clip = pytest.importorskip("open_clip")
    tower = WordTower()

    class Model:
        def encode_text(self, texts, normalize=False):
            rows = tower(texts.texts)
            return F.normalize(rows, dim=-1) if normalize else rows

    class Texts:
        def __init__(self, texts):
            self.texts = texts

        def to(self, device):
            return self

    names = [name for name in NAMES if "{" not in name]
    for maker in (
        open_clip.build_zero_shot_classifier,
        open_clip.build_zero_shot_classifier_legacy,
    ):
        theirs_DK = maker(Model(), Texts, names, [t.replace("{}", "{0}") for t in TEMPLATES])
        ours_KD = class_vectors(tower, names, TEMPLATES)
        torch.testing.assert_close(ours_KD, theirs_DK.T, rtol=0, atol=1e-6)


def test_braces_of_a_name_are_letters():
    assert sentences(["{0} {}"], ["a {}!"]) == ["a {0} {}!"]


@pytest.mark.parametrize(
    ("names", "templates", "words"),
    [
        (["a", "b", "a"], ["{}"], "class name 'a' stands twice"),
        (["a"], ["{}"], "1 classes cannot be told apart"),
        (["a", " "], ["{}"], "class 1 is called ' '"),
        (["a", "b"], ["a photo"], "template 'a photo' has no place for the name"),
        (["a", "b"], ["{c}"], "no place"),
        (["a", "b"], ["{}", "{}"], r"template '\{\}' stands twice"),
        (["a", "b"], [], "no list of sentences"),
        (["a", "b"], "{}", "no list of sentences"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_sentence(names, templates, words):
    with pytest.raises(ValueError, match=words) as caught:
        class_vectors(WordTower(), names, templates)
    assert "\n" not in str(caught.value)


def test_sentences_that_cancel_out_are_refused():
    signs = {"+": 1.0, "-": -1.0}
    with pytest.raises(ValueError, match="cancel out"):
        class_vectors(
            lambda texts: torch.tensor([[signs[t[0]], 0.0] for t in texts]), ["x", "y"],
            ["+{}", "-{}"],
        )  # fmt: skip
