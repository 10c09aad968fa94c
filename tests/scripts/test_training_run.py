"""What the scripts share: building a model, resuming a run, data, and depth while training."""

import errno
import json
import shutil
import signal
from unittest.mock import Mock

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import (
    AutoModelForImageClassification,
    AutoModelForMaskedImageModeling,
    AutoModelForSequenceClassification,
    Trainer,
    TrainerCallback,
    TrainerState,
    ViTConfig,
    ViTForImageClassification,
)

from acn_hf import AcnViTForImageClassification, DepthProfile, GradientFlowHistory, truncate
from acn_hf.data import train_tokenizer
from acn_hf.data.rows import DataError
from acn_hf.scripts.arguments import (
    DepthArguments,
    ModelArguments,
)
from acn_hf.scripts.models import build_model, label_fields, vocabulary_fields
from acn_hf.scripts.task_metric import metric_functions
from acn_hf.scripts.training_run import last_checkpoint, run, run_script, start
from tests.support.any_models import any_model
from tests.support.families import by_name
from tests.support.training import arguments, data, same_weights, weights

VIT = "image_size=8,patch_size=4,hidden_size=16,intermediate_size=32,num_attention_heads=2,num_hidden_layers=4"
DIGITS = label_fields([str(digit) for digit in range(10)])

# --- building


def build_vit(**options):
    return build_model(AutoModelForImageClassification, ModelArguments(**options), default_type="acn_vit")


