"""`compress_embeddings`: the short SentenceTransformer, what is said of it, and what is refused."""

import json

import numpy as np
import pytest
import torch
from sentence_transformers import CrossEncoder, SentenceTransformer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.evaluation import EmbeddingSimilarityEvaluator
from transformers import BertConfig, BertForSequenceClassification, BertModel

from acn_hf import (
    AcnBertConfig,
    AcnBertModel,
    BudgetError,
    CompressionResult,
    DepthError,
    compress_embeddings,
    measure_embedding_profile,
    truncate,
)
from acn_hf.compression.embedding_job import EmbeddingJob
from acn_hf.depth import ProfileError, layers_of
from acn_hf.support.sentence_models import inner_model
from acn_hf.training.stages import StageError, Stages
from tests.support.sentence_models import PROMPTS, SIZES, sentence_model, texts, transformer_folder

DATA, TRAIN, TEST = texts(60), texts(80, seed=1), texts(40, seed=2)
pytestmark = pytest.mark.filterwarnings("ignore:.pin_memory. argument is set as true")


def arguments(folder, **how):
    how = {"num_train_epochs": 1, "per_device_train_batch_size": 16, "learning_rate": 3e-3, **how}
    quiet = {"report_to": "none", "disable_tqdm": True, "use_cpu": True, "logging_strategy": "no"}
    return SentenceTransformerTrainingArguments(str(folder), save_strategy="no", **quiet, **how)


@pytest.fixture
def calm(tmp_path):
    """A model that learns without dropout."""
    torch.manual_seed(0)
    without = {"hidden_dropout_prob": 0, "attention_probs_dropout_prob": 0}
    config = BertConfig(**SIZES, num_hidden_layers=3, initializer_range=0.2, **without)
    return sentence_model(tmp_path / "calm", BertModel(config), prompts=PROMPTS)


def similarity():
    return EmbeddingSimilarityEvaluator(DATA[:20], DATA[20:40], [number / 20 for number in range(20)])


def test_without_training_it_is_measured_and_cut(model):
    result = compress_embeddings(model, DATA, tolerance=1.0)
    assert result.depth == 0
    assert (result.profile.metric, result.full_value) == ("neighbours", 1.0)
    expected = measure_embedding_profile(model, DATA, reference=model, metric="neighbours")
    assert result.profile.values == expected.values
    assert result.before is None
    assert (result.finetuned, result.healed) == (None, {})
    assert np.array_equal(result.model.encode(TEST), truncate(model, 0).encode(TEST))


def test_a_text_may_lose_every_twentieth_neighbour(model):
    profile = measure_embedding_profile(model, DATA, reference=model, metric="neighbours")
    assert compress_embeddings(model, DATA).depth == profile.effective_depth(0.05)


def test_every_stage(calm, tmp_path):
    before = {name: value.clone() for name, value in calm.state_dict().items()}
    how = {
        "train": TRAIN,
        "teach": arguments(tmp_path / "taught", num_train_epochs=6),
        "heal": lambda number: arguments(tmp_path / f"healed-{number}", num_train_epochs=3),
        "test": TEST,
    }
    noted = []
    result = compress_embeddings(calm, DATA, tolerance=0.4, note=noted.append, **how)
    assert isinstance(result, CompressionResult)
    assert type(result.model) is SentenceTransformer
    assert not result.model.training
    assert len(result.model[0].model.encoder.layer) == result.depth < 3
    assert result.model.prompts == PROMPTS
    assert all(torch.equal(before[name], value) for name, value in calm.state_dict().items())
    assert result.before.values[-1] == result.full_value == 1.0
    assert set(result.seconds) >= {"taught", f"healed-{result.depth}", "measured", "tested", "cost"}
    assert result.training["taught"]["num_train_epochs"] == 6
    assert result.training[f"healed-{result.depth}"]["num_train_epochs"] == 3
    assert (result.test.full, result.test.num_examples, result.test.metric) == (1.0, 40, "neighbours")
    low, high = result.interval
    assert low <= 1 - result.value <= high
    assert result.doubts == tuple(noted)
    tested = measure_embedding_profile(result.model, TEST, reference=calm, metric="neighbours", depths=[])
    assert result.test.short == tested.values[-1]
    measured = measure_embedding_profile(result.model, DATA, reference=calm, metric="neighbours", depths=[])
    assert result.value == measured.values[-1]
    assert "neighbours" in str(result)
    json.dumps(result.to_dict())


@pytest.mark.slow
def test_teaching_and_healing_help(calm, tmp_path):
    cut = compress_embeddings(calm, DATA, depth=1)
    teach, heal = (
        {"train": TRAIN, name: arguments(tmp_path / name, num_train_epochs=20)} for name in ("teach", "heal")
    )
    taught = compress_embeddings(calm, DATA, depth=1, **teach)
    healed = compress_embeddings(calm, DATA, depth=1, **heal)
    both = compress_embeddings(calm, DATA, depth=1, **teach, heal=heal["heal"])
    assert cut.value < taught.value
    assert cut.value < healed.value
    assert both.value == max(taught.value, healed.value)


