"""A model with early exit goes where a model goes that is called; what cannot leave early is refused."""

import pytest
import torch
from PIL import Image
from transformers import BertTokenizer, ViTImageProcessorPil, pipeline

from acn_hf import (
    ConfidenceExit,
    DepthError,
    PatienceExit,
    measure_depth_profile,
    predict_early_exit,
    truncate,
    with_early_exit,
)
from tests.support.adapted import quiet, with_peft
from tests.support.exits import CLASSIFIERS, OF_TOKENS, PlannedExit, padded
from tests.support.families import BASES, HEADED, NUM_LAYERS, by_name, each_head

REFUSED = [head for head in HEADED if head not in CLASSIFIERS]
SEQUENCES = by_name("bert-ForSequenceClassification")
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz"]
PLAN = (2, 0, 3, 1)


@pytest.fixture
def tokenizer():
    return BertTokenizer(vocab={word: index for index, word in enumerate(WORDS)}, model_max_length=16)


@each_head(CLASSIFIERS)
@torch.no_grad()
def test_the_view_returns_what_the_prediction_returns(build, head):
    model, inputs = build(head), padded(head.inputs(4))
    before = {name: (type(module), set(vars(module))) for name, module in model.named_modules()}
    view = with_early_exit(model, PatienceExit(1))
    assert type(view) is type(model)
    output = view(**inputs)
    assert output.keys() == model(**inputs).keys()
    assert torch.equal(output.logits, predict_early_exit(model, inputs, PatienceExit(1)).logits)
    assert torch.equal(view(**inputs).logits, output.logits)
    assert before == {name: (type(module), set(vars(module))) for name, module in model.named_modules()}


@each_head([head for head in CLASSIFIERS if head.has_loss])
@torch.no_grad()
def test_the_view_returns_the_loss_at_the_exit_depths(build, head):
    model, inputs = build(head), head.inputs(4, labels=True)
    output = with_early_exit(model, PlannedExit(PLAN))(**inputs)
    predicted = predict_early_exit(model, inputs, PlannedExit(PLAN), **counted_as_without_labels(head))
    assert torch.equal(output.logits, predicted.logits)
    labels = inputs["labels"]
    expected = torch.nn.functional.cross_entropy(output.logits.flatten(0, -2), labels.flatten())
    torch.testing.assert_close(output.loss, expected)


def counted_as_without_labels(head):
    return {"counted": torch.ones(4, 7)} if head in OF_TOKENS else {}


@each_head(CLASSIFIERS)
@torch.no_grad()
def test_positions_of_arguments_do_not_matter(build, head):
    inputs = head.inputs(4)
    view = with_early_exit(build(head), PlannedExit(PLAN))
    main = inputs[view.main_input_name]
    others = {name: value for name, value in inputs.items() if name == "token_type_ids"}
    assert torch.equal(view(main, **others).logits, view(**{view.main_input_name: main}, **others).logits)


TEXTS = ["a b c", "d e", "f g h i j k", "l", "m n o p", "q r s"]


@pytest.mark.parametrize("batch_size", [1, 4])
@pytest.mark.parametrize("task", ["text-classification", "token-classification"])
def test_text_pipelines(build, tokenizer, task, batch_size):
    name = {"text-classification": "ForSequenceClassification", "token-classification": "ForTokenClassification"}[task]
    model = build(by_name(f"bert-{name}"))
    options = {"tokenizer": tokenizer, "device": "cpu"}
    policy = PatienceExit(1)
    found = pipeline(task, model=with_early_exit(model, policy), **options)(TEXTS, batch_size=batch_size)
    assert found != pipeline(task, model=model, **options)(TEXTS, batch_size=batch_size)
    for text, results in zip(TEXTS, found, strict=True):
        logits = predict_early_exit(model, tokenizer(text, return_tensors="pt"), policy).logits[0]
        scores, classes = logits.softmax(-1).max(-1)
        if task == "text-classification":
            assert results["label"] == f"LABEL_{int(classes)}"
            assert results["score"] == pytest.approx(float(scores), abs=1e-5)
        else:
            assert [token["entity"] for token in results] == [f"LABEL_{one}" for one in classes[1:-1].tolist()]
            torch.testing.assert_close(
                torch.tensor([token["score"] for token in results]), scores[1:-1], atol=1e-5, rtol=0
            )


@pytest.mark.parametrize("batch_size", [1, 4])
def test_the_pipeline_of_masked_words_asks_for_the_masked_ones_alone(build, tokenizer, batch_size):
    model = build(by_name("bert-ForMaskedLM"), vocab_size=len(WORDS))
    policy = PatienceExit(1)

    def is_masked(inputs):
        return inputs["input_ids"] == tokenizer.mask_token_id

    view = with_early_exit(model, policy, counted=is_masked)
    texts = [f"{text} [MASK]" for text in TEXTS]
    found = pipeline("fill-mask", model=view, tokenizer=tokenizer, device="cpu")(texts, batch_size=batch_size, top_k=1)
    depths = set()
    for text, [result] in zip(texts, found, strict=True):
        inputs = tokenizer(text, return_tensors="pt")
        output = predict_early_exit(model, inputs, policy, counted=is_masked)
        depths.add(int(output.exit_depths))
        scores = output.logits[0, -2].softmax(-1)
        assert result["token"] == int(scores.argmax())
        assert result["score"] == pytest.approx(float(scores.max()), abs=1e-5)
    assert depths != {NUM_LAYERS}