def test_a_new_model_has_what_was_asked_for_above_what_the_data_say():
    asked = ModelArguments(config_overrides=VIT, residual_scale=0.5, attention_residual=True, readout="sum")
    options = {"default_type": "acn_vit", "from_data": {"num_channels": 1, "image_size": 28, **DIGITS}}
    model = build_model(AutoModelForImageClassification, asked, **options)
    assert type(model) is AcnViTForImageClassification
    config = model.config
    assert (config.image_size, config.num_channels, config.num_labels, config.num_hidden_layers) == (8, 1, 10, 4)
    assert (config.residual_scale, config.attention_residual, config.readout) == (0.5, True, "sum")
    assert config.encoder_stride == config.patch_size == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"config_overrides": "width=3"}, "key width isn't in the original config"),
        ({"config_overrides": "width"}, "--config_overrides must read a=1,b=2; got width"),
        ({"residual_scale": 2.0}, r"residual_scale must lie in \[0, 1\]; got 2"),
        ({"model_type": "vit", "residual_scale": 0.5}, "only an ACN takes --residual_scale; got a vit"),
        (
            {"model_type": "vit", "num_hidden_layers": 1, "residual_scale": 0.5, "readout": "sum"},
            "only an ACN takes --readout, --residual_scale; got a vit",
        ),
        ({"model_type": "no_such"}, "no_such"),
        ({"initializer_range": "large"}, "--initializer_range must be auto or a number above 0; got large"),
        ({"initializer_range": "0"}, "--initializer_range must be auto or a number above 0; got 0"),
        ({"initializer_range": "inf"}, "--initializer_range must be auto or a number above 0; got inf"),
        (
            {"model_type": "segformer", "initializer_range": "auto"},
            "auto needs one hidden_size, which a segformer does not",
        ),
        ({"model_type": "resnet", "initializer_range": "auto"}, "a field that the config of a resnet does not have"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_no_model_has_is_refused(options, message):
    with pytest.raises((ValueError, StrictDataclassError), match=message):
        build_vit(**options)


@pytest.mark.parametrize("model_type", ["acn_vit", "vit", "acn_mixer"])
@pytest.mark.parametrize(("asked", "expected"), [("auto", 0.08), ("0.1", 0.1), (None, 0.02)])
def test_first_weights_follow_the_width(model_type, asked, expected):
    """At a width of 48, of which 768 is the square of 4."""
    fields = "image_size=32,patch_size=2,hidden_size=48,num_hidden_layers=1"
    heads = "" if model_type == "acn_mixer" else ",num_attention_heads=2"
    model = build_vit(model_type=model_type, config_overrides=fields + heads, initializer_range=asked)
    assert model.config.initializer_range == pytest.approx(expected)
    matrix = next(
        value for name, value in model.base_model.named_parameters() if value.ndim == 2 and max(value.shape) > 1000
    )
    assert matrix.std().item() == pytest.approx(expected, rel=0.05)


def test_first_weights_are_those_of_a_new_model(saved):
    with pytest.raises(
        ValueError, match=r"--initializer_range is for the first weights of a new model; those of .*saved"
    ):
        load(saved, initializer_range="auto")
    build_vit(config_overrides=VIT, initializer_range="auto").save_pretrained(saved)
    resume = {"default_type": "acn_vit", "checkpoint": str(saved)}
    for asked in ("auto", None):
        resumed = ModelArguments(config_overrides=VIT, initializer_range=asked)
        model = build_model(AutoModelForImageClassification, resumed, **resume)
        assert model.config.initializer_range == pytest.approx(0.02 * 48**0.5)
    with pytest.raises(ValueError, match="the resumed run must have the initializer_range of its checkpoint"):
        build_model(AutoModelForImageClassification, ModelArguments(initializer_range="0.5"), **resume)


@pytest.fixture
def saved(tmp_path):
    """A saved AC-ViT of four layers and ten classes."""
    asked = ModelArguments(config_overrides=VIT)
    model = build_model(AutoModelForImageClassification, asked, default_type="acn_vit", from_data=DIGITS)
    model.save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


def load(folder, from_data=DIGITS, **options):
    asked = ModelArguments(model_name_or_path=str(folder), **options)
    return build_model(AutoModelForImageClassification, asked, default_type="acn_vit", from_data=from_data)


def test_a_prefix_of_a_checkpoint_is_loaded(saved):
    model = load(saved, num_hidden_layers=2)
    assert (model.config.num_hidden_layers, model.config.original_num_hidden_layers) == (2, 4)
    whole = load(saved)
    assert torch.equal(model.vit.layers[1].layernorm_after.weight, whole.vit.layers[1].layernorm_after.weight)


def test_more_layers_than_a_checkpoint_has_are_refused(saved):
    with pytest.raises(ValueError, match=r"--num_hidden_layers must lie in \[0, 4\], the layers of .*; got 5"):
        load(saved, num_hidden_layers=5)


def test_a_checkpoint_keeps_its_classes_where_they_fit(saved):
    assert load(saved, from_data=label_fields(["9", "3"])).config.label2id == DIGITS["label2id"]


def test_other_classes_need_a_new_head_on_demand(saved):
    with pytest.raises(ValueError, match="--ignore_mismatched_sizes starts those parameters anew"):
        load(saved, from_data=label_fields(["cat", "dog"]))
    model = load(saved, from_data=label_fields(["cat", "dog"]), ignore_mismatched_sizes=True)
    assert model.config.label2id == {"cat": 0, "dog": 1}


def test_one_class_is_refused():
    with pytest.raises(DataError, match="there must be at least two classes to tell apart; every label is 'cat'"):
        build_model(
            AutoModelForImageClassification,
            ModelArguments(config_overrides=VIT),
            default_type="acn_vit",
            from_data=label_fields(["cat"]),
        )


def test_an_upstream_checkpoint_becomes_an_acn_on_demand(tmp_path):
    fields = dict(item.split("=") for item in VIT.split(","))
    upstream = ViTForImageClassification(ViTConfig(**{name: int(value) for name, value in fields.items()})).eval()
    upstream.save_pretrained(tmp_path)
    assert type(load(tmp_path, from_data={})) is ViTForImageClassification
    model = load(tmp_path, from_data={}, model_type="acn_vit", residual_scale=1.0).eval()
    assert type(model) is AcnViTForImageClassification
    pixels = torch.randn(2, 3, 8, 8)
    assert torch.equal(model(pixels).logits, upstream(pixels).logits)


def test_a_checkpoint_of_another_family_is_refused(saved):
    with pytest.raises(ValueError, match="--model_type must be acn_vit or an ACN of it; got bert"):
        load(saved, model_type="bert")


BODY = "hidden_size=32,num_attention_heads=2,intermediate_size=48,num_hidden_layers=4"


def build_text(**options):
    tokenizer = train_tokenizer(["a film to remember", "a film to forget"], 60, max_length=16)
    asked = ModelArguments(**options)
    fields = vocabulary_fields(tokenizer, asked)
    return build_model(AutoModelForSequenceClassification, asked, default_type="acn_bert", from_data=fields)


@pytest.mark.parametrize("asked", [{"num_hidden_layers": 4}, {}], ids=["flag", "override"])
def test_a_new_model_has_an_entry_for_each_layer_where_its_config_needs_them(asked):
    body = BODY.removesuffix(",num_hidden_layers=4") if asked else BODY
    config = build_text(model_type="modernbert", config_overrides=body, **asked).config
    assert config.num_hidden_layers == len(config.layer_types) == 4
    ids = (config.pad_token_id, config.cls_token_id, config.bos_token_id, config.eos_token_id)
    assert ids == (0, 2, 2, 3)  # those of the tokenizer
    assert not hasattr(build_text(config_overrides=BODY).config, "cls_token_id")  # a BERT says nothing of it


@pytest.mark.parametrize(
    "name",
    [
        "ModernBertForSequenceClassification",
        "DistilBertForSequenceClassification",
        "DebertaV2ForSequenceClassification",
        "LlamaForSequenceClassification",
    ],
)
def test_a_prefix_of_any_checkpoint_is_that_of_the_model(tmp_path, name):
    entry = any_model(name)
    whole = entry.build()
    whole.save_pretrained(tmp_path)
    model = build_text(model_name_or_path=str(tmp_path), num_hidden_layers=2).eval()
    assert type(model) is type(whole)
    inputs = entry.inputs()
    assert torch.equal(model(**inputs).logits, truncate(whole, 2)(**inputs).logits)
    with pytest.raises(ValueError, match=r"--num_hidden_layers must lie in \[0, 4\], the layers of .*; got 5"):
        build_text(model_name_or_path=str(tmp_path), num_hidden_layers=5)


@pytest.mark.parametrize("name", ["ModernBertForSequenceClassification", "DistilBertForSequenceClassification"])
def test_any_model_whose_layers_left_is_resumed_with_the_flags_it_began_with(tmp_path, name):
    truncate(any_model(name).build(), 3).save_pretrained(tmp_path)
    entries = [{"eval_shedding_depth": depth} for depth in (4, 3)]
    TrainerState(log_history=entries).save_to_json(str(tmp_path / "trainer_state.json"))

    def resume_text(number):
        asked = ModelArguments(num_hidden_layers=number)
        kind = AutoModelForSequenceClassification
        return build_model(kind, asked, default_type="acn_bert", checkpoint=str(tmp_path))

    assert resume_text(4).config.num_hidden_layers == resume_text(3).config.num_hidden_layers == 3
    with pytest.raises(ValueError, match=r"must have the num_hidden_layers of its checkpoint .*, 3; got 2"):
        resume_text(2)


# --- output folders and resuming


def test_a_folder_that_holds_a_run_is_refused_and_left_alone(saved, files):
    before = files(saved)
    with pytest.raises(
        ValueError, match=r"--output_dir must be new, or --resume_from_checkpoint True.* holds config.json"
    ):
        start(arguments(saved, do_train=True))
    assert files(saved) == before
    assert start(arguments(saved, do_eval=True)) is None


def write_checkpoint(folder):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "trainer_state.json").write_text("{}")


