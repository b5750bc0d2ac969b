"""Classifiers that tell whether features give a class away; the even items are the training set."""

import numpy as np


def nearest_neighbour_accuracy(features, labels, k=7):
    """Accuracy on odd items of a vote among the k nearest even items."""
    features = (features - features.mean(0)) / (features.std(0) + 1e-9)
    train, test = features[::2], features[1::2]
    distance = ((test[:, None] - train[None]) ** 2).sum(-1)
    votes = labels[::2][np.argsort(distance, axis=1)[:, :k]]
    chosen = np.array([np.bincount(v).argmax() for v in votes])
    return (chosen == labels[1::2]).mean()


def class_mean_accuracy(features, labels):
    """Accuracy on odd items of the nearest class mean of even items."""
    features = (features - features.mean(0)) / (features.std(0) + 1e-9)
    classes = np.unique(labels)
    means = np.stack([features[::2][labels[::2] == c].mean(0) for c in classes])
    distance = ((features[1::2][:, None] - means[None]) ** 2).sum(-1)
    return (classes[distance.argmin(1)] == labels[1::2]).mean()


def colours_of(pixels_N3):
    """Mean, spread and histogram of the colours of an object."""
    bins = (pixels_N3 // 64).astype(int) @ (16, 4, 1)
    histogram = np.bincount(bins, minlength=64) / len(pixels_N3)
    return [*(pixels_N3.mean(0) / 255), *(pixels_N3.std(0) / 255), *histogram]


def shape_of(mask_HW):
    """Moments of a mask that no rotation changes, and how much of its convex hull it fills."""
    import cv2

    mask_HW = mask_HW.astype(np.uint8)
    hu = cv2.HuMoments(cv2.moments(mask_HW, binaryImage=True)).ravel()
    outline = cv2.findContours(mask_HW, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
    hull_area = cv2.contourArea(cv2.convexHull(np.concatenate(outline))) + 1
    return [*np.log(hu[:3] + 1e-5), mask_HW.sum() / hull_area]