@pytest.mark.parametrize("batch_size", [1, 4])
def test_the_image_pipeline(build, batch_size):
    model = build(by_name("vit-ForImageClassification"), num_channels=3)
    processor = ViTImageProcessorPil(size={"height": 8, "width": 8})
    pictures = [Image.new("RGB", (8, 8), color=(40 * shade, 90, 250 - 40 * shade)) for shade in range(6)]
    policy = PatienceExit(1)
    classify = pipeline(
        "image-classification", model=with_early_exit(model, policy), image_processor=processor, device="cpu"
    )
    for picture, results in zip(pictures, classify(pictures, batch_size=batch_size), strict=True):
        logits = predict_early_exit(model, processor(picture, return_tensors="pt"), policy).logits[0]
        assert results[0]["label"] == f"LABEL_{int(logits.argmax())}"
        assert results[0]["score"] == pytest.approx(float(logits.softmax(-1).max()), abs=1e-5)


@quiet
@torch.no_grad()
def test_a_view_of_an_adapted_model(build):
    model, inputs = with_peft(build(SEQUENCES)), SEQUENCES.inputs(4)
    output = with_early_exit(model, PlannedExit(PLAN))(**inputs)
    assert torch.equal(output.logits, predict_early_exit(model, inputs, PlannedExit(PLAN)).logits)


def test_a_view_is_for_inference(build):
    view = with_early_exit(build(SEQUENCES).train(), PatienceExit(1))
    with pytest.raises(ValueError, match=r"early exit is for inference: put the model in eval mode"):
        view(**SEQUENCES.inputs(2))


@each_head(CLASSIFIERS)
def test_nothing_of_the_whole_batch_is_recorded(build, head):
    model, inputs = build(head, output_hidden_states=True), head.inputs(2)
    with torch.no_grad():
        assert with_early_exit(model, PatienceExit(1))(**inputs).hidden_states is None
    attentions = ["output_attentions"] if head.has_attention else []
    for switch in ("output_hidden_states", "output_layer_outputs", *attentions):
        for function in (
            lambda given: predict_early_exit(model, given, PatienceExit(1)),
            lambda given: with_early_exit(model, PatienceExit(1))(**given),
        ):
            with pytest.raises(ValueError, match=f"{switch} must be off: examples leave at different depths"):
                function({**inputs, switch: True})


def refusals(model, inputs, policy):
    """Return the two functions that apply a policy."""
    return (lambda: predict_early_exit(model, inputs, policy), lambda: with_early_exit(model, policy))


@each_head(REFUSED + BASES)
def test_heads_without_probabilities_of_classes_are_refused(build, head):
    for function in refusals(build(head), head.inputs(2), PatienceExit(1)):
        with pytest.raises(TypeError, match=rf"needs probabilities of classes, .* {head.acn.__name__} gives none"):
            function()


@pytest.mark.parametrize(
    "options",
    [{"num_labels": 1}, {"problem_type": "regression"}, {"problem_type": "multi_label_classification"}],
    ids=str,
)
@each_head([head for head in CLASSIFIERS if head.name != "bert-ForMaskedLM"])
def test_heads_of_numbers_and_of_several_classes_at_once_are_refused(build, head, options):
    for function in refusals(build(head, **options), head.inputs(2), PatienceExit(1)):
        with pytest.raises(TypeError, match=r"of which one is right; this .* has num_labels=. and problem_type="):
            function()


def test_other_models_and_other_policies_are_refused(build):
    for function in refusals(torch.nn.Linear(2, 2), {}, PatienceExit(1)):
        with pytest.raises(TypeError, match="only models of transformers have depth; got Linear"):
            function()
    for function in refusals(build(SEQUENCES), {}, 0.5):
        with pytest.raises(TypeError, match="policy must be an ExitPolicy; got float"):
            function()


def test_a_min_depth_that_the_model_does_not_have_is_refused(build):
    for function in refusals(build(SEQUENCES), SEQUENCES.inputs(2), PatienceExit(1, min_depth=4)):
        with pytest.raises(DepthError, match=r"min_depth must lie in \[0, 3\] for this model; got 4"):
            function()


def test_counted_that_does_not_fit_is_refused(build):
    with pytest.raises(ValueError, match="counted is for heads that predict tokens; AcnBertForSequenceClassification"):
        predict_early_exit(build(SEQUENCES), SEQUENCES.inputs(2), ConfidenceExit(0.5), counted=torch.ones(2, 7))
    with pytest.raises(ValueError, match="counted is for heads that predict tokens; AcnBertForSequenceClassification"):
        with_early_exit(build(SEQUENCES), ConfidenceExit(0.5), counted=torch.ones(2, 7))
    for head in OF_TOKENS:
        with pytest.raises(ValueError, match=r"a value for each token, of shape \(2, 7\); got \(2, 6\)"):
            predict_early_exit(build(head), head.inputs(2), ConfidenceExit(0.5), counted=torch.ones(2, 6))


def test_a_view_is_in_the_mode_of_its_model(build):
    head = by_name("bert-ForSequenceClassification")
    model = build(head).eval()
    view = with_early_exit(model, ConfidenceExit(0.9))
    assert not any(module.training for module in view.modules())


@pytest.mark.parametrize(
    "function",
    [
        lambda view: truncate(view, 1),
        lambda view: with_early_exit(view, ConfidenceExit(0.9)),
        lambda view: measure_depth_profile(view, []),
        lambda view: predict_early_exit(view, {}, ConfidenceExit(0.9)),
    ],
)
def test_a_view_is_only_called(build, function):
    view = with_early_exit(build(by_name("bert-ForSequenceClassification")), ConfidenceExit(0.9))
    with pytest.raises(TypeError, match="is a view that is only called; give the model it was made from"):
        function(view)
