"""The facts a model card is made of, and where each of them comes from."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedConfig, PreTrainedModel, TrainingArguments

from ..depth.cost import Cost
from ..depth.profile import DepthProfile
from ..depth.stack import find_stack
from ..embeddings.loading import is_sentence_transformer
from ..modeling.configuration_acn import AcnConfig
from ..support.auto_classes import auto_class_of, task_of
from ..support.records import Record
from ..support.sentence_models import inner_model
from ..support.wrappers import is_sentence_model
from .compressed import Compressed, CompressionFacts

RECORD_FILE = "model_card.json"

AROUND = "sentence-transformers"
"""A library whose models hold one of transformers."""

TRAINING_FIELDS = (
    "num_train_epochs",
    "max_steps",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "learning_rate",
    "lr_scheduler_type",
    "warmup_steps",
    "weight_decay",
    "optim",
    "adam_beta1",
    "adam_beta2",
    "adam_epsilon",
    "max_grad_norm",
    "label_smoothing_factor",
    "bf16",
    "fp16",
    "seed",
)
"""What of `TrainingArguments` decides how a model turns out; folders, tokens and logging stay out of a card."""

_LABELS = {"results": ("dataset", "dataset_id", "results_split"), "profile": ("dataset", "dataset_id", "split")}
"""What says which data the numbers are of."""

_PROCESSOR_FILES = {
    "processor_config.json": "AutoProcessor",
    "preprocessor_config.json": "AutoImageProcessor",
    "tokenizer_config.json": "AutoTokenizer",
}


PIPELINE_TAGS = {
    "AcnBertModel": "feature-extraction",
    "AcnBertForMaskedLM": "fill-mask",
    "AcnBertForSequenceClassification": "text-classification",
    "AcnBertForTokenClassification": "token-classification",
    "AcnBertForQuestionAnswering": "question-answering",
    "AcnBertForMultipleChoice": "multiple-choice",
    "AcnDeiTModel": "image-feature-extraction",
    "AcnDeiTForImageClassification": "image-classification",
    "AcnDeiTForImageClassificationWithTeacher": "image-classification",
    "AcnMixerModel": "image-feature-extraction",
    "AcnMixerForImageClassification": "image-classification",
    "AcnViTModel": "image-feature-extraction",
    "AcnViTForImageClassification": "image-classification",
}
"""Task on the Hub of each class; for the classes that are missing, the Hub has none."""


@dataclass(frozen=True)
class CardFacts(Record):
    """What a model card says. What is not here is not in the card.

    Args:
        name (`str`): The title.
        config (`dict`): Of the model, with its class in `architectures`.
        repo_id (`str`, *optional*): Where the model lies on the Hub.
        processor (`str`, *optional*): Auto class of the tokenizer or image processor that lies beside the model.
        profile (`DepthProfile`, *optional*): The metric at every depth of the model before it was cut.
        cost_before (`Cost`, *optional*): Of the model before it was cut.
        cost_after (`Cost`, *optional*): Of this model.
        finetuned (`float`, *optional*): The metric of the profile, of this model, healed or fine-tuned after the cut.
        compression (`CompressionFacts`, *optional*): What else is known of how it was compressed.
        test_data (`str`, *optional*): What the test figures of the compression were measured on.
        training (`dict`, *optional*): Training arguments.
        description (`str`, *optional*): Free text, Markdown.
        dataset (`str`, *optional*): Name of the data set.
        dataset_id (`str`, *optional*): Its id on the Hub.
        split (`str`, *optional*): What the profile was measured on, for example `"validation"`.
        results (`dict` of `float`, *optional*): Metrics of this model on data that no choice was made on.
        results_split (`str`, *optional*): What these were measured on, for example `"test"`.
        base_model (`str`, *optional*): Id on the Hub of the model that this one was made from.
        license (`str`, *optional*): As the Hub spells it, for example `"apache-2.0"`.
        language (`str`, *optional*): Code of the language of the texts, for example `"en"`.
        library (`str`, *optional*): What reads the model, if it is not transformers itself: `"sentence-transformers"`.

    Raises:
        ValueError: The config names no class that an Auto class serves, its depth is not one of those that the profile
            measured, or `finetuned` is given without the profile that says which metric it is.
    """

    _records: ClassVar[dict[str, type[Record]]] = {
        "profile": DepthProfile,
        "cost_before": Cost,
        "cost_after": Cost,
        "compression": CompressionFacts,
    }

    name: str
    config: dict[str, Any]
    repo_id: str | None = None
    processor: str | None = None
    profile: DepthProfile | None = None
    cost_before: Cost | None = None
    cost_after: Cost | None = None
    finetuned: float | None = None
    compression: CompressionFacts | None = None
    test_data: str | None = None
    training: dict[str, Any] | None = None
    description: str | None = None
    dataset: str | None = None
    dataset_id: str | None = None
    split: str | None = None
    results: dict[str, float] | None = None
    results_split: str | None = None
    base_model: str | None = None
    license: str | None = None
    language: str | None = None
    library: str | None = None

    def __post_init__(self) -> None:
        if self.auto_class is None:
            raise ValueError(
                "the config of a card must name a class in `architectures` that an Auto class serves; "
                f"got {self.config.get('architectures')} of model_type {self.config.get('model_type')!r}"
            )
        if self.profile is not None and self.depth not in self.profile.depths:
            raise ValueError(
                f"the profile of a card must hold the depth of its model, {self.depth}; it holds {self.profile.depths}"
            )
        if self.finetuned is not None and self.profile is None:
            raise ValueError(f"finetuned needs the profile, which names its metric; got {self.finetuned} without one")

    @property
    def architecture(self) -> str:
        """Name of the model's class."""
        return (self.config.get("architectures") or [""])[0]

    @property
    def auto_class(self) -> str | None:
        """Name of the Auto class that loads the model with its head."""
        known = self.config.get("model_type") in CONFIG_MAPPING
        kind: Any = CONFIG_MAPPING[self.config["model_type"]] if known else type(None)
        return (
            kind.auto_class_of(self.architecture) if issubclass(kind, AcnConfig) else auto_class_of(self.architecture)
        )

    @property
    def is_acn(self) -> bool:
        """Whether the model is one of acn_hf, and not of transformers alone."""
        return "residual_scale" in self.config

    @property
    def task(self) -> str | None:
        """What the Hub calls the task of the model, if it has a name for it."""
        if self.library is not None:
            return "sentence-similarity"
        if self.is_acn:
            return PIPELINE_TAGS.get(self.architecture)
        return task_of(self.auto_class, self.config.get("main_input_name"))

    @property
    def depth(self) -> int:
        """Number of layers of the model."""
        return self.config["num_hidden_layers"]

    @property
    def full_depth(self) -> int:
        """Number of layers before the model was cut."""
        if self.is_acn or self.profile is None:
            return self.config.get("original_num_hidden_layers") or self.depth
        return self.profile.depths[-1]

    @property
    def value(self) -> float | None:
        """The metric of the profile, of this model: healed or fine-tuned if it was, else as it was cut."""
        if self.profile is None:
            return None
        return self.profile.value_at(self.depth) if self.finetuned is None else self.finetuned

    @property
    def is_residual(self) -> bool:
        """Whether every layer keeps its short connections whole, so that the network is a residual one."""
        if self.config.get("learn_residual_scale"):
            return False
        scale = self.config.get("residual_scale", 0.0)
        return all(one == 1 for one in (scale if isinstance(scale, list) else [scale]))


