"""Arguments of the scripts: flags, settings files and the recipes of the paper."""

import json
from dataclasses import dataclass

import pytest
import torch
from transformers import (
    TrainingArguments,
)

from acn_hf.scripts.arguments import (
    RECIPES,
    DepthArguments,
    ModelArguments,
    RecipeArguments,
    parse_arguments,
    shown_setting,
)
from acn_hf.scripts.data_arguments import TextDataArguments

KINDS = (TextDataArguments, ModelArguments, RecipeArguments, TrainingArguments)


def parse(*argv, kinds=KINDS, recipes=tuple(RECIPES)):
    return parse_arguments(kinds, "What it does.", [str(argument) for argument in argv], recipes)


def test_defaults_that_differ_from_the_trainers(tmp_path):
    *_, training = parse("--output_dir", tmp_path)
    assert training.report_to == []
    assert training.dataloader_pin_memory == torch.cuda.is_available()
    assert parse("--output_dir", tmp_path, "--dataloader_pin_memory", "True")[-1].dataloader_pin_memory


@pytest.mark.parametrize("suffix", [".json", ".yaml"])
def test_a_config_file_stands_for_its_flags_and_later_flags_win(tmp_path, suffix):
    settings = {"output_dir": "out", "learning_rate": "1e-3", "do_train": True, "logging_steps": 5, "run_name": None}
    path = tmp_path / f"settings{suffix}"
    lines = [f"{name}: {'null' if value is None else value}" for name, value in settings.items()]
    path.write_text(json.dumps(settings) if suffix == ".json" else "\n".join(lines))
    *_, training = parse(path)
    assert (training.output_dir, training.learning_rate, training.do_train) == ("out", 1e-3, True)
    assert parse(path, "--logging_steps", 7)[-1].logging_steps == 7


def test_a_config_file_that_holds_no_settings_is_refused(tmp_path):
    (tmp_path / "list.json").write_text("[1, 2]")
    with pytest.raises(ValueError, match="must hold names and values of arguments; got list"):
        parse(tmp_path / "list.json")
    (tmp_path / "bad.yaml").write_text("a: [1")
    with pytest.raises(ValueError, match=r"bad\.yaml cannot be read"):
        parse(tmp_path / "bad.yaml")


def test_an_unknown_setting_is_refused(tmp_path, capsys):
    (tmp_path / "settings.json").write_text('{"learning_rat": 1}')
    with pytest.raises(SystemExit):
        parse(tmp_path / "settings.json", "--output_dir", tmp_path)
    assert "learning_rat" in capsys.readouterr().err


def test_a_recipe_sets_what_the_paper_sets(tmp_path):
    text, model, _, training = parse("--recipe", "ac-bert", "--output_dir", tmp_path, "--use_cpu", "True")
    assert (text.max_seq_length, model.model_type) == (128, "acn_bert")
    assert training.per_device_train_batch_size * training.gradient_accumulation_steps == 2048
    assert (training.learning_rate, training.warmup_steps, training.max_grad_norm) == (1e-3, 0.5, 0.5)
    assert (training.adam_beta1, training.adam_beta2, training.adam_epsilon) == (0.9, 0.98, 1e-9)
    assert training.get_warmup_steps(100) == 50
    assert RECIPES["ac-bert"]["num_train_epochs"] == 2 * RECIPES["bert"]["num_train_epochs"]


def test_what_is_given_wins_over_the_recipe(tmp_path):
    own = ("--learning_rate", 5e-5, "--per_device_train_batch_size", 32, "--config_overrides", "hidden_size=32")
    _, model, _, training = parse("--recipe", "ac-bert", "--output_dir", tmp_path, *own)
    assert (training.learning_rate, training.gradient_accumulation_steps) == (5e-5, 64)
    assert model.config_overrides == "hidden_dropout_prob=0.0,attention_probs_dropout_prob=0.0,hidden_size=32"
    *_, training = parse("--recipe", "ac-bert", "--output_dir", tmp_path, "--gradient_accumulation_steps", 2)
    assert training.gradient_accumulation_steps == 2


def test_a_recipe_counts_the_devices(monkeypatch):
    @dataclass
    class Training:
        per_device_train_batch_size: int = 8
        gradient_accumulation_steps: int = 1

    monkeypatch.setenv("WORLD_SIZE", "8")
    _, training = parse("--recipe", "vit", kinds=(RecipeArguments, Training))
    assert (training.per_device_train_batch_size, training.gradient_accumulation_steps) == (32, 1)


def test_a_batch_that_does_not_divide_the_recipes_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"must divide the 256 of the recipe, or gradient_.*; got 100"):
        parse("--recipe", "vit", "--output_dir", tmp_path, "--per_device_train_batch_size", 100)


