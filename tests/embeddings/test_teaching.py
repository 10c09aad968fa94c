"""A SentenceTransformer that teaches every depth of its copy: the losses are those of a plain loop, and it learns."""

import copy

import numpy as np
import pytest
import torch
from datasets import Dataset
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.losses import (
    CachedMultipleNegativesRankingLoss,
    CoSENTLoss,
    MatryoshkaLoss,
    MultipleNegativesRankingLoss,
    SoftmaxLoss,
)
from transformers import BertConfig, BertModel, TrainerCallback, TrainingArguments

from acn_hf import DepthError, FinetuningError, measure_embedding_profile, teach_embeddings, truncate
from acn_hf.depth import ProfileError
from acn_hf.embeddings.losses import EveryDepthLoss, TeachingLoss
from acn_hf.embeddings.student import studying
from tests.embeddings.test_truncate import build
from tests.support.sentence_models import PROMPTS, SIZES, sentence_model, texts

TEXTS = texts(64)
PAIRS = Dataset.from_dict({"anchor": TEXTS[:16], "positive": TEXTS[16:32]})
DEPTHS, WEIGHTS = (1, 2, 3), (0.2, 0.3, 0.5)
pytestmark = pytest.mark.filterwarnings("ignore:.pin_memory. argument is set as true")


def arguments(folder, **how):
    how = {"max_steps": 2, "per_device_train_batch_size": 16, "save_strategy": "no", **how}
    quiet = {"report_to": "none", "disable_tqdm": True, "use_cpu": True, "logging_strategy": "no"}
    return SentenceTransformerTrainingArguments(str(folder), **quiet, **how)


def features(model, some):
    return model.preprocess(some)


def gradients(models):
    """Return the sum of the gradients of each weight, by its name, over models that have some of the same."""
    total = {}
    for model in models:
        for name, weight in model.named_parameters():
            if weight.grad is not None:
                total[name] = total.get(name, 0) + weight.grad
    return total


def check_same(one, other):
    assert one.keys() == other.keys()
    for name, gradient in one.items():
        torch.testing.assert_close(gradient, other[name], rtol=1e-4, atol=1e-6, msg=name)


def plain_teaching(model, some, wanted, variance, dimensions, similarities):
    """Return the loss of one depth, by a plain loop."""
    found = model(features(model, some))["sentence_embedding"]
    length = sum(float((one**2).sum()) for one in WANTED_OF_ALL) / len(WANTED_OF_ALL)
    embeddings = sum(((one - other) ** 2).sum() for one, other in zip(found, wanted, strict=True)) / len(found) / length
    errors = []
    for dimension in dimensions:
        pairs = [(i, j) for i in range(len(some)) for j in range(len(some)) if i != j]
        cosine = torch.nn.functional.cosine_similarity
        cut = found[:, :dimension]
        errors.append(
            sum((cosine(cut[i], cut[j], dim=0) - cosine(wanted[i], wanted[j], dim=0)) ** 2 for i, j in pairs)
            / len(pairs)
        )
    return embeddings + similarities * sum(errors) / len(errors) / variance


WANTED_OF_ALL = torch.randn(8, 16, generator=torch.Generator().manual_seed(0))


def test_the_loss_of_teaching_is_that_of_a_plain_loop(model):
    rows, student = [3, 1, 6], truncate(model, 3).eval()
    some = [TEXTS[row] for row in rows]
    with studying(student, DEPTHS):
        loss = TeachingLoss(student, WANTED_OF_ALL, 0.25, WEIGHTS, (4, 8), 0.7)
        value = loss([features(student, some)], torch.tensor(rows))
        value.backward()
    plain = [truncate(model, depth).eval() for depth in DEPTHS]
    expected = sum(
        weight * plain_teaching(one, some, WANTED_OF_ALL[rows], 0.25, (16, 4, 8), 0.7)
        for one, weight in zip(plain, WEIGHTS, strict=True)
    )
    expected.backward()
    torch.testing.assert_close(value, expected)
    check_same(gradients([student]), gradients(plain))