@pytest.mark.parametrize("is_acn", [False, True])
def test_what_is_healed_begins_with_layers_from_all_over_the_model(calm, tmp_path, monkeypatch, is_acn):
    if is_acn:
        sizes = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "vocab_size": 64}
        calm = sentence_model(tmp_path / "acn", AcnBertModel(AcnBertConfig(**sizes, num_hidden_layers=3)))
    students = {}

    def taught(job, student, maker, weights):
        first = layers_of(inner_model(student))[0]
        students[weights] = {name: value.clone() for name, value in first.state_dict().items()}
        with torch.no_grad():  # else the taught and the original have the same layers
            next(first.parameters()).add_(1.0)
        return student

    monkeypatch.setattr(EmbeddingJob, "taught", taught)
    how = {"train": TRAIN, "teach": arguments(tmp_path / "t"), "heal": arguments(tmp_path / "h")}
    compress_embeddings(calm, DATA, depth=1, **how)
    layers = layers_of(inner_model(calm))
    wanted = layers[2].state_dict()
    if is_acn:
        wanted = layers[0].state_dict()
        wanted[next(iter(dict(layers[0].named_parameters())))] += 1.0
    assert all(torch.equal(students["full"][name], value) for name, value in wanted.items())


def test_where_nothing_is_cut_off_the_model_stays_as_it_was(calm, tmp_path):
    noted = []
    how = {"train": TRAIN, "teach": arguments(tmp_path / "t"), "heal": lambda n: arguments(tmp_path / f"h-{n}")}
    result = compress_embeddings(calm, DATA, tolerance=0.0, test=TEST, note=noted.append, **how)
    assert (result.depth, result.value, result.full_value, result.finetuned) == (3, 1.0, 1.0, None)
    assert (result.test.full, result.test.short) == (1.0, 1.0)
    assert np.array_equal(result.model.encode(TEST), calm.encode(TEST))
    assert result.before is None
    assert set(result.healed) == {2}
    assert any(
        text.startswith("no depth below 3 was chosen, and nothing is cut off: the model is as") for text in noted
    )
    assert result.model is not calm
    limited = compress_embeddings(calm, DATA, max_mb=100, train=TRAIN, teach=arguments(tmp_path / "limited"))
    assert (limited.depth, limited.tradeoffs.values[-1]) == (3, 1.0)


def test_what_comes_out_says_nothing_of_the_texts(calm, tmp_path):
    result = compress_embeddings(calm, DATA, depth=1, train=TRAIN, teach=arguments(tmp_path / "taught"))
    result.model.save_pretrained(str(tmp_path / "short"))
    card = (tmp_path / "short" / "README.md").read_text()
    assert "generated_from_trainer" not in card
    assert not [text for text in TRAIN if text in card]


def test_an_evaluator_chooses_and_texts_test(calm):
    result = compress_embeddings(calm, similarity(), tolerance=2.0, test=TEST)
    assert (result.depth, result.profile.metric) == (0, "spearman_cosine")
    assert (result.test.metric, result.test.full) == ("neighbours", 1.0)
    assert "neighbours, test data" in str(result)
    other = compress_embeddings(calm, similarity(), metric="pearson_cosine", tolerance=2.0)
    assert other.profile.metric == "pearson_cosine"


def test_a_score_that_is_good_when_low(calm):
    scores = iter([3.0, 2.0, 1.0, 0.5])

    def distance(model):
        model.encode(["a film"])
        return next(scores)

    result = compress_embeddings(calm, distance, tolerance=1.5, greater_is_better=False, test=TEST)
    assert (result.depth, result.value) == (1, 2.0)
    assert result.test.full == 1.0


def test_limits_choose(model):
    full = sum(weight.numel() for weight in model.parameters())
    result = compress_embeddings(model, DATA, max_parameters=full - 1)
    assert result.depth < 3
    assert result.tradeoffs.depths == (0, 1, 2, 3)
    assert result.cost_after.num_parameters == sum(weight.numel() for weight in result.model.parameters())
    assert result.cost_before.num_parameters == full
    with pytest.raises(BudgetError, match=r"no depth meets max_mb=0\.0001: the smallest, depth 0, has"):
        compress_embeddings(model, DATA, max_mb=0.0001)


@pytest.mark.slow
def test_another_teacher_is_what_texts_are_compared_with(calm, tmp_path):
    teacher = truncate(calm, 2)
    how = {"train": TRAIN, "teach": arguments(tmp_path, num_train_epochs=10), "teacher": teacher}
    result = compress_embeddings(calm, DATA, depth=3, **how)
    expected = measure_embedding_profile(calm, DATA, reference=teacher, metric="neighbours")
    assert result.before.values == expected.values
    assert result.value > result.full_value


