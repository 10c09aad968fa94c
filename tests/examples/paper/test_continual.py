"""Continual learning: its runs on real digits, and its section from results made by hand."""

import dataclasses

import matplotlib
import pytest
import torch

from tests.support.paper_lab import check_verdict_on_both, laboratory, load, result

continual, experiment = load("continual_learning"), load("lab.experiment")


@pytest.fixture
def lab(tmp_path):
    """A small laboratory with the arguments of the script."""

    def build(**more):
        lab = laboratory(tmp_path, seeds=[3])
        lab.arguments = continual.ContinualArguments(**vars(lab.arguments), **more)
        lab.size = dataclasses.replace(lab.size, num_train=40, num_test=20)
        return lab

    return build


def test_the_runs_learn_task_after_task(lab, monkeypatch):
    monkeypatch.setattr(continual, "QUICK_DEPTHS", (1,))
    monkeypatch.setattr(continual, "QUICK_EPOCHS", 1)
    lab = lab(methods=["naive", "SI-100"])
    results = experiment.run(continual.EXPERIMENT, lab)
    assert [(run.settings["method"], run.settings["arch"]) for run in results] == [
        ("naive", "acn"),
        ("naive", "residual"),
        ("naive", "acn-annealed"),
        ("naive", "residual-scaled"),
        ("SI-100", "acn"),
        ("SI-100", "residual"),
        ("SI-100", "acn-annealed"),
        ("SI-100", "residual-scaled"),
    ]
    for run in results:
        matrix = run.values["matrix"]
        assert [len(row) for row in matrix] == [1, 2, 3, 4, 5]
        assert run.values["average_accuracy"] == pytest.approx(sum(matrix[-1]) / 5)
        assert run.values["learned"] == pytest.approx(sum(row[-1] for row in matrix) / 5)
        assert run.values["average_forgetting"] == continual.average_forgetting(matrix)
    section = continual.EXPERIMENT.section(lab.store("continual_learning").results())
    assert section.tables[0].count("| SI-100 | 1 | 5 | 1 |") == 4


def learned(lab, strength, arch="acn", epochs=6):
    tasks = continual.tasks_of(lab.task("mixer", num_train=200, num_test=None), 5)
    model = lab.network("mixer", arch, 1).build(continual.load_task(tasks[0]).fields, seed=0)
    first = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    matrix = continual.learn_in_turn(model, tasks[:2], strength, epochs, seed=0)
    return model, first, matrix


def test_a_penalty_without_strength_changes_nothing_and_a_large_one_holds_the_layers(lab):
    naive, first, matrix = learned(lab(), None)
    assert min(row[-1] for row in matrix) > 0.9  # both were learned
    same, _, again = learned(lab(), 0.0)
    assert again == matrix
    for name, weight in naive.named_parameters():
        torch.testing.assert_close(weight, same.get_parameter(name), rtol=0, atol=0)
    held, _, _ = learned(lab(), 1e4)
    moved = [
        sum((model.get_parameter(name) - weight).norm() for name, weight in first.items() if "classifier" not in name)
        for model in (naive, held)
    ]
    assert moved[1] < moved[0]


def test_the_residual_scale_falls_while_the_first_task_is_learned(lab, monkeypatch):
    """Every step reads the scale that `ResidualAnnealingCallback` says, and later tasks those of the ACN."""
    lab, scales = lab(), []
    tasks = continual.tasks_of(lab.task("mixer", num_train=200, num_test=None), 5)
    network = lab.network("mixer", "acn-annealed", 1)
    model = network.build(continual.load_task(tasks[0]).fields, seed=0)
    model.register_forward_pre_hook(
        lambda model, _: scales.append(model.config.residual_scale) if model.training else None
    )
    continual.learn_in_turn(model, tasks[:2], None, 2, 0, network.annealing())
    steps = len(scales) // 2
    assert scales[:steps] == [network.annealing().scale_at(step + 1, steps, 1) for step in range(steps)]
    assert (scales[0], min(scales[:steps]), set(scales[steps:])) == (1.0, 0.0, {0.0})
    layer = model.base_model.layers[0].short_connection
    assert (layer.scale, layer.attention_scale) == (0.0, 1.0)


def test_every_task_has_a_head_of_its_own(lab, monkeypatch):
    heads = []
    monkeypatch.setattr(continual, "accuracy", lambda model, head, task: heads.append((head, task.classes)) or 0.5)
    learned(lab(), None, epochs=1)
    (first, classes), (again, _), (second, others) = heads
    assert first is again
    assert first is not second
    assert (classes, others) == ((0, 1), (2, 3))
    assert not torch.equal(first.weight, second.weight)


def test_accuracy_is_that_of_the_head(lab):
    task = continual.tasks_of(lab().task("mixer", num_test=None), 5)[0]
    model = lab().network("mixer", "residual", 1).build(continual.load_task(task).fields, seed=0).eval()
    head = torch.nn.Linear(64, 2)
    with torch.no_grad():
        head.weight.zero_()
        head.bias.copy_(torch.tensor([0.0, 1.0]))
    ones = continual.rows(task, "test")["labels"].float().mean().item()
    assert 0 < ones < 1
    assert continual.accuracy(model, head, task) == pytest.approx(ones)


