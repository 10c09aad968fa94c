"""The experiment on transfer: it runs between halves of the digits, and its sentences follow from its numbers."""

import dataclasses

import pytest
import torch

from tests.support.paper_lab import check_verdict_on_both, laboratory, load, result

transfer, experiment, store, tasks = load("transfer"), load("lab.experiment"), load("lab.store"), load("lab.tasks")


@pytest.fixture
def small(tmp_path):
    """A laboratory whose networks train in a second."""
    made = laboratory(tmp_path)
    made.arguments = transfer.TransferArguments(**{**vars(made.arguments), "arch": ["acn"]})
    made.size = dataclasses.replace(made.size, num_layers=1, num_train=120, num_test=50, num_epochs=1)
    return made


def test_it_runs(small):
    results = experiment.run(transfer.EXPERIMENT, small)
    names = [(run.settings["method"], run.settings["start"], run.settings["images"]) for run in results]
    assert names == [
        ("acn", "pretrained", "10"),
        ("acn", "pretrained", "all"),
        ("acn", "scratch", "10"),
        ("acn", "scratch", "all"),
        ("acn-aligned", "pretrained", "10"),
        ("acn-aligned", "pretrained", "all"),
    ]
    for run in results:
        assert len(run.values["accuracies"]) == 2
        assert len(run.values["history"]) == {"10": 5, "all": 2}[run.settings["images"]]
        assert ("source_accuracy" in run.values) == bool(run.circumstances["trained_at"])
        assert run.settings["target"] == "digits-second-half"
    # Networks from scratch, which no network was trained for, stand in one table with the others.
    assert transfer.section(small.store("transfer").results()).markdown().startswith("## Transfer")


def test_the_body_is_transferred_and_the_classifier_is_new(small, monkeypatch):
    given = {}

    def no_training(model, task, recipe, seed, callbacks):
        given.update({"model": model, "task": task, "recipe": recipe, "seed": seed, "callbacks": list(callbacks)})
        return []

    monkeypatch.setattr(transfer, "train", no_training)
    network = small.network("vit", "acn")
    transfer.job(small, "acn-aligned", network, "linear", "pretrained", "10", 3).measure()
    source = small.task("vit", classes=(0, 1, 2, 3, 4))
    trained = small.trained(network, 3, task=source, recipe=small.recipe("vit", supervision="linear"))
    untrained = network.build(given["task"].fields, 3)
    for name, value in given["model"].state_dict().items():
        other = untrained if name.startswith("classifier") else trained.model
        assert torch.equal(value, other.state_dict()[name]), name
    assert not torch.equal(given["model"].classifier.weight, trained.model.classifier.weight)
    assert (given["recipe"].supervision, given["recipe"].num_epochs, given["seed"]) == ("linear", 5, 3)
    assert (given["task"].num_labels, len(given["task"].train)) == (5, 50)

    transfer.job(small, "acn", network, None, "scratch", "all", 3).measure()
    for name, value in given["model"].state_dict().items():
        assert torch.equal(value, untrained.state_dict()[name]), name


def test_a_network_is_annealed_where_it_begins(small, monkeypatch):
    """What was annealed before is an ACN already."""
    given = []
    monkeypatch.setattr(transfer, "train", lambda *arguments: given.append(arguments) or [])
    network = small.network("vit", "acn-annealed")
    for start in ("pretrained", "scratch"):
        transfer.job(small, "acn-annealed", network, None, start, "all", 0).measure()
    assert [[type(callback).__name__ for callback in arguments[4]] for arguments in given] == [
        [],
        ["ResidualAnnealingCallback"],
    ]
    assert [arguments[0].config.residual_scale for arguments in given] == [0.0, 0.0]


def test_the_target_is_another_data_set_or_the_other_half(small):
    source, target = transfer.source_and_target(small, "vit", 10)
    assert (source.classes, target.classes) == ((0, 1, 2, 3, 4), (5, 6, 7, 8, 9))
    assert (source.per_class, target.per_class) == (None, 10)
    small.arguments.image_data = "folder/clothes"
    source, target = transfer.source_and_target(small, "vit", None)
    assert (source, target) == (small.task("vit"), dataclasses.replace(small.task("vit"), source="digits"))
    assert transfer.target_name(small) == "digits"


