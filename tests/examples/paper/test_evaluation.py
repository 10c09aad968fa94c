"""Noise, parts of data sets and continual learning, against cases that are worked out by hand."""

import doctest

import numpy as np
import pytest
import torch
from torch import nn

from tests.support.paper_lab import load

continual, noise, subsets = load("lab.continual"), load("lab.noise"), load("lab.subsets")
SynapticIntelligence, average_accuracy = continual.SynapticIntelligence, continual.average_accuracy
average_forgetting = continual.average_forgetting
add_gaussian_noise, add_salt_and_pepper = noise.add_gaussian_noise, noise.add_salt_and_pepper
examples_per_class, split_classes = subsets.examples_per_class, subsets.split_classes

GREY = torch.full((50, 3, 20, 20), 0.5)


def test_gaussian_noise_has_the_strength_that_is_asked_for():
    noise = add_gaussian_noise(GREY, 0.1) - GREY
    assert noise.mean().abs() < 0.002  # 60,000 draws: 5 standard errors of .0004
    assert abs(noise.std() - 0.1) < 0.002
    assert noise.abs().max() > 0.3


def test_gaussian_noise_is_a_share_of_the_range_and_stays_in_it():
    unit, wide = add_gaussian_noise(GREY, 0.4), add_gaussian_noise(GREY * 4 - 2, 0.4, low=-2, high=2)
    torch.testing.assert_close(wide, unit * 4 - 2)
    assert (unit.min(), unit.max()) == (0, 1)


@pytest.mark.parametrize("add", [add_gaussian_noise, add_salt_and_pepper])
def test_noise_follows_its_seed_and_leaves_the_images_alone(add):
    images = GREY.clone()
    first, again, other = add(images, 0.2), add(images, 0.2), add(images, 0.2, seed=1)
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    assert not torch.equal(first, other)
    torch.testing.assert_close(images, GREY, rtol=0, atol=0)
    unchanged = add(images, 0)
    torch.testing.assert_close(unchanged, GREY, rtol=0, atol=0)
    assert unchanged is not images
    assert add(images.half(), 0.2).dtype == torch.float16


def test_salt_and_pepper_hit_half_and_half_in_all_channels():
    hit = add_salt_and_pepper(GREY, 0.1, low=-1, high=2)
    assert set(hit.unique().tolist()) == {-1, 0.5, 2}
    assert torch.equal(hit[:, 0], hit[:, 1])
    assert torch.equal(hit[:, 0], hit[:, 2])
    for value in (-1, 2):  # 20,000 draws: 5 standard errors of .0015
        assert abs((hit[:, 0] == value).float().mean() - 0.05) < 0.008
    assert set(add_salt_and_pepper(GREY, 1).unique().tolist()) == {0, 1}


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: add_gaussian_noise(GREY, 1.5), r"std must lie in \[0, 1\]; got 1.5"),
        (lambda: add_gaussian_noise(GREY, float("nan")), r"std must lie in \[0, 1\]; got nan"),
        (lambda: add_salt_and_pepper(GREY, -0.1), r"share must lie in \[0, 1\]; got -0.1"),
        (
            lambda: add_gaussian_noise(GREY, 0.1, low=1, high=1),
            "low must be smaller than high, both finite; got 1 and 1",
        ),
        (lambda: add_salt_and_pepper(GREY, 0.1, low=2), "low must be smaller than high, both finite; got 2 and 1.0"),
        (lambda: add_gaussian_noise(GREY, 0.1, high=float("inf")), "both finite; got 0.0 and inf"),
        (lambda: add_gaussian_noise(GREY * 9, 0.1), r"pixels must lie in \[0.0, 1.0\], .*; got 4.5 to 4.5"),
        (lambda: add_salt_and_pepper(GREY - 1, 0.1), r"pixels must lie in \[0.0, 1.0\], .*; got -0.5 to -0.5"),
        (lambda: add_salt_and_pepper(GREY * float("nan"), 0.1), r"pixels must lie in .*; got nan to nan"),
        (lambda: add_gaussian_noise(GREY.byte(), 0.1), "images must be floating-point tensors; got torch.uint8"),
        (lambda: add_salt_and_pepper(GREY[0, 0], 0.1), r"shape \(..., channels, height, width\); got \(20, 20\)"),
    ],
)
def test_noise_that_is_refused(call, text):
    with pytest.raises(ValueError, match=text):
        call()


