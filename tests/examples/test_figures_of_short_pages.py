"""What the first page, results.md and training.md say in short is what the records hold."""

import re
import statistics

from tests.support.pages import ROOT
from tests.support.quoting import in_one_line, quoted, runs_of, values_at

SCALED = [
    ("AC-ViT, annealed", "attention+annealed"),
    ("the same, layers leave: 4, 5 and 3 are left", "attention+annealed+trimmed"),
    ("AC-ViT, annealed, with intermediate supervision", "attention+annealed+supervised"),
    ("the same, where all depths count alike", "attention+annealed+uniform"),
    ("residual ViT, cut", "residual"),
    ("residual ViT with intermediate supervision", "residual+supervised"),
    ("the same, where all depths count alike", "residual+uniform"),
    ("residual ViT of 4 layers, trained from scratch", "residual4"),
]
"""Rows of results.md, below the heading of first weights that fit, and their networks."""


def said(page):
    """Return a page as one line."""
    return in_one_line((ROOT / page).read_text())


def ends(record, name):
    """Return the values at full depth of all seeds."""
    return [run["values"][-1] for run in runs_of(record) if run["name"] == name]


def at(record, name, depth):
    """Return the mean over seeds at one depth, as the pages write it."""
    return quoted([statistics.mean(values_at(runs_of(record), name)[depth])])


def test_results_quote_the_networks_with_first_weights_that_fit():
    opening = "With [first weights that fit the width]"
    table = (ROOT / "docs" / "results.md").read_text().split(opening)[1].split("\n\n")[1]
    _, *rows = re.findall(r"^\| ([^|]+) \|(.*)\|$", table, re.M)
    for (name, cells), (expected, network) in zip(rows, SCALED, strict=True):
        assert name == expected
        ours = [run["values"] for run in runs_of("recipes_scaled") if run["name"] == network]
        shown = [4] if network == "residual4" else [depth for depth in (1, 2, 3, 4) if depth < min(map(len, ours))]
        of_depths = [quoted([values[depth] for values in ours]) if depth in shown else "" for depth in (1, 2, 3, 4)]
        full = quoted([values[-1] for values in ours])
        last = {"attention+annealed+trimmed": f"{full}, the end", "residual4": ""}.get(network, full)
        assert [cell.strip().replace("**", "") for cell in cells.split("|")] == [*of_depths, last]


def test_the_pages_quote_what_a_vit_and_a_mixer_came_to():
    scaled, mixer = "recipes_scaled", "recipes_mixer"
    shed, annealed, linear, alike = (
        f"attention+annealed{more}" for more in ("+trimmed", "", "+supervised", "+uniform")
    )
    left = sorted(run["depths"][-1] for run in runs_of(scaled) if run["name"] == shed)
    kept, full = quoted([statistics.mean(ends(scaled, shed))]), at(scaled, "residual", 12)
    assert (
        f"keeps {left[0]} to {left[-1]}, and has {kept} then. A residual ViT has {full} with all 12, "
        f"{at(scaled, 'residual', 3)} when it is cut at 3, and {at(scaled, 'residual4', 4)} with 4 layers from scratch"
    ) in said("README.md")
    expected = [
        f"{kept} and {left[0]} to {left[-1]} layers at the end; its residual network has {full} with 12, and "
        f"{at(scaled, 'residual', 5)} at depth 5",
        f"annealed alone: {quoted(ends(mixer, annealed))} with all and {at(mixer, annealed, 6)} with 6; its residual "
        f"network {quoted(ends(mixer, 'residual'))} and {at(mixer, 'residual', 6)}",
        f"{at(scaled, alike, 1)} instead of {at(scaled, linear, 1)} with one of 12 layers on Fashion-MNIST, "
        f"{at(scaled, alike, 12)} instead of {at(scaled, linear, 12)} with all",
    ]
    for phrase in expected:
        assert phrase in said("docs/training.md")


def test_the_pages_quote_what_a_bert_came_to():
    runs = runs_of("pretraining_alike")
    shed, two = (ends("pretraining_alike", name) for name in ("strict-shed", "residual2"))
    minutes = [
        f"{statistics.mean(run['train_runtime'] for run in runs if run['name'] == name) / 60:.0f}"
        for name in ("strict-shed", "residual2", "strict-uniform", "residual-uniform")
    ]
    acn, residual = (
        {depth: f"{values_at(runs, name)[depth][0]:.2f}" for depth in (1, 2, 8)}
        for name in ("strict-uniform", "residual-uniform")
    )
    assert acn[2] == acn[8]
    for_shed, for_two, for_acn, for_residual = minutes
    short = f"{quoted(shed, 2)} after {for_shed} minutes"
    phrases = {
        "README.md": f"with a loss of {short}, two residual layers from scratch with {quoted(two, 2)} after {for_two} ",
        "docs/results.md": f"a loss of {short}. Two residual layers from scratch have {quoted(two, 2)} after {for_two}"
        f". With a loss at every depth and all 8 layers, one seed, the AC-BERT has {acn[1]} at depth 1, {acn[2]} at "
        f"depth 2 and {acn[8]} at depth 8 after {for_acn} minutes, the residual network {residual[1]}, {residual[2]} "
        f"and {residual[8]} after {for_residual} ",
        "docs/training.md": f"2 layers and a loss of {short} of a core, {acn[2]} with 2 or with all 8 after {for_acn} "
        f"minutes where no layer leaves. Two layers from scratch have {quoted(two, 2)} after {for_two} minutes; the "
        f"residual network of 8 layers, supervised like that, {residual[2]} with 2 and {residual[8]} with all after "
        f"{for_residual} ",
    }
    for page, phrase in phrases.items():
        assert phrase in said(page)


def test_the_results_quote_what_a_bert_came_to_on_reviews():
    reviews = runs_of("reviews_alike")
    acn, residual = (
        [quoted(values_at(reviews, name)[depth]) for depth in (2, 1)] for name in ("strict-shed", "residual2")
    )
    assert (
        f"Fine-tuned on these reviews, its 2 layers have {acn[0]} and the first alone {acn[1]}, the two residual "
        f"layers {residual[0]} and {residual[1]}."
    ) in said("docs/results.md")