LOSSES = {
    "ranking": (lambda model: MultipleNegativesRankingLoss(model), None),
    "two dimensions": (lambda model: MatryoshkaLoss(model, MultipleNegativesRankingLoss(model), [16, 4]), None),
    "scores": (lambda model: CoSENTLoss(model), torch.tensor([0.1, 0.9, 0.4])),
}


@pytest.mark.parametrize("name", LOSSES)
def test_any_loss_at_every_depth_is_that_of_a_plain_loop(name, model):
    make, labels = LOSSES[name]
    student, columns = truncate(model, 3).eval(), (TEXTS[:3], TEXTS[3:6])
    calls = []
    handle = student[0].model.encoder.layer[0].attention.register_forward_hook(lambda *_: calls.append(1))
    with studying(student, DEPTHS):
        loss = EveryDepthLoss(student, make(student), WEIGHTS)
        value = loss([features(student, column) for column in columns], labels)
        value.backward()
    handle.remove()
    assert len(calls) <= len(columns), "the layers run once for all depths"
    plain = [truncate(model, depth).eval() for depth in DEPTHS]
    expected = sum(
        weight * make(one)([features(one, column) for column in columns], labels)
        for one, weight in zip(plain, WEIGHTS, strict=True)
    )
    expected.backward()
    torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-5)
    check_same(gradients([student]), gradients(plain))


def test_a_student_is_an_ordinary_model_again(model):
    student = truncate(model, 3)
    before = student.encode(TEXTS)
    with studying(student, DEPTHS):
        assert isinstance(student, SentenceTransformer)
        assert np.array_equal(student.encode(TEXTS), before)
    assert type(student) is SentenceTransformer
    assert student.__dict__.keys() == truncate(model, 3).__dict__.keys()


@pytest.fixture
def calm(tmp_path):
    """A model that is not chaotic, and learns without dropout."""
    torch.manual_seed(0)
    config = BertConfig(
        **SIZES, num_hidden_layers=3, initializer_range=0.2, hidden_dropout_prob=0, attention_probs_dropout_prob=0
    )
    return sentence_model(tmp_path / "calm", BertModel(config))


def test_every_depth_learns(calm, tmp_path):
    before = {name: value.clone() for name, value in calm.state_dict().items()}
    held_out = texts(60, seed=5)
    how = arguments(tmp_path / "out", max_steps=90, per_device_train_batch_size=32, learning_rate=3e-3)
    taught = teach_embeddings(calm, texts(200), how, dimensions=[4])
    assert type(taught) is SentenceTransformer
    assert not taught.training
    assert all(torch.equal(before[name], value) for name, value in calm.state_dict().items())
    cut, learned = (
        measure_embedding_profile(one, held_out, reference=calm, dimensions=[16, 4]) for one in (calm, taught)
    )
    for dimension in (16, 4):
        assert learned.at(dimension).value_at(1) > cut.at(dimension).value_at(1) + 0.1
    assert learned.at(16).value_at(3) > 0.9
    short = truncate(taught, 1)
    short.save_pretrained(str(tmp_path / "short"))
    loaded = SentenceTransformer(str(tmp_path / "short"), device="cpu")
    assert np.array_equal(loaded.encode(held_out), short.encode(held_out))


def test_another_teacher(calm, tmp_path):
    other = truncate(calm, 2)
    how = arguments(tmp_path / "out", max_steps=90, per_device_train_batch_size=32, learning_rate=3e-3)
    taught = teach_embeddings(calm, texts(200), how, teacher=other)
    held_out = texts(60, seed=5)
    untaught = measure_embedding_profile(calm, held_out, reference=other).values[-1]
    assert measure_embedding_profile(taught, held_out, reference=other).values[-1] > untaught + 0.05