@pytest.mark.parametrize("lacking", ["everything", "config.json", "trainer_state.json", "half of trainer_state.json"])
def test_half_of_a_checkpoint_is_left_aside(tmp_path, lacking, caplog):
    for step in (2, 10):
        write_checkpoint(tmp_path / f"checkpoint-{step}")
    broken = tmp_path / "checkpoint-10"
    for path in broken.iterdir():
        if lacking in ("everything", path.name):
            path.unlink()
    if lacking.startswith("half of"):
        (broken / "trainer_state.json").write_text('{"epoch": 1.0, ')
    last = last_checkpoint(arguments(tmp_path, do_train=True, resume_from_checkpoint="True"))
    assert last == str(tmp_path / "checkpoint-2")
    assert f"{broken} is left aside" in caplog.text
    with pytest.raises(ValueError, match=r"the folder of a whole checkpoint; got .*checkpoint-10"):
        last_checkpoint(arguments(tmp_path, do_train=True, resume_from_checkpoint=str(broken)))


def test_the_last_checkpoint_is_found(tmp_path):
    for step in (2, 10):
        write_checkpoint(tmp_path / f"checkpoint-{step}")
    (tmp_path / "checkpoint.py").write_text("")  # travels with the model
    last = last_checkpoint(arguments(tmp_path, do_train=True, resume_from_checkpoint="True"))
    assert last == str(tmp_path / "checkpoint-10")
    named = str(tmp_path / "checkpoint-2")
    assert last_checkpoint(arguments(tmp_path, do_train=True, resume_from_checkpoint=named)) == named


