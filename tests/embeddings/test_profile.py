"""What the embeddings of every depth are worth: each number is the one of the model that is cut."""

import numpy as np
import pytest
import torch
from scipy import stats
from sentence_transformers.base.evaluation import SequentialEvaluator
from sentence_transformers.sentence_transformer.evaluation import (
    BinaryClassificationEvaluator,
    EmbeddingSimilarityEvaluator,
    InformationRetrievalEvaluator,
    MSEEvaluator,
    ParaphraseMiningEvaluator,
    RerankingEvaluator,
    TranslationEvaluator,
    TripletEvaluator,
)

from acn_hf import (
    DepthError,
    DepthProfile,
    EmbeddingGrid,
    measure_depth_cost,
    measure_embedding_profile,
    plot_depth_profile,
    truncate,
    write_model_card,
)
from acn_hf.depth import ProfileError, doubts_about
from tests.support.sentence_models import sentence_model, texts

TEXTS = texts(24)
HALF, REST = TEXTS[:12], TEXTS[12:]
SCORES = np.random.default_rng(0).random(12).tolist()


def similarity(**how):
    return EmbeddingSimilarityEvaluator(HALF, REST, SCORES, **how)


def retrieval():
    queries = {str(number): text for number, text in enumerate(HALF)}
    corpus = {str(number): text for number, text in enumerate(TEXTS)}
    return InformationRetrievalEvaluator(
        queries, corpus, {query: {"13", "7"} for query in queries}, corpus_chunk_size=5
    )


def reranking():
    rows = [{"query": one, "positive": [two], "negative": TEXTS[5:9]} for one, two in zip(HALF[:4], REST, strict=False)]
    return RerankingEvaluator(rows)


EVALUATORS = {
    "similarity": lambda _: similarity(name="films"),
    "several similarities": lambda _: similarity(similarity_fn_names=["cosine", "dot", "euclidean"]),
    "int8": lambda _: similarity(precision="int8"),
    "binary": lambda _: similarity(precision="binary"),
    "truncated": lambda _: similarity(truncate_dim=6),
    "binary classes": lambda _: BinaryClassificationEvaluator(HALF, REST, [0, 1] * 6),
    "triplets": lambda _: TripletEvaluator(TEXTS[:8], TEXTS[8:16], TEXTS[16:]),
    "retrieval": lambda _: retrieval(),
    "reranking": lambda _: reranking(),
    "mse": lambda model: MSEEvaluator(TEXTS, TEXTS, teacher_model=model),
    "translation": lambda _: TranslationEvaluator(HALF, REST),
    "paraphrases": lambda _: ParaphraseMiningEvaluator(
        {str(number): text for number, text in enumerate(TEXTS)}, [("0", "12"), ("1", "13")]
    ),
    "a function": lambda _: lambda model: float(model.encode(TEXTS)[:, 0].mean()),
    "several": lambda _: SequentialEvaluator([similarity(), retrieval()]),
}


def main_score(evaluator, model):
    result = evaluator(model)
    return result[evaluator.primary_metric] if isinstance(result, dict) else result


@pytest.mark.parametrize("name", EVALUATORS)
def test_any_evaluator(name, model):
    evaluator = EVALUATORS[name](model)
    profile = measure_embedding_profile(model, evaluator)
    assert profile.depths == (0, 1, 2, 3)
    expected = [main_score(evaluator, truncate(model, depth)) for depth in profile.depths]
    np.testing.assert_allclose(profile.values, expected, atol=2e-3 if name == "int8" else 1e-5)
    assert profile.num_examples <= len(TEXTS) * (2 if name in ("retrieval", "reranking", "several") else 1)
    cut = [sum(weight.numel() for weight in truncate(model, depth).parameters()) for depth in profile.depths]
    assert profile.num_parameters == tuple(cut)
    assert not model.model_card_data.eval_results_dict


def test_the_texts_of_an_evaluator_are_encoded_once(model):
    seen, preprocess = [], model.preprocess
    model.preprocess = lambda inputs, *args, **how: seen.extend(inputs) or preprocess(inputs, *args, **how)
    measure_embedding_profile(model, similarity(), dimensions=[16, 4])
    assert sorted(seen) == sorted(TEXTS)


def test_another_score_of_an_evaluator(model):
    profile = measure_embedding_profile(model, similarity(), metric="pearson_cosine", depths=[1])
    assert profile.metric == "pearson_cosine"
    assert profile.values[0] == pytest.approx(similarity()(truncate(model, 1))["pearson_cosine"], abs=1e-6)


def test_what_an_evaluator_says_of_its_direction(model):
    evaluator = similarity()
    evaluator.greater_is_better = False
    assert not measure_embedding_profile(model, evaluator).greater_is_better
    assert measure_embedding_profile(model, evaluator, greater_is_better=True).greater_is_better


def correlations(model, reference, texts):
    """Return the rank correlation of the similarities of all pairs, at each depth, by a plain loop."""

    def pairs(one):
        matrix = one.similarity(*[one.encode(texts)] * 2).numpy()
        return [matrix[i, j] for i in range(len(texts)) for j in range(i + 1, len(texts))]

    wanted = pairs(reference)
    return [stats.spearmanr(wanted, pairs(truncate(model, depth))).statistic for depth in range(4)]


