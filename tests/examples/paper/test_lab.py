"""The laboratory of the paper's experiments: networks, tasks, results that are found again, and the rendered page."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from acn_hf import depth_logits
from acn_hf.data.rows import DataError
from tests.support.paper_lab import PAPER, annealed, check_verdict_on_both, counted, load, result, small
from tests.support.programs import run_program

__all__ = ["small"]

networks, relatives, tasks, training = (load(f"lab.{name}") for name in ("networks", "relatives", "tasks", "training"))
store, lab, experiment, rendering = (load(f"lab.{name}") for name in ("store", "laboratory", "experiment", "rendering"))
ROOT = PAPER.parents[1]
render_paper, run_all = load("render_paper"), load("run_all")

IMAGES = {"num_labels": 3, "num_channels": 1, "image_size": 8, "patch_size": 4}
TEXTS = {"num_labels": 3, "vocab_size": 30, "max_position_embeddings": 8}


def built(arch, family="vit", num_layers=3):
    fields = TEXTS if family == "bert" else IMAGES
    return networks.Network(family, arch, num_layers, hidden_size=8).build(fields, seed=0).eval()


def inputs(family="vit"):
    if family == "bert":
        return {"input_ids": torch.randint(0, 30, (2, 8))}
    return {"pixel_values": torch.randn(2, 1, 8, 8)}


def states(model, family="vit"):
    output = model.base_model(**inputs(family), output_hidden_states=True, output_layer_outputs=True)
    return output.hidden_states, output.layer_outputs


def layers(model, family):
    return model.bert.encoder.layer if family == "bert" else model.base_model.layers


def run_layer(layer, state):
    output = layer(state)
    return output[0] if isinstance(output, tuple) else output


@pytest.mark.parametrize("family", networks.MODELS)
@pytest.mark.parametrize("arch", networks.ARCHITECTURES)
def test_every_network_is_read_at_every_depth(family, arch):
    """The logits at full depth are those of the model, whatever stands in the place of the long connection."""
    model, given = built(arch, family), inputs(family)
    logits = depth_logits(model, **given)
    assert logits.shape == (4, 2, 3)
    torch.testing.assert_close(logits[-1], model(**given).logits)


@pytest.mark.parametrize("family", networks.MODELS)
def test_feedforward_has_no_connections(family):
    model = built("feedforward", family)
    found, outputs = states(model, family)
    state = found[0]
    for depth, layer in enumerate(layers(model, family), start=1):
        state = run_layer(layer, state)
        assert torch.equal(found[depth], state)
        assert torch.equal(outputs[depth], state)


def test_the_denseformer_begins_as_the_residual_network():
    torch.manual_seed(0)
    given = inputs()
    dense, residual = built("denseformer"), built("residual")
    residual.load_state_dict(dense.state_dict(), strict=False)
    torch.testing.assert_close(dense(**given).logits, residual(**given).logits)


def test_the_denseformer_averages_all_outputs():
    model = built("denseformer", num_layers=2)
    connection = model.vit.long_connection
    with torch.no_grad():
        connection.averages[1].copy_(torch.tensor([0.25, 0.5]))
        connection.averages[2].copy_(torch.tensor([0.5, -1.0, 2.0]))
        found, _ = states(model)
        x0 = found[0]
        x1 = model.vit.layers[0](x0)
        y1 = 0.25 * x0 + 0.5 * x1
        torch.testing.assert_close(found[1], y1)
        x2 = model.vit.layers[1](y1)
        torch.testing.assert_close(found[2], 0.5 * x0 - x1 + 2 * x2)


def test_the_densenet_maps_the_concatenation():
    model = built("densenet", num_layers=2)
    first, second = model.vit.long_connection.maps
    with torch.no_grad():
        found, _ = states(model)
        x0 = found[0]
        x1 = model.vit.layers[0](x0)
        y1 = torch.cat([x0, x1], dim=-1) @ first.weight.T
        torch.testing.assert_close(found[1], y1)
        x2 = model.vit.layers[1](y1)
        torch.testing.assert_close(found[2], torch.cat([x0, x1, x2], dim=-1) @ second.weight.T)


def test_layerskip_leaves_out_layers_while_training_alone():
    model, given = built("layerskip"), inputs()
    residual = built("residual")
    residual.load_state_dict(model.state_dict())
    assert torch.equal(model(**given).logits, residual(**given).logits)
    model.vit.long_connection.largest = 1.0  # the last of three layers is always left out, the first never
    model.train()
    outputs = model.vit(**given, output_hidden_states=True).hidden_states
    assert torch.equal(outputs[3], outputs[2])
    assert not torch.equal(outputs[1], outputs[0])


@pytest.mark.parametrize("arch", ["denseformer", "densenet", "hybrid"])
def test_what_a_relative_adds_is_trained(arch):
    model = built(arch)
    model(**inputs(), labels=torch.tensor([0, 1])).loss.backward()
    added = [p for name, p in model.named_parameters() if "long_connection" in name or "residual_scale" in name]
    assert added
    assert any(parameter.grad.abs().sum() > 0 for parameter in added)


def test_an_annealed_network_begins_as_a_residual_one_and_ends_as_an_acn(small, monkeypatch):
    network, scales = small.network("vit", "acn-annealed"), []
    build = networks.Network.build

    def watched(self, *arguments):
        model = build(self, *arguments)
        model.register_forward_pre_hook(
            lambda *_: scales.append(model.config.residual_scale) if model.training else None
        )
        return model

    monkeypatch.setattr(networks.Network, "build", watched)
    small.size = replace(small.size, num_epochs=10)
    trained = small.trained(network, 0)
    assert (scales[0], scales[-1]) == (1.0, 0.0)
    assert scales == sorted(scales, reverse=True)
    assert len(set(scales)) > 2
    assert trained.model.config.residual_scale == 0.0
    assert trained.model.config.attention_residual
    assert trained.model.config.initializer_range == pytest.approx(0.0693, rel=1e-3)


def test_unknown_networks_are_refused():
    with pytest.raises(ValueError, match=r"--arch must be any of acn, .*; got 'highway'"):
        networks.Network("vit", "highway", 2)
    with pytest.raises(ValueError, match="family must be one of vit, mixer, bert; got 'cnn'"):
        networks.Network("cnn", "acn", 2)


def test_layerskip_weights_by_hand():
    """Three layers: 0, .2 * 1, .2 * 3 and 2 + .2 * 3, divided by their sum of 3.4."""
    assert training.layerskip_weights(3) == pytest.approx([0, 0.2 / 3.4, 0.6 / 3.4, 2.6 / 3.4])


def test_digits_are_grey_images_of_one_size():
    task = tasks.load_task(tasks.TaskSpec("digits", "image"))
    assert (len(task.train), len(task.test), task.num_labels) == (1200, 597, 10)
    row = task.train[0]
    assert row["pixel_values"].shape == (1, 28, 28)
    assert -1 <= row["pixel_values"].min() < row["pixel_values"].max() <= 1


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_images_of_a_folder_keep_their_channels(tmp_path, mode):
    for split in ("train", "test"):
        for label, level in (("dark", 0), ("light", 255)):
            (tmp_path / split / label).mkdir(parents=True)
            Image.new(mode, (32, 32), level if mode == "L" else (level, 0, 0)).save(tmp_path / split / label / "1.png")
    task = tasks.load_task(tasks.TaskSpec(str(tmp_path), "image"))
    assert task.fields["num_channels"] == len(mode)
    dark, light = (row["pixel_values"] for row in task.test)
    assert dark.shape == (len(mode), 28, 28)
    assert (dark == -1).all()
    assert (light[0] == 1).all()
    assert (light[1:] == -1).all()


def test_a_part_of_the_classes_is_renumbered():
    whole = tasks.load_task(tasks.TaskSpec("digits", "image"))
    part = tasks.load_task(tasks.TaskSpec("digits", "image", classes=(3, 7), num_test=20))
    kept = [label for label in whole.train["labels"][:].tolist() if label in (3, 7)]
    assert part.train["labels"][:].tolist() == [{3: 0, 7: 1}[label] for label in kept]
    assert (part.num_labels, len(part.test)) == (2, 20)
    first = whole.train["labels"][:].tolist().index(7)
    assert any(torch.equal(whole.train[first]["pixel_values"], row["pixel_values"]) for row in part.train)


def test_few_examples_of_each_class():
    task = tasks.load_task(tasks.TaskSpec("digits", "image", per_class=5))
    assert np.bincount(task.train["labels"][:].numpy()).tolist() == [5] * 10


def test_bad_parts_are_refused():
    with pytest.raises(DataError, match=r"classes must lie in \[0, 9\] for digits; got \[3, 10\]"):
        tasks.load_task(tasks.TaskSpec("digits", "image", classes=(3, 10)))
    with pytest.raises(ValueError, match="must divide the number of classes, 10; got 3"):
        tasks.class_tasks(tasks.TaskSpec("digits", "image"), 3)
    with pytest.raises(ValueError, match="every class must have 500 examples; class 0 has"):
        tasks.load_task(tasks.TaskSpec("digits", "image", per_class=500))


def test_texts_come_from_a_folder_of_tables(tmp_path):
    for name, count in (("train", 30), ("validation", 6)):
        rows = [f"a {word} film,{label}" for label, word in enumerate(("bad", "good"))] * (count // 2)
        (tmp_path / f"{name}.csv").write_text("\n".join(["text,label", *rows]))
    task = tasks.load_task(tasks.TaskSpec(str(tmp_path), "text", num_train=10))
    assert (len(task.train), len(task.test), task.num_labels) == (10, 6, 2)
    batch = task.collate([task.train[0], task.train[1]])
    assert batch["input_ids"].shape == (2, 32)
    assert batch["labels"].tolist() == [0, 1]


def test_data_without_a_test_split_are_refused(tmp_path):
    (tmp_path / "train.csv").write_text("text,label\ngood,1\nbad,0\n")
    with pytest.raises(DataError, match="must have a train and a test split; it has train"):
        tasks.load_task(tasks.TaskSpec(str(tmp_path), "text"))


def test_statistics_by_hand():
    assert rendering.mean([0.1, 0.2, 0.6]) == pytest.approx(0.3)
    assert rendering.spread([1.0, 3.0]) == pytest.approx(2**0.5)
    assert rendering.spread([0.5]) == 0
    assert rendering.cell([0.1, 0.2, 0.6]) == "0.300 ± 0.265"
    assert rendering.cell([0.5]) == "0.500"
    assert rendering.cell([]) == ""
    assert lab.effective_depth([0.1, 0.795, 0.794, 0.8]) == 1
    assert lab.effective_depth([0.1, 0.79, 0.81, 0.8]) == 2
    assert lab.effective_depth([0.9, 0.1, 0.2]) == 0
    runs = [result({"seed": seed}, {"x": [seed, 10 * seed]}) for seed in (1, 2)]
    assert rendering.series(runs, "x") == [[1, 2], [10, 20]]


def test_the_page_is_rendered_between_its_marks(tmp_path):
    one, _ = counted(2)
    results = [result({"seed": s}, {"accuracies": [0.1, 0.5 + s / 10]}) for s in (0, 1)]
    text = render_paper.render(one, results, None, "paper")
    assert "| 0.100 ± 0.000 | 0.550 ± 0.071 |" in text
    assert "**It held.**" in text
    assert (
        "2 runs, 2 seeds, data digits; commit abc1234; acn_hf 0, torch 2, transformers 5; a CPU, 2 minutes in all"
        in text
    )
    page = f"before\n{render_paper.BEGIN}\nold\n{render_paper.END}\nafter\n"
    assert render_paper.page_with(page, "new") == f"before\n{render_paper.BEGIN}\n\nnew\n{render_paper.END}\nafter\n"
    with pytest.raises(ValueError, match="the page must hold the lines"):
        render_paper.page_with("nothing", "new")


@pytest.mark.parametrize(
    ("places", "said"),
    [
        ([[], ["old"], ["old"]], "commit abc1234, networks trained at old; .* 3 minutes in all, beside that training."),
        ([[], ["abc1234"]], "commit abc1234; .* 2 minutes in all."),
        ([[]], "commit abc1234; .* 1 minutes in all."),
    ],
    ids=str,
)
def test_networks_that_were_trained_before_are_named_and_their_training_is_not_counted(places, said):
    runs = [result({"seed": seed}, {}, trained_at=trained_at) for seed, trained_at in enumerate(places)]
    assert re.search(f"{said}$", render_paper.circumstances(runs))


def test_the_page_is_what_the_results_say():
    """Whoever changes a result, a table or a sentence renders the page anew."""
    page = (ROOT / "docs" / "paper.md").read_text()
    sections = [
        render_paper.render(one, store.Store(PAPER / "results", one.name).results(), None, "paper")
        for one in run_all.experiments()
    ]
    assert len(sections) == 11
    assert page == render_paper.page_with(page, "\n".join(sections))
    for name in re.findall(r"\]\((paper/\w+\.png)\)", page):
        assert (ROOT / "docs" / name).exists()


def test_sections_of_accuracies_by_hand(tmp_path):
    """Three families of runs, whose verdicts are computed: 3 of 4 layers left out; 1, then 2 layers used; .8 with 2."""
    settings = {"family": "vit", "seed": 0}
    runs = [
        result({**settings, "arch": arch, "depth": 4}, {"accuracies": [0.1, *rest], "effective_depth": depth})
        for arch, rest, depth in (("acn", [0.7] * 4, 1), ("residual", [0.2, 0.4, 0.6, 0.8], 4))
    ]
    made = load("auto_compression").section(runs)
    assert made.verdict == (
        "vit: the claim held: the ACN can leave out 75% of its layers without loss, the residual network 0%; the "
        "accuracy is 0.700 against 0.800."
    )
    assert "| vit, acn | 1 | 0.100 | 0.700 | 0.700 | 0.700 | 0.700 | 1 |" in made.tables[0]
    check_verdict_on_both(load("auto_compression").section, runs)
    made.save_picture(tmp_path / "paper" / "one.png")
    assert (tmp_path / "paper" / "one.png").stat().st_size > 1000

    runs = [
        result({**settings, "arch": arch, "classes": n}, {"accuracies": [0.1, 0.8, 0.9], "effective_depth": depth})
        for arch, n, depth in (("acn", 10, 2), ("acn", 2, 1), ("residual", 2, 2), ("residual", 10, 2))
    ]
    made = load("task_difficulty").section(runs)
    assert made.verdict == (
        "vit: the claim held: with acn the depth used rises (1.0 layers for 2 classes, 2.0 layers for 10 classes), "
        "with residual the depth used does not rise (2.0 layers for 2 classes, 2.0 layers for 10 classes)."
    )
    made.save_picture(tmp_path / "two.png")

    values = {"accuracies": [0.1, 0.5, 0.8], "effective_depth": 2, "num_parameters": 1234, "scales": [0.25, 0.75]}
    others = {**values, "accuracies": [0.1, 0.7, 0.7], "effective_depth": 1}
    runs = [result({**settings, "arch": "hybrid"}, values), result({**settings, "arch": "acn"}, others)]
    made = load("residual_relatives").section(runs)
    assert made.verdict == (
        "vit: the claim held in part: the ACN uses the fewest layers and is 0.100 behind hybrid "
        "(hybrid 0.800 with 2.0 layers used, acn 0.700 with 1.0 layers used)."
    )
    assert "| vit | 0.25 | 0.75 |" in made.tables[1]
    made.save_picture(tmp_path / "three.png")
    better = result({**settings, "arch": "residual-scaled"}, {**values, "accuracies": [0.1, 0.2, 0.6]})
    assert load("residual_relatives").section([*runs, *annealed(runs), better]).verdict == (
        "vit: the claim held in part: the ACN uses the fewest layers and is 0.100 behind hybrid, and the claim held: "
        "the annealed ACN uses the fewest layers and has the best accuracy (hybrid 0.800 with 2.0 layers used, "
        "acn 0.700 with 1.0 layers used, acn-annealed 0.700 with 1.0 layers used, "
        "residual-scaled 0.600 with 2.0 layers used)."
    )


@pytest.mark.parametrize("name", ["auto_compression", "task_difficulty", "residual_relatives"])
def test_the_experiments_run(small, name):
    small.arguments.arch = ["residual", "hybrid"] if name == "residual_relatives" else ["residual"]
    one = load(name).EXPERIMENT
    results = experiment.run(one, small)
    assert all(0 <= value <= 1 for found in results for value in found.values["accuracies"])
    assert one.section(small.store(name).results()).markdown().startswith("## ")


def test_every_experiment_has_its_script():
    scripts = {path.stem for path in PAPER.glob("*.py")} - {"run_all", "render_paper"}
    assert set(run_all.NAMES) == scripts
    assert [one.name for one in run_all.experiments()] == list(run_all.NAMES)


def test_what_is_wrong_is_said_in_one_line(tmp_path):
    arguments = ["--quick", "--arch", "highway", "--results_dir", str(tmp_path)]
    with pytest.raises(SystemExit, match=r"^error: --arch must be any of acn, .*; got 'highway'$"):
        experiment.main(load("auto_compression").EXPERIMENT, arguments)


@pytest.mark.slow
def test_all_experiments_run_one_after_another(tmp_path, monkeypatch):
    """On fewer examples than --quick has, in as few passes as there can be."""
    monkeypatch.setattr(lab, "QUICK", replace(lab.QUICK, num_train=200, num_test=100, num_epochs=1))
    monkeypatch.setattr(load("continual_learning"), "QUICK_EPOCHS", 1)
    monkeypatch.setattr(load("low_data"), "QUICK_EPOCHS", 1)
    transfer = load("transfer")
    few = {amount: replace(recipe, num_epochs=4) for amount, recipe in transfer.AMOUNTS.items()}
    monkeypatch.setattr(transfer, "AMOUNTS", few)  # of which a quick run has a quarter
    monkeypatch.setattr(load("pruning"), "GRADUAL", (0.1,))
    monkeypatch.setattr(load("cost"), "REPEATS", 3)
    places = ("--results_dir", tmp_path / "results", "--work_dir", tmp_path / "models")
    done = run_program(PAPER / "run_all.py", "--quick", *places)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n## ") == len(run_all.NAMES)