@pytest.mark.parametrize("add", [add_gaussian_noise, add_salt_and_pepper])
def test_noise_is_for_tensors(add):
    with pytest.raises(TypeError, match="images must be a tensor; got list"):
        add([[0.5]], 0.1)


def test_examples_of_each_class_are_drawn_without_replacement():
    labels = np.array([2, 0, 0, 1, 2, 2, 1, 0])
    rows = examples_per_class(labels, 2, seed=3)
    assert rows == sorted(set(rows))
    assert np.bincount(labels[rows]).tolist() == [2, 2, 2]
    assert rows == examples_per_class(labels.tolist(), 2, seed=3)
    drawn = {tuple(examples_per_class(labels, 2, seed=seed)) for seed in range(40)}
    assert len(drawn) == 9  # 3 ways for each of the classes 0 and 2, one for class 1


def test_classes_are_split_in_their_order():
    assert split_classes(6, 3) == [(0, 1), (2, 3), (4, 5)]
    assert split_classes(4, 1) == [(0, 1, 2, 3)]


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: examples_per_class([0, 0, 1], 2), "every class must have 2 examples; class 1 has 1"),
        (lambda: examples_per_class([0, 1], 0), "number must be a whole number >= 1; got 0"),
        (lambda: examples_per_class([0, 1], 1.5), "number must be a whole number >= 1; got 1.5"),
        (lambda: examples_per_class([0, 1], True), "number must be a whole number >= 1; got True"),
        (lambda: examples_per_class([[0, 1], [1, 0]], 1), r"one number for each row; got an array of shape \(2, 2\)"),
        (lambda: examples_per_class(None, 1), r"one number for each row; got an array of shape \(\)"),
        (lambda: split_classes(-10, 5), "num_classes must be a whole number >= 1; got -10"),
        (lambda: split_classes("10", 5), "num_classes must be a whole number >= 1; got '10'"),
        (lambda: split_classes(10, 2.5), "num_tasks must be a whole number >= 1; got 2.5"),
        (lambda: split_classes(10, 3), "the number of tasks must divide the number of classes, 10; got 3"),
        (lambda: split_classes(10, 0), "num_tasks must be a whole number >= 1; got 0"),
    ],
)
def test_parts_that_are_refused(call, text):
    with pytest.raises(ValueError, match=text):
        call()


def descend(weight, loss, intelligence, steps, rate=0.5):
    """Take steps of gradient descent on a loss."""
    optimizer = torch.optim.SGD([weight], lr=rate)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(weight).backward()
        with intelligence.step():
            optimizer.step()


def test_importance_of_one_weight_by_hand():
    weight = nn.Parameter(torch.tensor(4.0))
    intelligence = SynapticIntelligence([("weight", weight)], strength=0.25, damping=1.0)
    assert intelligence.penalty() == 0
    # Loss w² / 2, gradient w: from 4 over 2 to 1, the path is 4 * 2 + 2 * 1 = 10, and 10 / (3² + 1) = 1.
    descend(weight, lambda w: w**2 / 2, intelligence, steps=2)
    intelligence.end_task()
    assert weight == 1
    assert intelligence.importance["weight"] == 1
    assert intelligence.penalty() == 0

    # Loss 2w, gradient 2; the pull is 2 * .25 * 1 * (w - 1). From 1 to 0, where it is -.5, to -.75.
    descend(weight, lambda w: 2 * w, intelligence, steps=2)
    assert weight == -0.75
    assert intelligence.penalty() == 0.25 * 1.75**2
    intelligence.penalty().backward()
    assert weight.grad == 2 - 0.5 + 2 * 0.25 * -1.75  # of the loss, its pull in the last step, and the penalty
    # The path has the gradient of the loss alone: 2 * 1 + 2 * .75 = 3.5; 1 + 3.5 / (1.75² + 1).
    intelligence.end_task()
    torch.testing.assert_close(intelligence.importance["weight"], torch.tensor(1 + 3.5 / 4.0625))


