"""Which Auto class of transformers serves a model class, and which task of the Hub that is."""

import functools

from transformers.models.auto import modeling_auto

_TASKS_WITHOUT_PIPELINE = {
    "AutoModelForMultipleChoice": "multiple-choice",
    "AutoModelForQuestionAnswering": "question-answering",
}
"""What the Hub calls tasks for which transformers 5 has no pipeline."""


def auto_class_of(model_name: str) -> str | None:
    """Return the name of the Auto class that serves a model class of transformers, or `None`.

    Of several it is the one with the name of the head, else the one that pipelines use.
    """
    serving = [auto for auto, names in _served().items() if model_name in names]
    in_pipelines = [auto for auto in serving if auto in _tasks()]
    named = [auto for auto in serving if model_name.endswith(auto.removeprefix("AutoModel")) and auto != "AutoModel"]
    return next(iter([*named, *in_pipelines, *serving]), None)


def auto_class_for(model_class: type) -> str | None:
    """Return the name of the Auto class that serves a class, one of acn_hf too, or one from which it is derived."""
    for kind in model_class.__mro__:
        config_class = kind.__dict__.get("config_class") or getattr(kind, "config_class", None)
        own = getattr(config_class, "auto_class_of", lambda name: None)(kind.__name__)
        if found := own or auto_class_of(kind.__name__):
            return found
    return None


def served_classes(auto_name: str, config_class: type) -> tuple[type, ...]:
    """Return the model classes that an Auto class has for a config, one of acn_hf too; none if it has none."""
    table = getattr(modeling_auto, auto_name)._model_mapping
    if config_class not in table:
        return ()
    served = table[config_class]
    return tuple(served) if isinstance(served, (list, tuple)) else (served,)


def task_of(auto_name: str | None, main_input: str | None = None) -> str | None:
    """Return what the Hub calls the task of an Auto class, or `None` where it has no name for it.

    Args:
        auto_name (`str`, *optional*): For example `AutoModelForSequenceClassification`.
        main_input (`str`, *optional*): What tells apart the features of texts and of images.
    """
    if auto_name == "AutoModel":
        return {"input_ids": "feature-extraction", "pixel_values": "image-feature-extraction"}.get(main_input or "")
    return _tasks().get(auto_name or "") or _TASKS_WITHOUT_PIPELINE.get(auto_name or "")


@functools.cache
def _served() -> dict[str, set[str]]:
    """Return the names of the model classes of every Auto class."""
    tables = {id(table): name for name, table in vars(modeling_auto).items() if name.endswith("_MAPPING")}
    served = {}
    for auto_name, auto_class in vars(modeling_auto).items():
        table = tables.get(id(getattr(auto_class, "_model_mapping", None)))
        if auto_name.startswith("AutoModel") and table is not None:
            names = getattr(modeling_auto, f"{table}_NAMES", {}).values()
            served[auto_name] = {name for entry in names for name in (entry if isinstance(entry, tuple) else (entry,))}
    return served


@functools.cache
def _tasks() -> dict[str, str]:
    from transformers.pipelines import SUPPORTED_TASKS

    tasks: dict[str, str] = {}
    for task, parts in SUPPORTED_TASKS.items():
        for auto_class in parts["pt"]:
            tasks.setdefault(auto_class.__name__, task)
    return tasks