def config_fields(source: Any) -> dict[str, Any]:
    """Return what a card keeps of a config: what JSON can hold, without versions and places.

    Of a model that is not an ACN the number of layers is added under that name, whatever its class calls it. Of a
    SentenceTransformer it is the config of the transformer inside.
    """
    source = inner_model(source) if is_sentence_model(source) else source
    is_model = isinstance(source, PreTrainedModel)
    config = source.config if is_model else source
    if not isinstance(config, PreTrainedConfig):
        raise TypeError(
            f"a card is that of a model of transformers or its config; got {type(source).__name__} "
            "(an adapter is merged first: merge_and_unload() of peft)"
        )
    fields = json.loads(config.to_json_string(use_diff=False))
    if is_model:
        fields |= {"architectures": [type(source).__name__], "main_input_name": source.main_input_name}
    if not isinstance(config, AcnConfig):
        counted = find_stack(source).config if is_model else config
        fields["num_hidden_layers"] = getattr(counted, "num_hidden_layers", None)
        if fields["num_hidden_layers"] is None:
            raise TypeError(f"the config {type(config).__name__} counts no layers; give the model itself")
    else:
        fields.pop("main_input_name", None)
    dropped = ("transformers_version", "auto_map")
    return {name: value for name, value in fields.items() if name not in dropped and not name.startswith("_")}