def test_the_annealed_recipe_fits_any_batch_and_any_checkpoint(tmp_path):
    batch = ("--per_device_train_batch_size", 100, "--learning_rate", 5e-4)
    kinds = (ModelArguments, DepthArguments, RecipeArguments, TrainingArguments)
    model, depth, _, training = parse("--recipe", "annealed", "--output_dir", tmp_path, *batch, kinds=kinds)
    assert (depth.residual_annealing, depth.residual_annealing_begin) == ([1.0, 0.0], 0.1)
    assert (model.attention_residual, model.initializer_range, model.model_type) == (True, "auto", None)
    assert (training.per_device_train_batch_size, training.gradient_accumulation_steps) == (100, 1)
    assert (training.learning_rate, training.get_warmup_steps(100)) == (5e-4, 10)
    _, model, _, _ = parse("--recipe", "annealed", "--output_dir", tmp_path, "--model_name_or_path", tmp_path)
    assert model.initializer_range is None


def test_the_recipe_of_masked_words_supervises_every_depth_alike(tmp_path):
    kinds = (ModelArguments, DepthArguments, RecipeArguments, TrainingArguments)
    model, depth, _, _ = parse("--recipe", "masked-words", "--output_dir", tmp_path, kinds=kinds)
    assert (model.model_type, model.attention_residual, depth.weights) == ("acn_bert", False, "uniform")
    own = ("--supervision", "none", "--attention_residual", "True")
    model, depth, _, _ = parse("--recipe", "masked-words", "--output_dir", tmp_path, *own, kinds=kinds)
    assert (model.attention_residual, depth.weights) == (True, "full")


def test_a_recipe_of_another_script_is_refused(tmp_path):
    with pytest.raises(ValueError, match="the recipe must be one of ac-bert, bert here; got vit"):
        parse("--recipe", "vit", "--output_dir", tmp_path, recipes=("ac-bert", "bert"))


def test_help_says_what_each_recipe_sets(capsys):
    with pytest.raises(SystemExit):
        parse("--help")
    shown = " ".join(capsys.readouterr().out.split())
    for recipe, settings in RECIPES.items():
        for name, value in settings.items():
            assert f"{name} {shown_setting(value)}" in shown, f"{recipe} does not say {name}"
    assert "(default: 5e-05)" in shown


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--supervision_depths", 2], "--supervision_depths 2 needs --supervision linear or uniform"),
        (["--supervision_until", 0.5], r"--supervision_until 0\.5 needs --supervision linear or uniform"),
        (["--lower_is_better", "True"], "--lower_is_better is for a --depth_metric of your own; got None"),
        (["--lower_is_better", "True", "--depth_metric", "mse"], "--lower_is_better is for a .* of your own; got mse"),
        (["--shed_every", 5], "--shed_every and --shed_examples need --shed_tolerance"),
        (["--shed_examples", 5], "--shed_every and --shed_examples need --shed_tolerance"),
        (["--gradient_flow_examples", 5], "--gradient_flow_examples needs --gradient_flow_every"),
        (["--gradient_flow_every", 0], "--gradient_flow_every must be at least 1; got 0"),
        (
            ["--gradient_flow_every", 5, "--gradient_flow_examples", 0],
            "--gradient_flow_examples must be at least 1; got 0",
        ),
        (["--residual_annealing", 1.0], r"--residual_annealing must be two numbers, start and end; got \[1\.0\]"),
    ],
)
def test_flags_that_would_do_nothing_are_refused(tmp_path, flags, message):
    with pytest.raises(ValueError, match=message):
        parse("--output_dir", tmp_path, *flags, kinds=(DepthArguments, TrainingArguments))


@pytest.mark.parametrize("flags", [("--bf16",), ("--bf16_full_eval",), ("--bf16", "--use_cpu")], ids=" ".join)
def test_bfloat16_needs_no_second_flag_on_a_cpu(tmp_path, monkeypatch, flags):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    (training,) = parse_arguments([TrainingArguments], None, ["--output_dir", str(tmp_path), *flags])
    assert training.use_cpu
    assert training.bf16 or training.bf16_full_eval
    (training,) = parse_arguments([TrainingArguments], None, ["--output_dir", str(tmp_path)])
    assert not training.use_cpu


def test_an_accelerator_is_used_for_bfloat16(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(TrainingArguments, "__post_init__", lambda self: None)  # which looks for the real one
    (training,) = parse_arguments([TrainingArguments], None, ["--output_dir", str(tmp_path), "--bf16"])
    assert not training.use_cpu
