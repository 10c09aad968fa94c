"""Zeros in ordinary weights: the right ones, in every family and head, at every depth, and in what is saved."""

import copy

import pytest
import torch
import transformers
from torch import nn
from torch.nn.utils import prune

from acn_hf import Sparsity, depth_logits, measure_sparsity, prune_model, truncate
from acn_hf.modeling.depth import encoder_layers
from acn_hf.smaller.pruning import zero_lowest
from tests.support.adapted import any_peft, each_way, quiet  # noqa: F401 (a fixture)
from tests.support.families import HEADED, NUM_LAYERS, by_name, each_head
from tests.support.training import same_weights, weights

IMAGES, TOKENS = by_name("vit-ForImageClassification"), by_name("bert-ForTokenClassification")


def pruned_by_torch(model, sparsity):
    """Return the weights that torch's own pruning of all linear modules in the layers leaves."""
    model = copy.deepcopy(model)
    linear = [(m, "weight") for layer in encoder_layers(model) for m in layer.modules() if isinstance(m, nn.Linear)]
    prune.global_unstructured(linear, pruning_method=prune.L1Unstructured, amount=sparsity)
    for module, name in linear:
        prune.remove(module, name)
    return weights(model)


@pytest.mark.parametrize("sparsity", [0, 0.0, 0.1, 0.5, 0.937])
@each_head()
def test_the_weights_that_torch_prunes(build, head, sparsity):
    model = build(head)
    before = weights(model)
    pruned = prune_model(model, sparsity)
    assert same_weights(weights(model), before)
    expected = pruned_by_torch(model, float(sparsity))
    assert weights(pruned).keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in weights(pruned).items())
    assert type(pruned) is head.acn
    assert measure_sparsity(pruned).sparsity == pytest.approx(sparsity, abs=1e-3)


@each_head()
def test_parameters_keep_their_order_which_optimisers_go_by(build, head):
    model = build(head)
    names = [name for name, _ in model.named_parameters()]
    assert [name for name, _ in prune_model(model, 0.5).named_parameters()] == names


@each_head()
def test_only_weights_of_linear_modules_in_the_layers(build, head):
    model = build(head)
    pruned = prune_model(model, 0.5).state_dict()
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, pruned[name])}
    linear = {name for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    assert changed == {f"{name}.weight" for name in linear if ".layer" in f".{name}"}
    of_mixer = 5 if head.name.endswith("paper") else 4
    assert len(changed) == (of_mixer if head.name.startswith("mixer") else 6) * NUM_LAYERS


@each_head(HEADED)
def test_the_copy_shares_nothing(build, head):
    model = build(head).train()
    pruned = prune_model(model, 0.5)
    assert pruned.training
    shared = {id(parameter) for parameter in model.parameters()} & {id(parameter) for parameter in pruned.parameters()}
    assert not shared
    assert all(parameter.requires_grad and parameter.grad is None for parameter in pruned.parameters())


@each_head(HEADED)
def test_every_depth_of_a_pruned_model_saved_and_loaded(build, head, tmp_path):
    pruned = prune_model(build(head), 0.7)
    inputs = head.inputs()
    with torch.no_grad():
        logits = depth_logits(pruned, **inputs)
    for depth in range(NUM_LAYERS + 1):
        folder = tmp_path / str(depth)
        pruned.save_pretrained(folder, depth=depth)
        short = truncate(pruned, depth)
        loaded = getattr(transformers, head.auto).from_pretrained(folder)
        assert same_weights(weights(loaded), weights(short))
        assert measure_sparsity(loaded) == measure_sparsity(short)
        assert measure_sparsity(loaded).zeros == measure_sparsity(pruned).zeros[:depth]
        with torch.no_grad():
            assert torch.equal(depth_logits(loaded, **inputs), logits[: depth + 1])


@pytest.mark.parametrize("options", [{"residual_scale": 1.0}, {"residual_scale": 0.5, "learn_residual_scale": True}])
def test_residual_networks(build, options):
    model = build(IMAGES, **options)
    pruned = prune_model(model, 0.5)
    assert measure_sparsity(pruned).sparsity == 0.5
    assert pruned.config.residual_scale == options["residual_scale"]


@pytest.mark.parametrize(
    ("head", "modules", "expected"),
    [
        (IMAGES, ["fc1", "classifier"], [*[f"vit.layers.{i}.mlp.fc1.weight" for i in range(3)], "classifier.weight"]),
        (TOKENS, ["bert.encoder.layer.1.output.dense"], ["bert.encoder.layer.1.output.dense.weight"]),
    ],
)
def test_chosen_modules(build, head, modules, expected):
    model = build(head)
    pruned = prune_model(model, 0.5, modules=modules).state_dict()
    assert {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, pruned[name])} == {*expected}
    assert (
        sum(int((pruned[name] == 0).sum()) for name in expected) == sum(pruned[name].numel() for name in expected) // 2
    )