def training_fields(arguments: TrainingArguments | dict[str, Any]) -> dict[str, Any]:
    """Return what a card keeps of training arguments; a dictionary is taken as it is."""
    if isinstance(arguments, dict):
        return dict(arguments)
    stored = arguments.to_dict()
    fields = {name: stored[name] for name in TRAINING_FIELDS if name in stored}
    fields.pop("num_train_epochs" if arguments.max_steps > 0 else "max_steps")
    return fields


def processor_in(folder: Path) -> str | None:
    """Return the Auto class of the tokenizer or image processor in a folder."""
    return next((auto for name, auto in _PROCESSOR_FILES.items() if (folder / name).is_file()), None)


def facts_in(folder: Path) -> CardFacts | None:
    """Return the record that a card in this folder was rendered from, if there is one."""
    return CardFacts.load(folder / RECORD_FILE) if (folder / RECORD_FILE).is_file() else None


def collect(
    folder: Path,
    source: Any = None,
    *,
    result: Compressed | None = None,
    training: TrainingArguments | dict[str, Any] | None = None,
    **given: Any,
) -> CardFacts:
    """Return the facts of a card; see [`write_model_card`].

    Raises:
        OSError: Nothing is given, and there is no folder, or it holds neither record nor config.
        TypeError: `source` is no ACN, or a fact has a name that `CardFacts` does not have.
        ValueError: The facts name other data than those that numbers, which are not given, were measured on.
    """
    known = {field.name for field in dataclasses.fields(CardFacts)} - {"config"}
    if unknown := sorted(set(given) - known):
        raise TypeError(f"a card's facts must be among {', '.join(sorted(known))}; got {', '.join(unknown)}")
    facts: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if training is not None:
        facts["training"] = training_fields(training)
    if result is not None:
        source = result.model if source is None else source
        measured = {name: getattr(result, name) for name in ("profile", "cost_before", "cost_after", "finetuned")}
        facts = {**measured, "compression": CompressionFacts.of(result), **facts}
    if isinstance(source, CardFacts) or (source is None and (folder / RECORD_FILE).is_file()):
        return _updated(source or CardFacts.load(folder / RECORD_FILE), facts)
    if source is None and not folder.is_dir():
        raise NotADirectoryError(f"the folder of a checkpoint must be there to have a card; {folder} is no folder")
    config = AutoConfig.from_pretrained(folder) if source is None else source
    if is_sentence_model(source) or (source is None and is_sentence_transformer(folder)):
        facts.setdefault("library", AROUND)
    facts.setdefault("name", facts.get("repo_id", folder.absolute().name).split("/")[-1])
    facts.setdefault("processor", processor_in(folder))
    return CardFacts(config=config_fields(config), **facts)


def _updated(known: CardFacts, facts: dict[str, Any]) -> CardFacts:
    """Return what is known with other facts; numbers are not said to be of other data than they were."""
    for numbers, labels in _LABELS.items():
        if getattr(known, numbers) is None or numbers in facts:
            continue
        for label in labels:
            before, now = getattr(known, label), facts.get(label)
            if None not in (before, now) and before != now:
                raise ValueError(
                    f"the {numbers} that the card has must keep their {label}, {before!r}; got {now!r} without the "
                    f"{numbers} measured there"
                )
    if facts.get("profile", known.profile) != known.profile:  # what came after belongs to the earlier one
        facts = {"finetuned": None, "compression": None, "test_data": None, **facts}
    return dataclasses.replace(known, **facts)