def test_the_teacher_embeds_each_text_once(model, tmp_path):
    teacher, seen = truncate(model, 2), []
    teacher.preprocess = lambda inputs, *args, **how: seen.extend(inputs) or model.preprocess(inputs, *args, **how)
    teach_embeddings(model, [*TEXTS, *TEXTS[:9]], arguments(tmp_path, max_steps=10), teacher=teacher)
    assert sorted(seen) == sorted(TEXTS)


class Layers(TrainerCallback):
    """Counts how often the first layer runs in training."""

    def __init__(self):
        self.calls, self.steps = 0, 0

    def on_train_begin(self, *args, model, **kwargs):
        model[0].model.encoder.layer[0].attention.register_forward_hook(self.count)

    def count(self, *_):
        self.calls += 1

    def on_step_end(self, *args, **kwargs):
        self.steps += 1


def test_the_layers_run_once_in_a_step(model, tmp_path):
    layers = Layers()
    taught = teach_embeddings(model, TEXTS, arguments(tmp_path, max_steps=3), callbacks=[layers])
    assert layers.calls == layers.steps == 3
    taught.encode(TEXTS)
    assert layers.calls == 3, "hooks stay behind"


def test_pairs_and_their_loss(model, tmp_path):
    made = []

    def loss(student):
        made.append(MultipleNegativesRankingLoss(student))
        return made[-1]

    with_pairs = teach_embeddings(
        model, TEXTS, arguments(tmp_path, num_train_epochs=1, max_steps=-1), loss=loss, pairs=PAIRS
    )
    without = teach_embeddings(model, TEXTS, arguments(tmp_path, num_train_epochs=1, max_steps=-1))
    assert len(made) == 1
    assert not np.allclose(with_pairs.encode(TEXTS), without.encode(TEXTS))


def test_the_weights_of_a_loss_learn_too(model, tmp_path):
    made = []

    def loss(student):
        made.append(SoftmaxLoss(student, 16, num_labels=2))
        made.append(copy.deepcopy(made[0].classifier.state_dict()))
        return made[0]

    pairs = PAIRS.add_column("label", [0, 1] * 8)
    teach_embeddings(model, TEXTS, arguments(tmp_path, num_train_epochs=1, max_steps=-1), loss=loss, pairs=pairs)
    assert not torch.equal(made[0].classifier.weight, made[1]["weight"])


@pytest.mark.parametrize("bf16", [False, True])
def test_what_the_model_is_used_with_is_kept(bf16, encoder_folder, tmp_path):
    how = {"prompts": PROMPTS, "default_prompt_name": "query", "truncate_dim": 8, "similarity_fn_name": "dot"}
    model = sentence_model(encoder_folder, **how)
    seen, encode = [], type(model[0]).preprocess
    args = arguments(tmp_path, bf16=bf16)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            type(model[0]),
            "preprocess",
            lambda self, inputs, prompt=None, **how: (
                seen.append((len(inputs), prompt)) or encode(self, inputs, prompt=prompt, **how)
            ),
        )
        taught = teach_embeddings(model, TEXTS, args)
    asked, taught_with = ({prompt for number, prompt in seen if number == size} for size in (8, 16))
    assert PROMPTS["query"] in asked, "a card looks at texts too, without a prompt"
    assert taught_with == {PROMPTS["query"]}, "texts are taught as they are embedded"
    assert {name: getattr(taught, name) for name in how} == how
    assert not args.prompts
    assert model.truncate_dim == 8
    assert taught.encode(TEXTS).shape == (64, 8)
    assert taught.dtype == torch.float32


def test_a_card_says_how_it_was_taught(model, tmp_path):
    taught = teach_embeddings(model, TEXTS, arguments(tmp_path / "out"))
    taught.save_pretrained(str(tmp_path / "taught"))
    assert "TeachingLoss" in (tmp_path / "taught" / "README.md").read_text()


def larger(folder):
    return sentence_model(folder, BertModel(BertConfig(**{**SIZES, "hidden_size": 32}, num_hidden_layers=1)))