def test_a_weight_that_made_things_worse_is_not_important():
    weight = nn.Parameter(torch.tensor(1.0))
    intelligence = SynapticIntelligence([("weight", weight)])
    (weight**2 / 2).backward()
    with intelligence.step(), torch.no_grad():
        weight += 1
    intelligence.end_task()
    assert intelligence.importance["weight"] == 0


def test_weights_without_a_gradient_are_left_alone():
    used, unused, frozen = (nn.Parameter(torch.ones(2)) for _ in range(3))
    frozen.requires_grad = False
    intelligence = SynapticIntelligence([("used", used), ("unused", unused), ("frozen", frozen)])
    descend(used, lambda w: w.square().sum(), intelligence, steps=1, rate=0.25)
    intelligence.end_task()
    assert list(intelligence.importance) == ["used", "unused"]
    # Gradient 2, step -.5: 2 * .5 / (.5² + .001).
    torch.testing.assert_close(intelligence.importance["used"], torch.full((2,), 1 / 0.251))
    assert intelligence.importance["unused"].tolist() == [0, 0]
    assert unused.grad is None


def test_a_strong_penalty_keeps_what_the_first_task_needed():
    def distance(strength):
        weights = nn.Parameter(torch.zeros(2))
        intelligence = SynapticIntelligence([("weights", weights)], strength=strength)
        descend(weights, lambda w: (w[0] - 1) ** 2, intelligence, steps=20, rate=0.1)
        intelligence.end_task()
        descend(weights, lambda w: ((w + 1) ** 2).sum(), intelligence, steps=50, rate=0.1)
        return weights.detach() + 1

    free, held = distance(0.0), distance(3.0)
    torch.testing.assert_close(free, torch.zeros(2), atol=1e-3, rtol=0)
    assert held[0] > 1  # the first task's weight, nearer to its own place
    torch.testing.assert_close(held[1], free[1])  # of no use for the first task


def test_accuracy_and_forgetting_by_hand():
    matrix = [[0.9, 0.5, 0.4], [0.8, 1.0, 0.6], [0.7, 0.6, 0.8]]
    assert average_accuracy(matrix) == pytest.approx(0.7)
    # Task 0: .9 - .7; task 1: 1 - .6. Before task 1 is learned its .5 does not count.
    assert average_forgetting(matrix) == pytest.approx(0.3)
    triangle = [row[: task + 1] for task, row in enumerate(matrix)]
    assert average_accuracy(triangle) == average_accuracy(matrix)
    assert average_forgetting(triangle) == average_forgetting(matrix)
    assert average_forgetting([[0.5], [0.75, 0.9]]) == -0.25  # the second task has helped the first
    assert average_forgetting([[0.2, 0.9], [0.5, 0.5]]) == pytest.approx(-0.3)
    assert average_accuracy([[0.5]]) == 0.5


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: SynapticIntelligence([]), "named_parameters must hold weights that are trained; got none"),
        (lambda: SynapticIntelligence([], strength=-1), "strength must be a number >= 0; got -1"),
        (lambda: SynapticIntelligence([], damping=0), "damping must be a number > 0; got 0"),
        (lambda: SynapticIntelligence([], damping=float("inf")), "damping must be a number > 0; got inf"),
        (lambda: average_accuracy([]), "matrix must have a row for each task; got none"),
        (lambda: average_accuracy([[1.0], [0.5]]), "row 1 of matrix must have an accuracy for 2 tasks; got 1"),
        (lambda: average_forgetting([[0.5]]), "at least 2 tasks, for one to be forgotten; got 1"),
        (lambda: average_forgetting([[91.0], [0.5, 0.5]]), r"an accuracy must lie in \[0, 1\]; got 91.0"),
        (lambda: average_accuracy([[float("nan")]]), r"an accuracy must lie in \[0, 1\]; got nan"),
    ],
)
def test_continual_learning_that_is_refused(call, text):
    with pytest.raises(ValueError, match=text):
        call()


def test_the_example_of_synaptic_intelligence_runs():
    failed, attempted = doctest.testmod(continual)
    assert failed == 0
    assert attempted
