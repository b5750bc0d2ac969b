"""Classes of patches: names, templates and the background, against loops."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from pe_dense.text_dense.class_vectors import class_vectors, name_vectors
from pe_dense.text_dense.patch_scores import (
    Background,
    class_logits,
    names_of,
    patch_cosines,
)


def encode(texts):
    """Letters as numbers: a text tower of the test's own."""
    return torch.tensor([[len(t), t.count("a"), t.count("o"), 1.0] for t in texts])


def test_vectors_of_names_are_means_of_their_sentences():
    names, templates = ["cat", "oak tree", "a {}"], ["a photo of a {}.", "{}", "no {} at all"]
    for at_once in (1, 4, 100):
        found = name_vectors(encode, names, templates, at_once)
        for name, vector in zip(names, found, strict=True):
            texts = [f"a photo of a {name}.", name, f"no {name} at all"]
            mean = sum(F.normalize(encode([text])[0], dim=0) for text in texts) / 3
            torch.testing.assert_close(vector, mean / mean.norm())
    alone = name_vectors(encode, ["cat"], templates)
    torch.testing.assert_close(alone, found[:1])
    assert torch.equal(class_vectors(encode, names, templates), found)
    with pytest.raises(ValueError, match="1 classes cannot be told apart"):
        class_vectors(encode, ["cat"], templates)


def test_names_of_classes():
    found = names_of(
        ["background", "sky", "tv"], {"background": [], "tv": ["television", "screen"]}
    )
    assert found == (("sky", "television", "screen"), (1, 2, 2))
    for classes, other, words in (
        (["a"], {"b": ["c"]}, "names are given for 'b', which is none"),
        (["a", "b"], {"b": ["a"]}, "'a' is a name of 'a' and of 'b'; keep one"),
        (["a"], {"a": "c"}, "are one text, .c.; give a list"),
    ):
        with pytest.raises(ValueError, match=words):
            names_of(classes, other)


def slow_labels(cosine_Qhw, class_of, num_classes, background):
    """The rule in words, patch by patch."""
    _, h, w = cosine_Qhw.shape
    labels = torch.empty(h, w, dtype=torch.long)
    for y in range(h):
        for x in range(w):
            best = [-math.inf] * num_classes
            for q, k in enumerate(class_of):
                best[k] = max(best[k], float(cosine_Qhw[q, y, x]))
            label = max(range(num_classes), key=lambda k: best[k])
            if background is not None:
                powers = [math.exp(background.scale * b) for b in best]
                if max(powers) / sum(powers) < background.threshold:
                    label = background.index
            labels[y, x] = label
    return labels


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("threshold", [None, 0.5, 0.7])
def test_labels_are_the_rule_in_words(named, threshold):
    torch.manual_seed(0)
    class_of = (1, 2, 2, 3, 1) + ((0, 0) if named or threshold is None else ())
    cosine = torch.rand(2, len(class_of), 6, 7) * 0.2
    background = None if threshold is None else Background(0, threshold, 20.0)
    logits = class_logits(cosine, class_of, 4, background)
    found = logits.argmax(1)
    for b in range(2):
        assert torch.equal(found[b], slow_labels(cosine[b], class_of, 4, background))
    if threshold is not None:
        share = (found == 0).float().mean()
        assert 0 < share < 1


def test_cosines():
    torch.manual_seed(0)
    patches = F.normalize(torch.randn(2, 5, 3, 4), dim=1)
    names = F.normalize(torch.randn(6, 5), dim=1)
    found = patch_cosines(patches, names)
    for q in range(6):
        assert torch.allclose(found[:, q], (patches * names[q][None, :, None, None]).sum(1))


def test_what_makes_no_sense_is_refused():
    cosine = torch.zeros(1, 2, 1, 1)
    for class_of, background, words in (
        ((0, 2), None, "class 1 has no name"),
        ((1, 2), Background(3, 0.5, 1.0), "background class 3 is none of 3"),
        ((1, 2), Background(0, 1.0, 1.0), r"threshold 1.0 is outside \(0, 1\)"),
        ((1, 2), Background(0, 0.5, 0.0), "scale 0.0 must be above 0"),
    ):
        with pytest.raises(ValueError, match=words):
            class_logits(cosine, class_of, 3, background)
    with pytest.raises(ValueError, match="no place for the name"):
        name_vectors(encode, ["cat"], ["a photo"])
    with pytest.raises(ValueError, match="there is no name"):
        name_vectors(encode, [], ["{}"])
