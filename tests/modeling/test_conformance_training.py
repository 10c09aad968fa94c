"""What changes how a model is run must not change what it computes or learns."""

import itertools

import pytest
import torch

from tests.support.families import BASES, HEADED, SOME_CONNECTIONS, TRAINED, by_name, each_head
from tests.support.training import doubled, train_one_step


def gradients(head, model, inputs) -> dict[str, torch.Tensor]:
    """Return the gradient of every parameter, from one batch."""
    model.zero_grad()
    head.loss(model(**inputs)).backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


# Its new name does not exist in the oldest supported transformers.
old_name = pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable` is deprecated:FutureWarning")


@old_name
@each_head(options=SOME_CONNECTIONS, use_reentrant=[True, False])
def test_gradient_checkpointing(build, head, options, use_reentrant):
    """The reentrant way adds up the gradients that meet in a layer's input in another order; float64 bounds that."""
    model, inputs = build(head, **options).double().train(), doubled(head.inputs(labels=True))
    expected = gradients(head, model, inputs)
    model.gradient_checkpointing_enable({"use_reentrant": use_reentrant})
    if use_reentrant:
        model.enable_input_require_grads()
    actual = gradients(head, model, inputs)
    tolerance = 1e-12 if use_reentrant else 0.0
    for name, value in expected.items():
        torch.testing.assert_close(actual[name], value, rtol=tolerance, atol=tolerance, msg=name)


@old_name
@each_head(BASES)
def test_gradient_checkpointing_runs_every_layer_twice(build, head):
    """The check above can fail only if checkpointing happens."""
    model, runs = build(head).train(), []
    for layer in model.get_submodule(model.layers_name):
        part = layer.attention if head.has_attention else layer.token_mlp
        part.register_forward_hook(lambda *args: runs.append(args))
    gradients(head, model, head.inputs())
    once = len(runs)
    model.gradient_checkpointing_enable({"use_reentrant": False})
    gradients(head, model, head.inputs())
    assert len(runs) == 3 * once


@each_head(options=SOME_CONNECTIONS)
@torch.no_grad()
def test_attention_implementations(build, head, options):
    """In float64 the two differ by rounding: 1e-16 in BERT, 1e-7 in ViT, whose eager softmax is in float32."""
    model, inputs, outputs = build(head, **options).double(), doubled(head.inputs()), []
    for implementation in ("eager", "sdpa"):
        model.set_attn_implementation(implementation)
        outputs.append(model(**inputs)[0])
    tolerance = 1e-6 if not head.name.startswith("bert") else 1e-12
    torch.testing.assert_close(*outputs, rtol=tolerance, atol=tolerance)


@pytest.mark.slow
@each_head(BASES, options=SOME_CONNECTIONS)
@torch.no_grad()
def test_compiling_in_one_graph(build, head, options):
    model, inputs = build(head, **options), head.inputs()
    torch.compiler.reset()
    compiled = torch.compile(model, backend="eager", fullgraph=True)(**inputs)
    assert torch.equal(compiled[0], model(**inputs)[0])


@pytest.mark.slow
@each_head([by_name("bert-ForSequenceClassification"), by_name("vit-ForImageClassification")])
def test_gradients_of_the_compiled_model(build, head):
    check_gradients_of_the_compiled_model(head, build(head))


def check_gradients_of_the_compiled_model(head, model):
    inputs = head.inputs(labels=True)
    expected = gradients(head, model, inputs)
    torch.compiler.reset()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    model.zero_grad()
    compiled(**inputs).loss.backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name])


@each_head(TRAINED)
def test_gradient_accumulation_is_the_gradient_of_the_whole_batch(build, head, tmp_path):
    """In float64, so that only the 1e-5 in upstream's loss of masked images is left of a difference."""
    model, inputs = build(head).double(), doubled(head.inputs(batch_size=16, labels=True))
    expected = {name: -value for name, value in gradients(head, model, inputs).items()}
    model.zero_grad()
    for batch_size in (16, 4):
        moved = train_one_step(build(head).double(), inputs, tmp_path, batch_size, 16 // batch_size)
        for name, value in expected.items():
            torch.testing.assert_close(moved[name], value, rtol=1e-6, atol=1e-10, msg=f"{name}, {batch_size}")


@each_head([head for head in HEADED if head.name.startswith("bert")], options=SOME_CONNECTIONS)
@torch.no_grad()
def test_padding(build, head, options):
    model, inputs = build(head, **options).double(), head.inputs()
    padded = {name: torch.nn.functional.pad(value, (0, 3)) for name, value in inputs.items()}
    assert not padded["attention_mask"].all()
    expected, actual = (model(**batch).to_tuple() for batch in (inputs, padded))
    for whole, part in zip(actual, expected, strict=True):
        kept = whole if whole.shape == part.shape else whole[:, : part.shape[1]]
        torch.testing.assert_close(kept, part, rtol=1e-10, atol=1e-12)


@each_head(options=SOME_CONNECTIONS)
def test_every_parameter_gets_a_gradient(build, head, options):
    model = build(head, **options)
    for name, value in gradients(head, model, head.inputs(labels=True)).items():
        assert value.isfinite().all(), name
        assert value.any(), name


@each_head()
@torch.no_grad()
def test_examples_of_a_batch_do_not_mix(build, head):
    model, inputs = build(head).double(), doubled(head.inputs(batch_size=3))
    together = model(**inputs).to_tuple()
    alone = [model(**{name: value[i : i + 1] for name, value in inputs.items()}).to_tuple() for i in range(3)]
    for index, tensor in enumerate(together):
        if tensor.ndim:
            torch.testing.assert_close(tensor, torch.cat([one[index] for one in alone]), rtol=1e-10, atol=1e-12)


@each_head()
@torch.no_grad()
def test_a_forward_pass_leaves_no_trace(build, head):
    model, inputs = build(head), head.inputs()
    first = model(**inputs).to_tuple()
    model(**inputs, output_hidden_states=True, output_attentions=False)
    assert all(itertools.starmap(torch.equal, zip(first, model(**inputs).to_tuple(), strict=True)))
