"""Each example leaves at its own depth: those that are done leave the batch, and the layers above run on the others."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel

from ..depth.layers import is_acn, layers_of, layers_path
from ..depth.metrics import IGNORED_LABEL
from ..depth.stack import Stack, find_stack
from ..modeling.depth import DepthError, output_logits, replace_submodule
from ..support.auto_classes import auto_class_for
from ..support.eval_mode import evaluating
from ..support.wrappers import only_called, unwrap
from .exiting_connection import ExitingConnection
from .exiting_stack import ExitingStack, lowest_depth
from .policies import ExitPolicy

Counted = torch.Tensor | Callable[[Mapping[str, Any]], torch.Tensor]
OF_EXAMPLES = tuple(f"AutoModelFor{kind}Classification" for kind in ("Sequence", "Image", "Audio", "Video"))
WORDS = "AutoModelForMaskedLM"
OF_TOKENS = ("AutoModelForTokenClassification", WORDS)
RECORDINGS = ("output_hidden_states", "output_attentions", "output_layer_outputs")


@dataclass(frozen=True, eq=False)
class EarlyExitOutput:
    """What each example's own depth says of it.

    Args:
        logits (`torch.Tensor` of shape `(batch_size, num_classes)` or `(batch_size, sequence_length, num_classes)`):
            Row `i` holds the logits at depth `exit_depths[i]`.
        exit_depths (`torch.LongTensor` of shape `(batch_size,)`): How many layers ran on each example.
    """

    logits: torch.Tensor
    exit_depths: torch.Tensor

    @property
    def mean_depth(self) -> float:
        """The mean number of layers that ran on an example; not a number for an empty batch."""
        return float(self.exit_depths.double().mean())

    @property
    def predictions(self) -> torch.Tensor:
        """The class with the largest logit, of shape `(batch_size,)` or `(batch_size, sequence_length)`."""
        return self.logits.argmax(dim=-1)


def predict_early_exit(
    model: Any, inputs: Mapping[str, Any], policy: ExitPolicy, *, counted: Counted | None = None
) -> EarlyExitOutput:
    """Run each example through as many layers as a policy asks for.

    The head is read at every depth from `policy.min_depth` on, or at `policy.depths`, and the examples that are done
    leave the batch, with their rows of the attention mask. The model is in eval mode meanwhile, and is left as it was
    found.

    Args:
        model (`PreTrainedModel` or `PeftModel`): Any model with one stack of layers that classifies sequences, images,
            sounds, videos or tokens, or predicts masked tokens; adapters inside stay active. What `torch.compile` and
            data parallelism return is taken for the model inside.
        inputs (`Mapping`): What the model takes. Labels say which tokens count, and nothing else.
        policy (`ExitPolicy`): [`ConfidenceExit`], [`EntropyExit`], [`PatienceExit`] or one of your own.
        counted (`torch.BoolTensor` of shape `(batch_size, sequence_length)` or `Callable`, *optional*):
            For heads that predict tokens: an example leaves when all of its tokens that count are sure. A callable maps
            the inputs to the tensor. Defaults to the tokens whose label is not -100, without labels to those that are
            not padding. A masked language model is asked for its masked tokens alone: `input_ids == mask_token_id`.

    Returns:
        `EarlyExitOutput`: The logits and the exit depths, in the order of the inputs. The logits of an example, those
        of tokens that do not count too, are those of its exit depth.

    Raises:
        DepthError: The policy names a depth that the model does not have, or its layers are not a plain stack.
        TypeError: `model` is not one of transformers, has no head that gives probabilities of classes, or was adapted
            by prompts.
        ValueError: `counted` does not fit the inputs or the head, or the inputs ask for hidden states or attentions,
            which differ in number from example to example.

    Example:

    ```python
    >>> import torch
    >>> from acn_hf import AcnBertConfig, AcnBertForSequenceClassification, ConfidenceExit, predict_early_exit

    >>> config = AcnBertConfig(num_hidden_layers=4, hidden_size=48)
    >>> model = AcnBertForSequenceClassification(config)
    >>> output = predict_early_exit(model, {"input_ids": torch.tensor([[1, 2], [3, 4]])}, ConfidenceExit(1.0))
    >>> output.exit_depths, output.mean_depth
    (tensor([4, 4]), 4.0)

    ```
    """
    inner = unwrap(model)
    check_fits(inner, policy)
    with evaluating(inner):
        return run_early_exit(inner, inputs, policy, counted)


def with_early_exit(model: Any, policy: ExitPolicy, *, counted: Counted | None = None) -> PreTrainedModel:
    """Return a view of a model that runs each example through as many layers as a policy asks for.

    The view shares its weights with `model`, which is left as it is, is of the same class, and returns what that class
    returns, so that it goes where a model goes that is only called: into `transformers.pipeline`. To save it, to cut
    it or to train it, take the model itself.

    Args:
        model (`PreTrainedModel` or `PeftModel`): See [`predict_early_exit`].
        policy (`ExitPolicy`): When an example leaves.
        counted (`Callable`, *optional*): See [`predict_early_exit`]; a tensor fits one batch only. The labels of a
            batch are not looked at.

    Returns:
        `PreTrainedModel`: The view. It refuses to run in train mode, with a `ValueError`.

    Raises:
        DepthError: The policy names a depth that the model does not have, or its layers are not a plain stack.
        TypeError: `model` is not one of transformers, has no head that gives probabilities of classes, or was adapted
            by prompts.
        ValueError: `counted` is given for a head that does not predict tokens.

    Example:

    ```python
    >>> import torch
    >>> from acn_hf import AcnBertConfig, AcnBertForSequenceClassification, PatienceExit, with_early_exit

    >>> model = AcnBertForSequenceClassification(AcnBertConfig(num_hidden_layers=4, hidden_size=48)).eval()
    >>> fast = with_early_exit(model, PatienceExit(2))
    >>> fast(input_ids=torch.tensor([[1, 2], [3, 4]])).logits.shape
    torch.Size([2, 2])

    ```
    """
    inner = unwrap(model)
    check_fits(inner, policy)
    if counted is not None:
        _check_predicts_tokens(inner)
    path = layers_path(inner)
    view = only_called(replace_submodule(inner, path, inner.get_submodule(path)))
    view.__dict__["forward"] = _ForwardWithEarlyExit(inner, policy, counted)
    return view


def check_fits(model: PreTrainedModel, policy: ExitPolicy) -> None:
    """Raise unless `policy` can be applied to `model`.

    Raises:
        DepthError: The policy names a depth that the model does not have.
        TypeError: The head gives no probabilities of classes, or `policy` is no policy.
    """
    if not isinstance(policy, ExitPolicy):
        raise TypeError(f"policy must be an ExitPolicy; got {type(policy).__name__}")
    head, config = auto_class_for(type(model)), model.config
    name = type(model).__name__
    if head not in OF_EXAMPLES + OF_TOKENS:
        raise TypeError(f"a policy needs probabilities of classes, for each example or each token; {name} gives none")
    problem_type = getattr(config, "problem_type", None)
    if head != WORDS and (config.num_labels < 2 or problem_type in ("regression", "multi_label_classification")):
        raise TypeError(
            "a policy needs probabilities of classes, of which one is right; this "
            f"{name} has num_labels={config.num_labels} and problem_type={problem_type!r}"
        )
    num_layers = len(layers_of(model))
    if policy.min_depth > num_layers:
        raise DepthError(f"min_depth must lie in [0, {num_layers}] for this model; got {policy.min_depth}")
    if policy.depths is not None and policy.depths[-1] > num_layers:
        raise DepthError(f"depths must lie in [0, {num_layers}] for this model; got {policy.depths[-1]}")


def predicts_tokens(model: PreTrainedModel) -> bool:
    """Return whether the head gives logits for each token, and not for each example."""
    return auto_class_for(type(model)) in OF_TOKENS


def counted_tokens(model: PreTrainedModel, inputs: Mapping[str, Any], counted: Counted | None) -> torch.Tensor | None:
    """Return which tokens count, of shape `(batch_size, sequence_length)`; `None` for a head of whole examples.

    Raises:
        ValueError: `counted` does not fit the inputs or the head.
    """
    if not predicts_tokens(model):
        if counted is not None:
            _check_predicts_tokens(model)
        return None
    main = inputs.get(model.main_input_name)
    shape = (inputs["inputs_embeds"] if main is None else main).shape[:2]
    given = counted if isinstance(counted, torch.Tensor) or counted is None else counted(inputs)
    if given is None and inputs.get("labels") is not None:
        given = inputs["labels"] != IGNORED_LABEL
    if given is None:
        given = inputs.get("attention_mask")
    if given is None:
        return torch.ones(shape, dtype=torch.bool, device=model.device)
    if given.shape != shape:
        raise ValueError(
            f"counted, or the labels or the attention mask in its place, must have a value for each token, of shape "
            f"{tuple(shape)}; got {tuple(given.shape)}"
        )
    return given.to(model.device).bool()


def run_early_exit(
    model: PreTrainedModel, inputs: Mapping[str, Any], policy: ExitPolicy, counted: Counted | None = None
) -> EarlyExitOutput:
    """Return what [`predict_early_exit`] returns, for a model that is unwrapped, fits, and is in eval mode."""
    tokens = counted_tokens(model, inputs, counted)
    features = {name: value for name, value in inputs.items() if name != "labels"}
    output, exit_depths = _answer(model, {**features, "return_dict": True}, policy, tokens)
    logits = output_logits(output)
    if logits.isnan().any():
        raise ValueError("logits must be numbers, to say when an example may leave; got nan")
    return EarlyExitOutput(logits, exit_depths)


def _answer(
    model: PreTrainedModel,
    inputs: dict[str, Any],
    policy: ExitPolicy,
    tokens: torch.Tensor | None,
    known: tuple[Stack, int] | None = None,
) -> tuple[Any, torch.Tensor]:
    """Return the output of a model, of each example at its own depth, and these depths."""
    inputs = _without_recording(model, inputs)
    features = {name: value for name, value in inputs.items() if name not in ("labels", "return_dict")}
    exiting: Any
    if is_acn(model):
        exiting = ExitingConnection(model, policy, tokens, features)
    else:
        exiting = ExitingStack(model, policy, tokens, features, known)
    return exiting.answer(inputs), exiting.departures.exit_depths


class _ForwardWithEarlyExit:
    """The forward pass of a view. Every call makes a pass of its own; nothing of it is kept between calls."""

    def __init__(self, model: PreTrainedModel, policy: ExitPolicy, counted: Counted | None):
        self.model = model
        self.policy = policy
        self.counted = counted
        self.layers = layers_of(model)
        self.known: tuple[Stack, int] | None = None
        """The stack and the lowest depth of a model, once a call has found them."""
        self.__signature__ = inspect.signature(model.forward)  # pipelines look at it

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.layers.training:
            raise ValueError("early exit is for inference: put the model in eval mode, with model.eval()")
        inputs = dict(zip(self.__signature__.parameters, args, strict=False)) | kwargs
        features = {name: value for name, value in inputs.items() if name != "labels"}
        if self.known is None and not is_acn(self.model):
            self.known = (find_stack(self.model), lowest_depth(self.model, self.policy, features))
        tokens = counted_tokens(self.model, features, self.counted)
        return _answer(self.model, inputs, self.policy, tokens, self.known)[0]


def _without_recording(model: PreTrainedModel, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the inputs with all recording off, whatever the config says, or refuse them if they ask for it.

    A cache is off as well: no depth would hold all examples in it.
    """
    for switch in RECORDINGS:
        if inputs.get(switch):
            raise ValueError(f"{switch} must be off: examples leave at different depths, and no depth holds them all")
    off = [switch for switch in RECORDINGS if getattr(model.config, switch, False)]
    if getattr(model.config, "use_cache", False):
        off.append("use_cache")
    return {**inputs, **dict.fromkeys(off, False)}


def _check_predicts_tokens(model: PreTrainedModel) -> None:
    if not predicts_tokens(model):
        raise ValueError(f"counted is for heads that predict tokens; {type(model).__name__} predicts whole examples")