def test_what_is_compared(small):
    small.arguments.arch = []
    names = [job.name for job in transfer.jobs(small) if job.settings["images"] == "10"]
    assert names == [
        f"vit-{name}-10-digits-second-half-seed0"
        for name in (
            "acn-1-pretrained",
            "acn-1-scratch",
            "residual-1-pretrained",
            "residual-1-scratch",
            "layerskip-1-pretrained",
            "residual-aligned-1-pretrained",
            "acn-aligned-1-pretrained",
            "acn-annealed-1-pretrained",
            "acn-annealed-1-scratch",
            "residual-scaled-1-pretrained",
            "residual-scaled-1-scratch",
            "residual-3-pretrained",
            "residual-3-scratch",
            "residual-scaled-3-pretrained",
            "residual-scaled-3-scratch",
        )
    ]
    small.arguments.arch = ["denseformer"]
    assert {job.settings["method"] for job in transfer.jobs(small)} == {"denseformer"}
    small.arguments.family, small.arguments.text_data = ["bert"], "reviews"
    with pytest.raises(ValueError, match="--family must be vit or mixer, since images are transferred; got bert"):
        transfer.jobs(small)


def made(method, seed, accuracies, *, used, depth=2, start="pretrained", images="10", target="digits"):
    settings = {"family": "vit", "method": method, "depth": depth, "start": start, "images": images, "target": target}
    values = {"accuracies": accuracies, "effective_depth": used}
    before = {"source_accuracy": 0.75} if start == "pretrained" else {}
    return result({**settings, "seed": seed, "data": "clothes"}, {**values, **before})


def results():
    """The ACN has .7 and .6; the residual network .1 and .2 more, that with LayerSkip .1 more and .1 less."""
    return [
        made("acn", 0, [0.1, 0.6, 0.7], used=2),
        made("acn", 1, [0.1, 0.6, 0.6], used=1),
        made("residual", 0, [0.1, 0.2, 0.8], used=2),
        made("residual", 1, [0.1, 0.3, 0.8], used=2),
        made("layerskip", 0, [0.1, 0.2, 0.6], used=2),
        made("layerskip", 1, [0.1, 0.3, 0.7], used=2),
        made("residual", 1, [0.1, 0.5], used=1, depth=1),
        made("acn", 0, [0.1, 0.1, 0.5], used=2, start="scratch"),
        made("acn", 0, [0.1, 0.6, 0.9], used=2, images="all"),
        made("residual", 0, [0.1, 0.4, 0.8], used=2, images="all"),
    ]


def test_the_section_by_hand(tmp_path):
    section = transfer.section(results())
    few, many = section.tables
    assert "| vit, acn | 2 | 0.750 ± 0.000 | 0.100 ± 0.000 | 0.600 ± 0.000 | 0.650 ± 0.071 | 2 1 |" in few
    assert "| vit, residual of 1 layers | 1 | 0.750 | 0.100 | 0.500 |  | 1 |" in few
    assert "| vit, acn from scratch | 1 |  | 0.100 | 0.100 | 0.500 | 2 |" in few
    assert many.startswith("| all images a class |")
    assert "| vit, residual | 1 | 0.750 | 0.100 | 0.400 | 0.800 | 2 |" in many
    assert section.verdict == (
        "vit, 10 images a class: the ACN has 0.650 and uses 1.5 of its 2 layers; its lead in points is "
        "-15.0 ± 7.1 over residual, +0.0 ± 14.1 over layerskip, +10.0 over residual of 1 layers, "
        "+20.0 over acn from scratch; against the residual network the claim does not hold; "
        "vit, all images a class: the ACN has 0.900 and uses 2.0 of its 2 layers; its lead in points is "
        "+10.0 over residual; against the residual network the claim holds."
    )
    section.save_picture(tmp_path / "transfer.png")
    assert (tmp_path / "transfer.png").stat().st_size > 1000


def test_outcomes_by_hand():
    assert transfer.outcome([0.1, 0.3]) == "holds"  # .2 ± .141
    assert transfer.outcome([0.1, 0.5]) == "holds"  # .3 ± .283
    assert transfer.outcome([0.0, 0.2]) == "is not decided by 2 seeds"  # .1 ± .141
    assert transfer.outcome([-0.3, -0.1]) == "does not hold"
    assert transfer.outcome([]) == "was not looked at"


def test_results_on_other_targets_are_refused():
    with pytest.raises(store.MixedResultsError, match="must share their target; got digits, letters"):
        transfer.section([*results(), made("acn", 2, [0.1, 0.2, 0.3], used=2, target="letters")])


def test_rivals_alone_are_not_judged():
    assert transfer.section(results()[2:4]).verdict == "No ACN was transferred."


def test_the_annealed_acn_has_a_sentence_of_its_own():
    check_verdict_on_both(transfer.section, results())