REFUSED = {
    "no texts": ([], {}, ProfileError, "at least 3 different texts for teaching; got 0"),
    "a text": ("a film", {}, ProfileError, "texts must be a list of texts; got str"),
    "the same text": (["a film"] * 5, {}, ProfileError, "at least 3 different texts for teaching; got 1 among 5"),
    "a large dimension": (TEXTS, {"dimensions": [32]}, ProfileError, r"dimensions must lie in \[1, 16\].*got 32"),
    "no weight": (TEXTS, {"weights": "some"}, ValueError, "weights must be .* got 'some'"),
    "less than nothing": (TEXTS, {"similarities": -1}, ValueError, "similarities must be a finite number >= 0; got -1"),
    "a loss alone": (TEXTS, {"loss": CoSENTLoss}, ValueError, "loss and pairs belong together; got only loss"),
    "pairs alone": (TEXTS, {"pairs": PAIRS}, ValueError, "loss and pairs belong together; got only pairs"),
    "a loss of another model": (
        TEXTS,
        {"loss": CoSENTLoss(model=None), "pairs": PAIRS},
        TypeError,
        r"loss must be a function from the copy to its loss \(lambda student: CoSENTLoss\(student\)\); got one",
    ),
    "twice": (
        TEXTS,
        {"loss": CachedMultipleNegativesRankingLoss, "pairs": PAIRS},
        ValueError,
        "loss must embed its texts once .* CachedMultipleNegativesRankingLoss does it again in its backward pass",
    ),
    "a longer teacher": (
        TEXTS,
        {"teacher": larger},
        ValueError,
        "embeddings of the teacher must have the dimension of the model's, 16; got 32",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name, model, tmp_path):
    given, how, error, text = REFUSED[name]
    how = {key: value(tmp_path / "other") if value is larger else value for key, value in how.items()}
    with pytest.raises(error, match=text):
        teach_embeddings(model, given, arguments(tmp_path), **how)


def test_arguments_of_another_trainer_are_refused(model, tmp_path):
    plain = TrainingArguments(str(tmp_path), use_cpu=True, report_to="none")
    with pytest.raises(TypeError, match="args must be SentenceTransformerTrainingArguments; got TrainingArguments"):
        teach_embeddings(model, TEXTS, plain)


def test_weights_that_are_no_numbers_are_refused(model, tmp_path):
    how = arguments(tmp_path, learning_rate=1e38, max_grad_norm=0.0, lr_scheduler_type="constant")
    with pytest.raises(FinetuningError, match=r"trained weights must be finite numbers.*lower learning rate"):
        teach_embeddings(model, TEXTS, how)


def test_a_teacher_that_says_the_same_of_all_is_refused(model, tmp_path):
    teacher = truncate(model, 3)
    with torch.no_grad():
        teacher[0].model.encoder.layer[-1].output.LayerNorm.weight.zero_()
    with pytest.raises(ProfileError, match="similarities of full depth must differ"):
        teach_embeddings(model, TEXTS, arguments(tmp_path), teacher=teacher)


def test_a_weight_of_a_depth_that_the_class_has_not_is_refused(tmp_path):
    model = build(tmp_path / "modern", "final-norm")
    with pytest.raises(DepthError, match=r"depth must lie in \[1, 3\] for ModernBertModel, which needs a layer; got 0"):
        teach_embeddings(model, TEXTS, arguments(tmp_path), weights=[0.25] * 4)
    teach_embeddings(model, TEXTS, arguments(tmp_path))


def test_a_training_goes_on(model, tmp_path):
    how = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2}
    whole = teach_embeddings(model, TEXTS, arguments(tmp_path, **how))
    again = arguments(tmp_path, **how, resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    np.testing.assert_allclose(teach_embeddings(model, TEXTS, again).encode(TEXTS), whole.encode(TEXTS), atol=1e-6)
    assert SentenceTransformer(str(tmp_path / "checkpoint-2"), device="cpu").encode(TEXTS).shape == (64, 16)