def test_there_must_be_a_checkpoint_to_resume_from(tmp_path):
    with pytest.raises(ValueError, match=r"needs a whole checkpoint in --output_dir; .* holds none"):
        last_checkpoint(arguments(tmp_path, do_train=True, resume_from_checkpoint="True"))
    with pytest.raises(ValueError, match="must be True or the folder of a whole checkpoint; got nowhere"):
        last_checkpoint(arguments(tmp_path, do_train=True, resume_from_checkpoint="nowhere"))


def resume(checkpoint, **options):
    return build_model(
        AutoModelForImageClassification,
        ModelArguments(**options),
        default_type="acn_vit",
        checkpoint=str(checkpoint),
    )


def test_a_resumed_run_has_the_model_of_its_checkpoint(saved):
    assert resume(saved).config.num_hidden_layers == 4
    assert resume(saved, config_overrides=VIT, num_hidden_layers=4).config.num_labels == 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_hidden_layers": 3}, "must have the num_hidden_layers of its checkpoint .*, 4; got 3"),
        ({"num_hidden_layers": 6}, "must have the num_hidden_layers of its checkpoint .*, 4; got 6"),
        ({"config_overrides": "hidden_size=32"}, "must have the hidden_size of its checkpoint .*, 16; got 32"),
        ({"residual_scale": 1.0}, "must have the residual_scale of its checkpoint"),
        ({"model_type": "vit"}, "is of model_type acn_vit and cannot become vit"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_a_resumed_run_with_flags_for_another_model_is_refused(saved, files, options, message):
    before = files(saved)
    with pytest.raises(ValueError, match=message):
        resume(saved, **options)
    assert files(saved) == before


@pytest.mark.parametrize("resumed", [False, True])
def test_weights_that_are_not_whole_are_named(saved, resumed):
    weights_file = saved / "model.safetensors"
    weights_file.write_bytes(weights_file.read_bytes()[:-100])
    with pytest.raises(ValueError, match=rf"the weights in {saved} must be whole: "):
        resume(saved) if resumed else build_vit(model_name_or_path=str(saved))


def test_a_resumed_run_has_the_head_of_its_checkpoint(saved):
    options = {"default_type": "acn_vit", "checkpoint": str(saved)}
    with pytest.raises(ValueError, match=r"its checkpoint .*, AcnViTForImageClassification; got .*Modeling"):
        build_model(AutoModelForMaskedImageModeling, ModelArguments(), **options)


@pytest.mark.parametrize("field", ["hidden_act=none", "patch_size=0"])
def test_fields_that_make_no_model_are_refused(field):
    with pytest.raises(ValueError, match="no model can be built with these fields of its config: "):
        build_vit(config_overrides=f"{VIT},{field}")


def test_a_run_that_shed_layers_resumes_with_the_flags_it_began_with(saved):
    entries = [{"eval_shedding_depth": depth} for depth in (6, 6, 4)]
    TrainerState(log_history=entries).save_to_json(str(saved / "trainer_state.json"))
    assert resume(saved, num_hidden_layers=6).config.num_hidden_layers == 4
    assert resume(saved, num_hidden_layers=4).config.num_hidden_layers == 4
    for depth in (3, 5, 7):
        with pytest.raises(ValueError, match=rf"the num_hidden_layers of its checkpoint .*, 4; got {depth}"):
            resume(saved, num_hidden_layers=depth)


# --- the run


def digits_trainer(folder, model=None, **options):
    asked = ModelArguments(config_overrides=VIT, num_hidden_layers=3)
    if model is None:
        model = build_model(AutoModelForImageClassification, asked, default_type="acn_vit", from_data=DIGITS)
    return Trainer(
        model=model,
        args=arguments(folder, do_train=True, do_eval=True, **options),
        train_dataset=data()["train"],
        eval_dataset=data()["validation"],
        **metric_functions("accuracy"),
    )


def test_a_run_says_which_depths_give_one_answer(tmp_path, capsys):
    trainer = digits_trainer(tmp_path)
    trainer.args.do_train = False
    with torch.no_grad():
        trainer.model.classifier.bias[3] = 100.0
    run(trainer, DepthArguments(), metric="accuracy")
    assert capsys.readouterr().out.endswith('depths 0, 1, 2 and 3 answer "3" for every example\n')


def test_a_run_writes_all_there_is_to_know(tmp_path, capsys):
    run(digits_trainer(tmp_path), DepthArguments(), metric="accuracy", test=data()["test"])
    written = json.loads((tmp_path / "all_results.json").read_text())
    profile = DepthProfile.load(tmp_path / "depth_profile.json")
    assert written["eval_accuracy"] == pytest.approx(profile.values[-1])
    assert written["train_runtime"] > 0
    assert "test_accuracy" not in written  # nobody asked with do_predict
    assert "Depth profile over 80 examples" in capsys.readouterr().out


def test_a_resumed_run_ends_where_the_whole_run_ends(tmp_path):
    whole = digits_trainer(tmp_path / "whole")
    run(whole, DepthArguments(), metric="accuracy")
    checkpoint = tmp_path / "whole" / "checkpoint-4"
    resumed = digits_trainer(tmp_path / "resumed", resume(checkpoint))
    run(resumed, DepthArguments(), metric="accuracy", checkpoint=str(checkpoint))
    assert resumed.state.global_step == 6
    assert same_weights(weights(whole.model), weights(resumed.model))


def test_depth_arguments_act_while_training(tmp_path):
    depth = DepthArguments(
        profile_every=2, supervision="linear", supervision_depths=1, shed_tolerance=1.0, shed_patience=1
    )
    trainer = digits_trainer(tmp_path)
    run(trainer, depth, metric="accuracy")
    logged = {name for entry in trainer.state.log_history for name in entry}
    assert {"eval_accuracy_at_depth_0", "eval_effective_depth", "eval_shedding_depth"} <= logged
    assert trainer.model.config.num_hidden_layers == 1  # everything is within 1.0, and one layer is the margin
    assert DepthProfile.load(tmp_path / "depth_profile.json").depths == (0, 1)
    last = last_checkpoint(arguments(tmp_path, do_train=True, resume_from_checkpoint="True"))
    assert resume(last, num_hidden_layers=3).config.num_hidden_layers == 1


def test_a_converted_model_is_annealed_and_learns_from_its_original(tmp_path):
    """The scale at a checkpoint is not that of the start: a resumed run goes on from it all the same."""
    asked = ModelArguments(config_overrides=VIT, model_type="vit")
    original = build_model(AutoModelForImageClassification, asked, default_type="acn_vit", from_data=DIGITS)
    original.save_pretrained(tmp_path / "original")
    asked = ModelArguments(str(tmp_path / "original"), model_type="acn_vit")
    depth = DepthArguments(
        residual_annealing=[1.0, 0.2],
        residual_annealing_fraction=1.0,
        residual_annealing_shape="cosine",
        distill_from=str(tmp_path / "original"),
        distill_depth_states=0.5,
    )

    def converted(checkpoint=None):
        return build_model(
            AutoModelForImageClassification, asked, default_type="acn_vit", from_data=DIGITS, checkpoint=checkpoint
        )

    whole = digits_trainer(tmp_path / "whole", converted())
    run(whole, depth, metric="accuracy")
    assert whole.model.config.residual_scale == pytest.approx(0.2)
    checkpoint = str(tmp_path / "whole" / "checkpoint-4")
    resumed = digits_trainer(tmp_path / "resumed", converted(checkpoint))
    run(resumed, depth, metric="accuracy", checkpoint=checkpoint)
    assert same_weights(weights(whole.model), weights(resumed.model))


def test_a_teacher_must_say_its_class(tmp_path):
    ViTConfig().save_pretrained(tmp_path / "nameless")
    depth = DepthArguments(distill_from=str(tmp_path / "nameless"))
    with pytest.raises(ValueError, match=r"a teacher must say the class that it was saved as; .*nameless says none"):
        run(digits_trainer(tmp_path), depth, metric="accuracy")


def test_models_of_transformers_have_depth_too_and_no_scales(tmp_path):
    asked = ModelArguments(config_overrides=VIT, model_type="vit")
    model = build_model(AutoModelForImageClassification, asked, default_type="acn_vit", from_data=DIGITS)
    trainer = digits_trainer(tmp_path, model)
    run(trainer, DepthArguments(profile_every=2, supervision="linear"), metric="accuracy")
    assert type(model) is ViTForImageClassification
    depths = range(model.config.num_hidden_layers + 1)
    assert DepthProfile.load(tmp_path / "depth_profile.json").depths == tuple(depths)
    logged = {name for entry in trainer.state.log_history for name in entry}
    assert logged >= {f"eval_accuracy_at_depth_{depth}" for depth in depths}
    with pytest.raises(ValueError, match=r"--residual_annealing needs an ACN, which has scales; got a vit"):
        run(digits_trainer(tmp_path, model), DepthArguments(residual_annealing=[1.0, 0.0]), metric="accuracy")


@pytest.mark.slow
def test_gradient_flow_is_measured_while_a_script_trains(tmp_path, capsys):
    """The run ends with the weights of one that does not measure, and a resumed one with the whole history."""
    torch.manual_seed(0)
    whole = digits_trainer(tmp_path / "whole")
    depth = DepthArguments(gradient_flow_every=2, gradient_flow_examples=10)
    run(whole, depth, metric="accuracy")
    history = GradientFlowHistory.load(tmp_path / "whole" / "gradient_flow.json")
    assert history.steps == (0, 2, 4, 6)
    assert {flow.num_examples for flow in history.flows} == {10}
    assert str(history) in capsys.readouterr().out
    checkpoint = tmp_path / "whole" / "checkpoint-4"
    resumed = digits_trainer(tmp_path / "resumed", resume(checkpoint))
    shutil.copytree(checkpoint, tmp_path / "resumed" / "checkpoint-4")
    run(resumed, depth, metric="accuracy", checkpoint=str(tmp_path / "resumed" / "checkpoint-4"))
    assert GradientFlowHistory.load(tmp_path / "resumed" / "gradient_flow.json") == history
    torch.manual_seed(0)
    plain = digits_trainer(tmp_path / "plain")
    run(plain, DepthArguments(), metric="accuracy")
    assert same_weights(weights(whole.model), weights(plain.model))
    assert not (tmp_path / "plain" / "gradient_flow.json").exists()


def test_gradient_flow_needs_an_acn(tmp_path):
    asked = ModelArguments(config_overrides=VIT, model_type="vit")
    model = build_model(AutoModelForImageClassification, asked, default_type="acn_vit", from_data=DIGITS)
    with pytest.raises(ValueError, match="--gradient_flow_every needs an ACN, at any scale; got a vit"):
        run(digits_trainer(tmp_path, model), DepthArguments(gradient_flow_every=1), metric="accuracy")


@pytest.mark.parametrize(
    "asked",
    [{"profile_every": 1}, {"gradient_flow_every": 1}, {"shed_tolerance": 0.1, "shed_examples": 5, "shed_every": 1}],
)
def test_depth_arguments_need_validation_data(tmp_path, asked):
    trainer = digits_trainer(tmp_path, eval_strategy="no")
    trainer.eval_dataset = None
    with pytest.raises(ValueError, match="measure on the validation data; give --do_eval too"):
        run(trainer, DepthArguments(**asked), metric="accuracy")


def test_shedding_needs_to_know_when_to_measure(tmp_path):
    trainer = digits_trainer(tmp_path, eval_strategy="no")
    with pytest.raises(ValueError, match="needs measurements; give --shed_every, or --eval_strategy"):
        run(trainer, DepthArguments(shed_tolerance=0.1), metric="accuracy")


@pytest.mark.parametrize(
    ("head", "labels", "fitting", "other"),
    [
        ("vit-ForImageClassification", 10, ("accuracy", "f1_macro", "loss"), ("mse", "f1", "recall")),
        ("bert-ForSequenceClassification", 2, ("accuracy", "f1", "loss"), ("mse", "pearson")),
        ("bert-ForSequenceClassification", 1, ("mse", "pearson", "loss"), ("accuracy", "f1")),
        ("bert-ForMaskedLM", 2, ("loss", "perplexity", "accuracy"), ("mse", "f1")),
        ("vit-ForMaskedImageModeling", 2, ("loss",), ("accuracy", "mse", "f1")),
    ],
)
def test_a_metric_that_does_not_fit_is_refused_before_training(tmp_path, build, head, labels, fitting, other):
    trainer = Trainer(build(by_name(head), num_labels=labels), arguments(tmp_path, eval_strategy="no", do_eval=False))
    for name in fitting:
        run(trainer, DepthArguments(depth_metric=name), metric="loss")
    for name in other:
        with pytest.raises(ValueError, match=rf"--depth_metric must be one of .* for this Acn.*; got {name}"):
            run(trainer, DepthArguments(depth_metric=name), metric="loss")


def test_a_metric_that_does_not_exist_is_refused_before_anything_is_read():
    with pytest.raises(ValueError, match=r"metric must be one of .*; got 'acuracy'"):
        DepthArguments(depth_metric="acuracy")


class Stopping(TrainerCallback):
    """Presses Ctrl-C at the end of a step, or when something else happens."""

    def __init__(self, step=None, **events):
        self.step = step
        for name in events:
            setattr(self, name, self.stop)

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            self.stop()

    def stop(self, *args, **kwargs):
        signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize(
    ("stopping", "said"),
    [
        (Stopping(step=1), "nothing is kept: no checkpoint was due yet (--save_steps 2)"),
        (
            Stopping(step=3),
            "{out}/checkpoint-2 is kept; the same command with --resume_from_checkpoint True goes on from",
        ),
        (Stopping(on_evaluate=True), "the trained model is in {out}"),
    ],
    ids=["before a checkpoint", "after one", "while evaluating"],
)
def test_ctrl_c_says_what_is_kept(tmp_path, capsys, stopping, said):
    trainer = digits_trainer(tmp_path, max_steps=4, save_steps=2, save_strategy="steps", eval_strategy="no")
    trainer.add_callback(stopping)
    (tmp_path / "checkpoint-9").mkdir()  # of which no more was written
    with pytest.raises(SystemExit) as left:
        run_script(lambda: run(trainer, DepthArguments(), metric="accuracy"))
    assert left.value.code == 130
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"stopped; {said.format(out=tmp_path)}")


