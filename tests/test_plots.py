"""A picture shows the numbers of the record it is given."""

import sys

import pytest
from matplotlib.figure import Figure

from acn_hf import DepthProfile, plot_depth_profile
from acn_hf.depth.metrics import ProfileError

PROFILE = DepthProfile((0, 1, 2, 4), (0.1, 0.8, 0.9, 0.91), "accuracy", True, 100, (10, 60, 110, 210))


def test_the_line_is_the_metric_and_the_bars_are_the_parameters():
    axes = plot_depth_profile(PROFILE)
    line = axes.get_lines()[0]
    assert tuple(line.get_xdata()) == PROFILE.depths
    assert tuple(line.get_ydata()) == PROFILE.values
    bars = next(other for other in axes.figure.axes if other is not axes)
    assert tuple(patch.get_height() for patch in bars.patches) == PROFILE.num_parameters
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("depth (layers kept)", "accuracy")


def test_the_chosen_depth_is_marked():
    axes = plot_depth_profile(PROFILE, depth=2)
    marked = axes.get_lines()[-1]
    assert (list(marked.get_xdata()), list(marked.get_ydata())) == ([2], [0.9])
    assert any("depth 2" in text.get_text() for text in axes.get_legend().get_texts())


BEFORE = DepthProfile((0, 1, 2, 4), (0.1, 0.2, 0.3, 0.93), "accuracy", True, 100, (10, 60, 110, 210))


def lines_of(axes):
    return {
        line.get_label(): dict(zip(map(int, line.get_xdata()), line.get_ydata(), strict=True))
        for line in axes.get_lines()
        if line.get_linestyle() != ":"
    }


def test_what_was_before_and_what_was_healed_are_drawn_beside_what_was_taught():
    axes = plot_depth_profile(PROFILE, depth=1, before=BEFORE, healed={2: 0.95, 1: 0.9})
    drawn = lines_of(axes)
    assert drawn["taught"] == dict(zip(PROFILE.depths, PROFILE.values, strict=True))
    assert drawn["before teaching"] == dict(zip(BEFORE.depths, BEFORE.values, strict=True))
    assert drawn["healed"] == {1: 0.9, 2: 0.95}
    (level,) = [line for line in axes.get_lines() if line.get_linestyle() == ":"]
    assert set(level.get_ydata()) == {0.93}, "the reference is the model before it was taught"
    assert plot_depth_profile(PROFILE).get_lines()[0].get_label() == "accuracy"


@pytest.mark.parametrize(("healed", "marked"), [({}, 0.8), ({2: 0.95}, 0.8), ({1: 0.9}, 0.9), ({1: 0.7}, 0.8)])
def test_the_mark_stands_at_the_model_that_was_kept(healed, marked):
    """What healing made worse is left as it was cut."""
    axes = plot_depth_profile(PROFILE, depth=1, before=BEFORE, healed=healed)
    assert lines_of(axes)[f"chosen: depth 1, accuracy {marked:.3f}"] == {1: marked}


def test_it_draws_where_it_is_told(tmp_path):
    axes = Figure().add_subplot()
    assert plot_depth_profile(PROFILE, ax=axes) is axes
    axes.figure.savefig(tmp_path / "p.png")
    assert (tmp_path / "p.png").stat().st_size > 1000


def test_a_depth_that_was_not_measured_is_refused():
    with pytest.raises(ProfileError, match=r"one of those measured, \(0, 1, 2, 4\); got 3"):
        plot_depth_profile(PROFILE, depth=3)


def test_a_missing_matplotlib_names_the_extra(monkeypatch):
    for name in list(sys.modules):
        if name.partition(".")[0] == "matplotlib":
            monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"plots need matplotlib: pip install 'acn-hf\[plots\]'"):
        plot_depth_profile(PROFILE)