def test_parts_are_no_larger_than_the_task(lab):
    whole = lab().task("mixer")
    parts = continual.tasks_of(whole, 2)
    assert [part.classes for part in parts] == [(0, 1, 2, 3, 4), (5, 6, 7, 8, 9)]
    assert {(part.num_train, part.num_test) for part in parts} == {(40, 20)}
    parts = continual.tasks_of(dataclasses.replace(whole, num_train=15_000, num_test=None), 2)
    assert {(part.num_train, part.num_test) for part in parts} == {(2000, 1000)}


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        ({"num_tasks": 3}, "the number of tasks must divide the number of classes, 10; got 3"),
        ({"num_tasks": 10}, "--num_tasks must leave at least 2 classes to each task; got 10 for 10 classes"),
        ({"num_tasks": 1}, "--num_tasks must be at least 2, for one to be forgotten; got 1"),
        ({"methods": ["naive", "EWC"]}, "--methods must be any of naive, SI, SI-100; got 'EWC'"),
    ],
)
def test_what_is_refused(lab, asked, text):
    with pytest.raises(ValueError, match=text):
        continual.jobs(lab(**asked))


def test_the_command_line_refuses_in_one_line(tmp_path):
    folders = ["--results_dir", str(tmp_path), "--work_dir", str(tmp_path)]
    with pytest.raises(SystemExit, match=r"^error: the number of tasks must divide the number of classes, 10; got 4$"):
        experiment.main(continual.EXPERIMENT, ["--quick", "--num_tasks", "4", *folders])


def made(method, arch, depth, seed, accuracy, forgetting):
    last = [accuracy - 0.1, accuracy + 0.1]
    values = {
        "matrix": [[last[0] + forgetting], last],
        "average_accuracy": accuracy,
        "average_forgetting": forgetting,
        "learned": (last[0] + forgetting + last[1]) / 2,
    }
    settings = {"family": "mixer", "method": method, "arch": arch, "depth": depth, "tasks": 2, "seed": seed}
    return result(settings, values)


def by_hand():
    table = {
        ("SI", "acn", 5): [(0.80, 0.02), (0.80, 0.02)],  # forgets less than naive, by more than .014
        ("SI", "residual", 5): [(0.80, 0.02), (0.80, 0.02)],
        ("naive", "acn", 5): [(0.80, 0.10), (0.82, 0.12)],
        ("naive", "residual", 5): [(0.70, 0.20), (0.72, 0.22)],
        ("naive", "acn", 10): [(0.60, 0.10), (0.60, 0.30)],
        ("naive", "residual", 10): [(0.70, 0.25), (0.70, 0.25)],
    }
    return [made(*key, seed, *pair) for key, pairs in table.items() for seed, pair in enumerate(pairs)]


def test_the_section_of_results_made_by_hand():
    section = continual.section(by_hand())
    assert section.here.endswith("all tasks but the last. Synaptic Intelligence: SI of strength 1.")
    rows = section.tables[0].splitlines()
    assert rows[2] == (
        "| mixer, acn | naive | 5 | 2 | 2 | 0.810 ± 0.014 | 0.110 ± 0.014 | 0.865 ± 0.021 | 0.710 0.910 |"
    )
    assert [row.split(" | ")[1:3] for row in rows[2:]] == [
        *[["naive", "5"], ["naive", "10"], ["naive", "5"], ["naive", "10"]],
        *[["SI", "5"], ["SI", "5"]],
    ]
    naive, si, remembered, note = section.verdict.split(". ", 3)
    # With 10 layers the seeds of the ACN spread by .141, and .20 is only .05 from .25.
    assert naive == (
        "mixer, 2 tasks, naive: the claim held in part, the ACN forgets clearly less at 1 of 2 depths and clearly more "
        "at 0 (0.110 against 0.210 with 5 layers; 0.200 against 0.250 with 10 layers); its average accuracy is clearly "
        "higher at 1 and clearly lower at 1; its best is 0.810 with 5 layers, that of the residual network of 5 layers "
        "0.710"
    )
    assert si.startswith("mixer, 2 tasks, SI: the claim did not hold, the ACN forgets clearly less at 0 of 1 depths")
    assert remembered == (
        "mixer, 2 tasks: in 2 of 2 networks clearly less is forgotten with SI than without, in 0 clearly more"
    )
    assert note == "Clearly: by more than the spread over seeds."


def test_a_claim_that_held_and_one_that_turned_round():
    ours, theirs = made("naive", "acn", 5, 0, 0.7, 0.1), made("naive", "residual", 5, 0, 0.7, 0.2)
    assert "the claim held, the ACN" in continual.section([ours, theirs]).verdict
    ours.values["average_forgetting"] = 0.3
    verdict = continual.section([ours, theirs]).verdict
    assert "the claim did not hold" in verdict
    assert "clearly more at 1 (0.300 against 0.200 with 5 layers)" in verdict
    assert continual.section([ours]).verdict == "There is nothing to compare with."
    assert continual.section([ours]).here.endswith("all tasks but the last.")
    strong = made("SI-100", "acn", 5, 0, 0.7, 0.4)
    assert continual.section([ours, strong]).verdict == (
        "mixer, 2 tasks: in 0 of 1 networks clearly less is forgotten with SI-100 than without, in 1 clearly more. "
        "Clearly: by more than the spread over seeds."
    )
    assert continual.section([strong]).verdict == "There is nothing to compare with."


def test_the_picture_has_a_line_for_each_network_and_method():
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots()
    continual.section(by_hand()).draw(axes)
    lines = {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.get_lines()}
    assert len(lines) == 4
    assert axes.get_xticks().tolist() == [5, 10]
    assert lines["mixer, acn, naive"] == ([5, 10], [pytest.approx(0.11), pytest.approx(0.2)])
    pyplot.close(figure)


def test_the_annealed_acn_has_a_sentence_of_its_own():
    naive = [run for run in by_hand() if run.settings["method"] == "naive"]
    check_verdict_on_both(continual.section, naive)