def test_a_disk_that_fills_while_training_is_said_with_its_path(tmp_path):
    trainer = digits_trainer(tmp_path, max_steps=2)
    full = OSError(errno.ENOSPC, "No space left on device")
    trainer.add_callback(type("Full", (TrainerCallback,), {"on_step_end": Mock(side_effect=full)}))
    with pytest.raises(OSError, match=f"No space left on device: '{tmp_path}'"):
        run(trainer, DepthArguments(), metric="accuracy")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
def test_weights_of_16_bits_are_not_trained_without_a_word(saved, tmp_path, caplog, dtype):
    build_vit(model_name_or_path=str(saved)).to(dtype).save_pretrained(tmp_path / "half")
    model = build_vit(model_name_or_path=str(tmp_path / "half"))
    assert model.dtype == dtype
    run(digits_trainer(tmp_path / "out", model, max_steps=1, learning_rate=0.0), DepthArguments(), metric="accuracy")
    name = str(dtype).removeprefix("torch.")
    warned = f"100% of the weights are {name}, and are trained in it: steps that are small" in caplog.text
    assert warned is (dtype != torch.float32)
    assert build_vit(model_name_or_path=str(tmp_path / "half"), dtype="float32").dtype == torch.float32


def test_failures_of_input_become_one_line(capsys):
    def fail():
        raise DataError("the data\nare missing")

    with pytest.raises(SystemExit) as left:
        run_script(fail)
    assert left.value.code == 1
    assert capsys.readouterr().err == "error: the data are missing\n"


def test_a_script_leaves_its_process_group(tmp_path):
    """A process that ends with the threads of one may abort."""

    def main():
        torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)

    run_script(main)
    assert not torch.distributed.is_initialized()
    run_script(lambda: None)