def overlaps(model, reference, texts, number):
    """Return the mean share of nearest neighbours that are kept, at each depth, by a plain loop."""

    def nearest(one):
        matrix = one.similarity(*[one.encode(texts)] * 2).numpy()
        np.fill_diagonal(matrix, -np.inf)
        return [set(row) for row in (-matrix).argsort(axis=1)[:, :number]]

    wanted = nearest(reference)
    found = [nearest(truncate(model, depth)) for depth in range(4)]
    return [np.mean([len(a & b) / number for a, b in zip(wanted, one, strict=True)]) for one in found]


@pytest.mark.parametrize("function", ["cosine", "dot", "euclidean", "manhattan"])
def test_against_full_depth(function, model):
    model.similarity_fn_name = function
    profile = measure_embedding_profile(model, TEXTS, reference="self")
    np.testing.assert_allclose(profile.values, correlations(model, model, TEXTS), atol=1e-3)
    assert profile.values[-1] == pytest.approx(1.0)
    profile = measure_embedding_profile(model, TEXTS, reference="self", metric="neighbours", neighbours=4)
    np.testing.assert_allclose(profile.values, overlaps(model, model, TEXTS, 4), atol=0.02)
    assert profile.values[-1] == 1.0


def test_against_another_model(model, tmp_path):
    torch.manual_seed(1)
    other = truncate(model, 3)
    with torch.no_grad():
        for weight in other.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.1)
    other.train()
    profile = measure_embedding_profile(model, TEXTS, reference=other)
    assert other.training
    assert profile.values[-1] < 0.999
    np.testing.assert_allclose(profile.values, correlations(model, other, TEXTS), atol=1e-3)


def test_a_sample_is_the_same_each_time(model):
    how = {"reference": "self", "metric": "neighbours", "neighbours": 3}
    every = measure_embedding_profile(model, TEXTS, **how)
    few = measure_embedding_profile(model, TEXTS, sample=6, **how)
    assert few == measure_embedding_profile(model, TEXTS, sample=6, **how)
    assert few.values != every.values
    assert few.num_examples == every.num_examples == 24
    shares = every.evidence.arrays(1)[0]
    drawn = np.sort(np.random.default_rng(0).choice(24, 6, replace=False))
    assert np.array_equal(few.evidence.arrays(1)[0], shares[drawn])


def test_texts_that_occur_twice_count_once(model):
    twice = measure_embedding_profile(model, [*TEXTS, *TEXTS[:7]], reference="self")
    assert twice == measure_embedding_profile(model, TEXTS, reference="self")


def test_a_depth_that_tells_no_texts_apart(tmp_path):
    model = sentence_model(tmp_path, pooling="cls")  # at depth 0 the first token is the same in all texts
    assert measure_embedding_profile(model, TEXTS, reference="self").values[0] == 0.0


def test_a_grid_of_depths_and_dimensions(model, tmp_path):
    grid = measure_embedding_profile(model, TEXTS, reference="self", dimensions=[4, 16, 8])
    assert grid.dimensions == (16, 8, 4)
    assert grid.at(16) == measure_embedding_profile(model, TEXTS, reference="self")
    full = model.encode(TEXTS)
    short = truncate(model, 2)
    short.truncate_dim = 4
    wanted, found = (
        model.similarity(embeddings, embeddings).numpy()[np.triu_indices(24, 1)]
        for embeddings in (full, short.encode(TEXTS))
    )
    assert grid.at(4).value_at(2) == pytest.approx(stats.spearmanr(wanted, found).statistic, abs=1e-6)
    grid.save(tmp_path / "grid.json")
    assert EmbeddingGrid.load(tmp_path / "grid.json") == grid
    assert grid.effective_depth(4, 0.01) == 3
    assert grid.effective_depth(16, 2.0) == 0
    lines = str(grid).splitlines()
    assert f"{grid.at(4).value_at(1):.4f}" in next(line for line in lines if line.startswith("│     1"))


def test_a_grid_is_one_of_equals(model):
    first, second = (measure_embedding_profile(model, TEXTS, reference="self", depths=[one]) for one in (1, 2))
    with pytest.raises(ProfileError, match="must have the same depths and metric"):
        EmbeddingGrid((16, 8), (first, second))
    with pytest.raises(ProfileError, match=r"one profile for each of its dimensions; got 1 for \(16, 8\)"):
        EmbeddingGrid((16, 8), (first,))
    with pytest.raises(ProfileError, match=r"must descend; got \(8, 16\)"):
        EmbeddingGrid((8, 16), (first, first))
    with pytest.raises(ProfileError, match=r"one of those measured, \(16,\); got 8"):
        EmbeddingGrid((16,), (first,)).at(8)


