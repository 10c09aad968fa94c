"""The metadata of a card, as the Hub reads them."""

from huggingface_hub import CardData, EvalResult, ModelCardData

from ..modeling.modeling_acn import HUB_TAGS
from .facts import AROUND, CardFacts

PLAIN_TAG = "acn-hf"
"""What the card of a model says that is of transformers alone."""

AROUND_TAGS = [AROUND, "sentence-similarity", "feature-extraction"]
"""How that library tags its models itself."""

_METRIC_IDS = {
    "answer_f1": "f1",
    "entity_f1": "f1",
    "entity_precision": "precision",
    "entity_recall": "recall",
    "f1_macro": "f1",
    "f1_micro": "f1",
    "f1_weighted": "f1",
    "mcc": "matthews_correlation",
    "r2": "r_squared",
    "pearson": "pearsonr",
    "spearman": "spearmanr",
}
"""What the Hub calls a metric that has another name here."""


def metadata(facts: CardFacts) -> ModelCardData:
    """Return the metadata of a card."""
    results = eval_results(facts)
    return ModelCardData(
        base_model=facts.base_model,
        datasets=None if facts.dataset_id is None else [facts.dataset_id],
        eval_results=results or None,
        language=facts.language,
        library_name=facts.library or "transformers",
        license=facts.license,
        metrics=sorted({result.metric_type for result in results}) or None,
        model_name=facts.name if results else None,
        pipeline_tag=facts.task,
        tags=[*(AROUND_TAGS if facts.library else ()), *(HUB_TAGS if facts.is_acn else [PLAIN_TAG])],
    )


def eval_results(facts: CardFacts) -> list[EvalResult]:
    """Return the results that the metadata hold: without a task and a data set the Hub takes none."""
    task, dataset = facts.task, facts.dataset or facts.dataset_id
    if task is None or dataset is None:
        return []
    measured = [(name, value, facts.results_split) for name, value in (facts.results or {}).items()]
    if facts.profile is not None and facts.value is not None:
        measured.append((facts.profile.metric, facts.value, facts.split))
    on_data = [(facts.dataset_id or dataset, dataset, *one) for one in measured]
    test = None if facts.compression is None else facts.compression.test
    if test is not None and facts.test_data is not None and facts.profile is not None:
        on_data.append((facts.test_data, facts.test_data, test.metric or facts.profile.metric, test.short, None))
    return [
        EvalResult(
            task_type=task,
            dataset_type=identity,
            dataset_name=where,
            dataset_split=split,
            metric_type=_METRIC_IDS.get(name, name),
            metric_name=name,
            metric_value=value,
        )
        for identity, where, name, value, split in on_data
    ]


def merged(old: CardData, new: ModelCardData, previous: CardFacts | None) -> ModelCardData:
    """Return the metadata of a card that held `old` before `new` came.

    Lists are united; elsewhere what is new wins, and what it does not say stays. A model of sentence-transformers stays
    one: its modules stand around the model of transformers that the new card is about.

    Args:
        old (`CardData`): Of the card that is there.
        new (`ModelCardData`): Of the card that is written.
        previous (`CardFacts`, *optional*): What an earlier card was rendered from, whose results go.
    """
    outdated = [] if previous is None else eval_results(previous)
    kept = [result for result in old.get("eval_results", []) if result not in outdated]
    known = {(result.unique_identifier, result.metric_name) for result in new.get("eval_results", [])}
    fields = {**old.__dict__, **{name: value for name, value in new.__dict__.items() if value is not None}}
    for name in ("tags", "datasets", "metrics"):
        fields[name] = list(dict.fromkeys([*_listed(old.get(name)), *_listed(new.get(name))])) or None
    if old.get("library_name") == AROUND:
        fields |= {name: old.get(name) for name in ("library_name", "pipeline_tag")}
    others = [result for result in kept if (result.unique_identifier, result.metric_name) not in known]
    fields["eval_results"] = [*others, *new.get("eval_results", [])] or None
    if fields["eval_results"] is None:
        fields["model_name"] = None
    return ModelCardData(**fields)


def _listed(value: str | list[str] | None) -> list[str]:
    return [value] if isinstance(value, str) else value or []