def test_pruning_more_keeps_the_zeros(build):
    once = prune_model(build(IMAGES), 0.3)
    assert same_weights(weights(prune_model(once, 0.2)), weights(once))
    assert same_weights(weights(prune_model(once, 0.6)), weights(prune_model(build(IMAGES), 0.6)))


def test_lowest_scores_of_both_signs_go_first_and_zeros_stay():
    weight = nn.Parameter(torch.tensor([[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]))
    scores = torch.tensor([[9.0, -1.0, 0.0], [0.0, 0.0, 2.0]])
    zero_lowest({"a": weight}, {"a": scores}, 4 / 6)
    # The zero counts; -1 goes, then the first two of the three equal scores.
    assert weight.tolist() == [[0.0, 0.0, 0.0], [0.0, 4.0, 5.0]]
    assert scores.tolist() == [[9.0, -1.0, 0.0], [0.0, 0.0, 2.0]]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_precisions(build, dtype):
    pruned = prune_model(build(IMAGES).to(dtype), 0.5)
    assert pruned.dtype == dtype
    assert measure_sparsity(pruned).sparsity == 0.5


def test_a_network_without_layers(build):
    model = truncate(build(IMAGES), 0)
    assert measure_sparsity(prune_model(model, 0.5)) == Sparsity((), ())
    assert measure_sparsity(model).sparsity == 0.0


def test_a_compiled_model_is_pruned_inside(build):
    model = build(IMAGES)
    assert type(prune_model(torch.compile(model, backend="eager"), 0.5)) is IMAGES.acn
    assert measure_sparsity(torch.compile(model, backend="eager")).sparsity == 0.0


def test_what_is_left_without_weights_is_named(build, caplog):
    model = build(IMAGES)
    with torch.no_grad():
        model.vit.layers[1].mlp.fc1.weight.mul_(1e-6)
    prune_model(model, 0.05)
    assert not caplog.messages
    prune_model(model, 0.1)
    assert caplog.messages == [
        "vit.layers.1.mlp.fc1.weight (1 in all): zero throughout, and will stay so while the model is pruned; prune "
        "less, or cut layers that are not needed with acn_hf.truncate"
    ]


def test_the_record(build, tmp_path):
    sparsity = measure_sparsity(prune_model(build(IMAGES), 0.25))
    sparsity.save(tmp_path / "sparsity.json")
    assert Sparsity.load(tmp_path / "sparsity.json") == sparsity
    assert sparsity.weights == (4 * 16 * 16 + 2 * 16 * 24,) * NUM_LAYERS
    assert sparsity.per_layer == tuple(zeros / 1792 for zeros in sparsity.zeros)
    assert "25.0% of the weights are zero" in str(sparsity)
    assert str(sparsity).count("1,792") == NUM_LAYERS


def test_records_that_say_nothing_sensible_are_refused():
    with pytest.raises(ValueError, match="one number for each layer; got 1 and 2"):
        Sparsity((1,), (2, 3))
    with pytest.raises(ValueError, match=r"no more zeros than weights; got \(3,\) of \(2,\)"):
        Sparsity((3,), (2,))


@pytest.mark.parametrize("sparsity", [-0.1, 1, 1.0, 2, float("nan"), True, "half", None])
def test_a_sparsity_out_of_range_is_refused(build, sparsity):
    with pytest.raises(ValueError, match=rf"sparsity must be a number in \[0, 1\); got {sparsity!r}"):
        prune_model(build(IMAGES), sparsity)


@quiet
@pytest.mark.usefixtures("any_peft")
@each_way
@pytest.mark.parametrize("call", [lambda model: prune_model(model, 0.5), measure_sparsity])
def test_other_models_are_refused(build, call, adapt):
    with pytest.raises(TypeError, match="only models of transformers have depth; got Linear"):
        call(nn.Linear(2, 2))
    adapted = adapt(build(TOKENS))
    with pytest.raises(TypeError, match=r"must hold no adapters to be pruned; got default: .*merge_adapter=True"):
        call(adapted)


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        ("fc1", "modules must be a list of names, not an empty one; got 'fc1'"),
        ([], r"modules must be a list of names, not an empty one; got \[\]"),
        (["fc1", "c1"], "modules must name linear modules of the model; got 'c1'"),
        (["layernorm"], "modules must name linear modules of the model; got 'layernorm'"),
    ],
)
def test_modules_that_cannot_be_pruned_are_refused(build, modules, message):
    with pytest.raises(ValueError, match=message):
        prune_model(build(IMAGES), 0.5, modules=modules)


def test_weights_tied_to_embeddings_are_refused(build):
    head = by_name("bert-ForMaskedLM")
    with pytest.raises(ValueError, match=r"tied to embeddings; got cls\.predictions\.decoder\.weight"):
        prune_model(build(head), 0.5, modules=["decoder"])