def test_it_is_a_profile_as_any_other(model, tmp_path):
    profile = measure_embedding_profile(model, TEXTS, reference="self", metric="neighbours", neighbours=5)
    assert profile.effective_depth(0.9, confidence=0.9) < 3
    assert profile.effective_depth(0.0, confidence=0.9) == 3
    low, high = profile.loss_interval(1)
    assert low <= 1 - profile.value_at(1) <= high
    profile.save(tmp_path / "profile.json")
    assert DepthProfile.load(tmp_path / "profile.json") == profile
    assert not any("label" in doubt for doubt in doubts_about(profile, 0.1, 2))
    assert plot_depth_profile(profile).get_ylabel()
    cost = measure_depth_cost(model.transformers_model, batch_size=1, warmup=0, repeats=2)
    assert profile.within(cost, max_parameters=profile.num_parameters[2]) == 2
    truncate(model, 2).save_pretrained(str(tmp_path / "short"))
    write_model_card(tmp_path / "short", truncate(model, 2).transformers_model, profile=profile)
    card = (tmp_path / "short" / "README.md").read_text()
    assert "SentenceTransformer(" in card
    assert "library_name: sentence-transformers" in card
    assert "pipeline_tag: sentence-similarity" in card
    assert "- acn-hf" in card
    assert f"| **2** | **{profile.value_at(2):.4f}** |" in card


def test_where_there_is_no_evidence_it_says_so(model):
    pairs = measure_embedding_profile(model, TEXTS, reference="self")
    with pytest.raises(ProfileError, match="a correlation of all pairs does not have; metric='neighbours' has some"):
        pairs.effective_depth(0.5, confidence=0.9)
    scored = measure_embedding_profile(model, similarity())
    with pytest.raises(ProfileError, match="which an evaluator does not show: it gives one score for all of them"):
        scored.loss_interval(1)
    assert scored.effective_depth(2.0) == 0


def nameless(model):
    return {"this": float(model.encode(TEXTS)[0, 0]), "that": 1.0}


def blind(model):
    return 1.0


def undefined(model):
    return float("nan") if abs(model.encode(TEXTS)).sum() > 0 else 0.0


SELF = {"reference": "self"}
NEAR = {**SELF, "metric": "neighbours"}
REFUSED = {
    "no texts": ([], SELF, "at least 3 different texts for 'spearman'; got 0$"),
    "one text": (["a film"], SELF, "at least 3 different texts for 'spearman'; got 1$"),
    "the same text": (["a film"] * 9, SELF, "at least 3 different texts for 'spearman'; got 1 among 9$"),
    "no neighbours to miss": (TEXTS[:11], NEAR, "at least 12 different texts for 'neighbours'; got 11$"),
    "a text": ("a film", SELF, "data must be texts where reference is not 'evaluator'; got str"),
    "numbers": ([1, 2, 3], SELF, "data must be texts where reference is not 'evaluator'; one is int"),
    "texts for an evaluator": (TEXTS, {}, "data must be an evaluator.* give reference='self'. Got list"),
    "an evaluator for texts": (similarity(), SELF, "data must be texts .* got EmbeddingSimilarityEvaluator"),
    "no such reference": (TEXTS, {"reference": "me"}, "'evaluator', 'self' or a SentenceTransformer; got 'me'"),
    "no such metric": (TEXTS, {**SELF, "metric": "f1"}, "'spearman' or 'neighbours' for plain texts; got 'f1'"),
    "no neighbours": (TEXTS, {**NEAR, "neighbours": 0}, "neighbours must be 1 or more.* got 0 and 1000"),
    "no sample": (TEXTS, {**SELF, "sample": 2}, "sample 3 or more; got 10 and 2"),
    "a large dimension": (TEXTS, {**SELF, "dimensions": [8, 17]}, r"dimensions must lie in \[1, 16\].* got 17"),
    "no dimension": (TEXTS, {**SELF, "dimensions": []}, r"dimensions must lie in \[1, 16\].* got none"),
    "two dimensions": (similarity(truncate_dim=4), {"dimensions": [8]}, "does not cut .* truncate_dim=4"),
    "no main score": (nameless, {}, r"must have a main score \(primary_metric\).*; nameless gives this, that"),
    "no such score": (nameless, {"metric": "it"}, "metric must be one of the scores of nameless, this, that; got 'it'"),
    "one score": (undefined, {"metric": "it"}, "for an evaluator with several scores; undefined gives one"),
    "blind": (blind, {}, "must embed texts by the model that it is given; blind did not"),
    "undefined": (undefined, {}, "the score of undefined must be a finite number; got nan at depth 0"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name, model):
    data, how, text = REFUSED[name]
    with pytest.raises(ProfileError, match=text):
        measure_embedding_profile(model, data, **how)


def test_full_depth_must_tell_texts_apart(model):
    with torch.no_grad():
        model[0].model.encoder.layer[-1].output.LayerNorm.weight.zero_()
    with pytest.raises(ProfileError, match="for depths to keep them; all of 276 are 0"):
        measure_embedding_profile(model, TEXTS, reference="self")


def test_depths_that_the_model_has_not(model):
    with pytest.raises(DepthError, match=r"depth must lie in \[0, 3\].*got 4"):
        measure_embedding_profile(model, TEXTS, reference="self", depths=[4])