def test_stages_are_stored_and_a_job_goes_on_to_the_bit(model, tmp_path, monkeypatch):
    how = {"depth": 1, "train": TRAIN, "teach": arguments(tmp_path / "a"), "heal": arguments(tmp_path / "b")}
    whole = compress_embeddings(model, DATA, **how)
    taught = EmbeddingJob.taught

    def stopped(job, student, maker, weights):
        if weights == "full":
            raise KeyboardInterrupt
        return taught(job, student, maker, weights)

    with monkeypatch.context() as patched:
        patched.setattr(EmbeddingJob, "taught", stopped)
        with pytest.raises(KeyboardInterrupt):
            compress_embeddings(model, DATA, **how, work_dir=tmp_path / "work")
    asked = []
    monkeypatch.setattr(
        Stages, "holds", lambda stages, name, holds=Stages.holds: asked.append(name) or holds(stages, name)
    )
    result = compress_embeddings(model, DATA, **how, work_dir=tmp_path / "work", resume=True)
    assert asked == ["taught", "healed-1"]
    assert np.array_equal(result.model.encode(TEST), whole.model.encode(TEST))
    assert result.profile.values == whole.profile.values
    assert result.training == whole.training
    with pytest.raises(StageError, match="resume=True goes on with it"):
        compress_embeddings(model, DATA, **how, work_dir=tmp_path / "work")
    with pytest.raises(StageError, match="the model has changed"):
        compress_embeddings(truncate(result.model, 1), DATA, **how, work_dir=tmp_path / "work", resume=True)


def test_few_texts_are_doubted(model):
    with pytest.raises(ProfileError, match="strict refuses a choice about which there are doubts"):
        compress_embeddings(model, texts(14), tolerance=1.0, strict=True)


ARGUMENTS = object()
REFUSED = {
    "no texts": ([], {}, ProfileError, "at least 12 different texts for 'neighbours'; got 0"),
    "one text": (["a film"], {}, ProfileError, "at least 12 different texts for 'neighbours'; got 1"),
    "duplicates": (["a film"] * 99, {}, ProfileError, "at least 12 different texts .* got 1 among 99"),
    "a text": ("a film", {}, ProfileError, "data must be texts .* got str"),
    "an iterator": (iter(DATA), {}, ProfileError, "data is read several times, so it must be a list of texts"),
    "no main score": (
        lambda model: {"a": float(model.encode(["a film"]).sum())},
        {},
        ProfileError,
        r"an evaluator must have a main score \(primary_metric\), or metric must name one; <lambda> gives a",
    ),
    "metric": (DATA, {"metric": "accuracy"}, ProfileError, "metric must be 'spearman' or 'neighbours' .* 'accuracy'"),
    "depth": (DATA, {"depth": 4}, DepthError, r"depth must lie in \[0, 3\] for this model; got 4"),
    "two choices": (DATA, {"depth": 1, "max_mb": 1}, ProfileError, "a depth is given, or limits that choose one"),
    "confidence": (
        similarity(),
        {"confidence": 0.9},
        ProfileError,
        "confidence needs what each text contributes, and an evaluator gives one score for all of them; got .*0.9",
    ),
    "no train": (DATA, {"teach": ARGUMENTS}, ProfileError, "teach needs train, the texts that are taught with"),
    "train alone": (DATA, {"train": TRAIN}, ProfileError, "train needs teach or heal"),
    "train of one": (DATA, {"train": ["a"], "teach": ARGUMENTS}, ProfileError, "3 different texts for teaching; got 1"),
    "test of one": (DATA, {"test": ["a"]}, ProfileError, "at least 12 different texts for a test; got 1"),
    "no arguments": (
        DATA,
        {"train": TRAIN, "teach": {"max_steps": 3}},
        TypeError,
        "teach must be SentenceTransformerTrainingArguments, or a function .* got dict",
    ),
    "teacher alone": (DATA, {"teacher": 3}, ProfileError, "a teacher needs teach or heal"),
    "teacher": (DATA, {"teacher": 3, "train": TRAIN, "teach": ARGUMENTS}, TypeError, "must be a SentenceTransformer"),
    "search": (DATA, {"choose_healed": True}, ProfileError, "so it needs heal"),
    "teaching": (
        DATA,
        {"train": TRAIN, "teach": ARGUMENTS, "teaching": {"weights": "linear"}},
        ProfileError,
        "teaching must hold arguments of teach_embeddings, dimensions, .* got weights",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_before_anything_is_trained(name, model, tmp_path, monkeypatch):
    monkeypatch.setattr(EmbeddingJob, "taught", None)
    data, given, error, text = REFUSED[name]
    given = {key: arguments(tmp_path) if value is ARGUMENTS else value for key, value in given.items()}
    with pytest.raises(error, match=text):
        compress_embeddings(model, data, **given)


def test_a_model_that_makes_no_embeddings_is_refused(tmp_path):
    classifier = BertForSequenceClassification(BertConfig(**SIZES, num_hidden_layers=1, num_labels=1))
    with pytest.raises(TypeError, match="model must be a SentenceTransformer; got CrossEncoder"):
        compress_embeddings(CrossEncoder(transformer_folder(tmp_path, classifier), device="cpu"), DATA)
    with pytest.raises(TypeError, match="model must be a SentenceTransformer; got BertForSequenceClassification"):
        compress_embeddings(classifier, DATA)
