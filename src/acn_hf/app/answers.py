"""From a text or a picture to the answer at every depth. Knows nothing of pages."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from PIL import Image

from ..data.rows import longest_text, with_spaces
from ..depth.certainty import certainty_of
from ..depth.outputs import depth_outputs
from ..embeddings.reading import DepthReader
from ..exits.early_exit import run_early_exit
from ..modeling.depth import output_logits
from .checkpoint import CLASSES, LABELS, NUMBERS, SIMILARITY, TAGS, Checkpoint

MOST_CHARACTERS = 100_000
"""Of a text; a longer one is refused, since no model here reads it to its end."""


class RefusedQuestionError(ValueError):
    """A text or a picture that is not answered; the message is a sentence for whoever asked."""


@dataclass(frozen=True)
class Question:
    """What is asked.

    Args:
        text (`str`, *optional*): For models of texts.
        second (`str`, *optional*): The other text of a pair.
        picture (`PIL.Image.Image`, *optional*): For models of pictures.
    """

    text: str = ""
    second: str = ""
    picture: Image.Image | None = None


@dataclass(frozen=True)
class AtDepth:
    """What one depth answers.

    Args:
        depth (`int`): Number of layers.
        said (`str`): The answer in words.
        sure (`float`, *optional*): The probability of it; of several labels or tags that of the least sure one.
        scores (`tuple[float, ...]`): Of each class or label its probability; numbers as they are.
        tags (`tuple[str, ...]`): Of each word.
    """

    depth: int
    said: str
    sure: float | None
    scores: tuple[float, ...] = ()
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Answer:
    """What a checkpoint answers at every depth.

    Args:
        kind (`str`): See [`Checkpoint`].
        names (`tuple[str, ...]`): Of the scores, or of all tags.
        at (`tuple[AtDepth, ...]`): Ascending; the last one is full depth.
        exit_depth (`int`, *optional*): Where early exit leaves, if there is a policy.
        read (`str`): What was read, in words.
        remarks (`tuple[str, ...]`): What should be known besides.
        words (`tuple[str, ...]`): Those that have a tag.
        inputs (`dict`): What the model was given.
    """

    kind: str
    names: tuple[str, ...]
    at: tuple[AtDepth, ...]
    exit_depth: int | None
    read: str
    remarks: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    inputs: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def full(self) -> AtDepth:
        """The answer of the whole model."""
        return self.at[-1]

    def is_as_at_full_depth(self, one: AtDepth) -> bool:
        """Return whether a depth answers what full depth does; as many tags may be others."""
        return (one.said, one.tags) == (self.full.said, self.full.tags)

    @property
    def stable_from(self) -> int:
        """The lowest depth from which on the answer is that of full depth."""
        stable = self.full.depth
        for one in reversed(self.at):
            if not self.is_as_at_full_depth(one):
                break
            stable = one.depth
        return stable


def answer_at_every_depth(checkpoint: Checkpoint, question: Question) -> Answer:
    """Return what a checkpoint answers at every depth, from one pass through its layers.

    Args:
        checkpoint (`Checkpoint`): Is left as it is; several threads may ask at once.
        question (`Question`): A text, two of them, or a picture.

    Returns:
        `Answer`: At each depth the scores of the model that is cut there.

    Raises:
        RefusedQuestionError: There is no text or no picture, or the text is too long, or is none.
    """
    if checkpoint.kind == SIMILARITY:
        return _similarity(checkpoint, question)
    encoded = _encode(checkpoint, question)
    policy, at = checkpoint.policy, []
    with torch.no_grad():
        for depth, output in depth_outputs(checkpoint.model, encoded.inputs, checkpoint.depths):
            at.append(_at_depth(checkpoint, depth, output_logits(output), encoded.firsts))
        exit_depth = None
        if policy is not None:
            left = run_early_exit(checkpoint.model, encoded.inputs, policy, encoded.counted())
            exit_depth = int(left.exit_depths[0])
    return Answer(
        checkpoint.kind,
        checkpoint.names,
        tuple(at),
        exit_depth,
        encoded.read,
        encoded.remarks,
        encoded.words,
        encoded.inputs,
    )


@dataclass(frozen=True)
class _Encoded:
    """A question as the model takes it; of words also where the first token of each stands."""

    inputs: dict[str, torch.Tensor]
    read: str
    remarks: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    firsts: tuple[int, ...] = ()

    def counted(self) -> torch.Tensor | None:
        """Return which tokens decide about an early exit, as the labels of a measurement do; `None` of no tags."""
        if not self.firsts:
            return None
        counted = torch.zeros_like(self.inputs["input_ids"], dtype=torch.bool)
        counted[0, list(self.firsts)] = True
        return counted


def _encode(checkpoint: Checkpoint, question: Question) -> _Encoded:
    device = checkpoint.model.device
    if checkpoint.reads_pictures:
        if question.picture is None:
            raise RefusedQuestionError("There is no picture yet: drop one, or choose a file.")
        pixels = checkpoint.processor([question.picture])
        width, height = question.picture.size
        read = f"a picture of {width} × {height} pixels, read as {pixels.shape[-1]} × {pixels.shape[-2]}"
        return _Encoded({"pixel_values": torch.from_numpy(pixels).to(checkpoint.model.dtype).to(device)}, read)
    texts = texts_of(question, pair=checkpoint.kind != TAGS)
    with checkpoint.tokenizing:
        return _encode_texts(checkpoint, texts, device)


def _encode_texts(checkpoint: Checkpoint, texts: list[str], device: torch.device) -> _Encoded:
    tokenizer, model = checkpoint.processor, checkpoint.model
    longest = longest_text(model, tokenizer, None, pair=len(texts) > 1)
    given: list[Any] = list(texts)
    words: Sequence[str] = ()
    if checkpoint.kind == TAGS:
        words = texts[0].split()
        given = with_spaces(tokenizer, [words])
    options = {"is_split_into_words": True} if words else {}
    encoded = tokenizer(*given, truncation=True, max_length=longest, return_tensors="pt", **options)
    remarks = []
    number = encoded["input_ids"].shape[-1]
    if number == longest and len(tokenizer(*given, verbose=False, **options)["input_ids"]) > longest:
        remarks.append(f"The text is longer than the model reads: the first {longest} tokens were read.")
    firsts: dict[int, int] = {}
    if words:
        for place, word in enumerate(encoded.word_ids(0)):
            if word is not None:
                firsts.setdefault(word, place)
        words = [words[word] for word in firsts]
    inputs = {name: value.to(device) for name, value in encoded.items()}
    read = f"{number:,} token{'s' if number != 1 else ''}"
    return _Encoded(inputs, read, tuple(remarks), tuple(words), tuple(firsts.values()))


def texts_of(question: Question, *, pair: bool) -> list[str]:
    """Return the text of a question, or both.

    Args:
        question (`Question`): What is asked.
        pair (`bool`): Whether there may be two.

    Raises:
        RefusedQuestionError: There is none, or one is too long, or is none.
    """
    texts = [question.text, *([question.second] if pair and question.second.strip() else [])]
    if not question.text.strip():
        raise RefusedQuestionError("There is no text yet: type one.")
    for text in texts:
        if len(text) > MOST_CHARACTERS:
            raise RefusedQuestionError(
                f"A text may have {MOST_CHARACTERS:,} characters at most, and this one has {len(text):,}."
            )
        try:
            text.encode()
        except UnicodeEncodeError:
            raise RefusedQuestionError("This text holds half a character, which cannot be read.") from None
    return texts


def _at_depth(checkpoint: Checkpoint, depth: int, logits: torch.Tensor, firsts: Sequence[int]) -> AtDepth:
    names, logits = checkpoint.names, logits.float().cpu()
    if checkpoint.kind == TAGS:
        chances = logits[0, list(firsts)].softmax(dim=-1)
        sure, best = chances.max(dim=-1)
        tags = tuple(names[number] for number in best.tolist())
        found = sum(tag != "O" for tag in tags)
        said = f"{found} of {len(tags)} words tagged"
        return AtDepth(depth, said, float(sure.min()) if len(tags) else None, tags=tags)
    if checkpoint.kind == NUMBERS:
        numbers = tuple(logits[0].tolist())
        return AtDepth(depth, ", ".join(f"{number:.4g}" for number in numbers), None, numbers)
    certainty = certainty_of(logits, checkpoint.model.config)
    sure_of_it = None if certainty is None else float(certainty[0])
    if checkpoint.kind == LABELS:
        scores = torch.sigmoid(logits[0])
        said = ", ".join(name for name, score in zip(names, scores.tolist(), strict=True) if score > 0.5) or "none"
        return AtDepth(depth, said, sure_of_it, tuple(scores.tolist()))
    assert checkpoint.kind == CLASSES
    scores = torch.softmax(logits[0], dim=-1)
    return AtDepth(depth, names[int(scores.argmax())], sure_of_it, tuple(scores.tolist()))


def _similarity(checkpoint: Checkpoint, question: Question) -> Answer:
    """Return how like each other two texts are, as the embeddings of each depth have it."""
    texts = texts_of(question, pair=True)
    if len(texts) < 2:
        raise RefusedQuestionError("There must be two texts, to say how like each other they are: type the second too.")
    model = checkpoint.model
    with checkpoint.tokenizing:
        cut = getattr(model, "preprocess", None) or model.tokenize  # as older releases call it
        made = dict(cut(texts))
    features = {name: value.to(model.device) if hasattr(value, "to") else value for name, value in made.items()}
    reader, at = DepthReader(model, checkpoint.depths), []
    with torch.no_grad():
        for depth, embeddings in reader(features):
            alike = float(torch.nn.functional.cosine_similarity(embeddings[0], embeddings[1], dim=0))
            at.append(AtDepth(depth, f"{alike:.3f}", None, (alike,)))
    read = f"two texts of up to {features['input_ids'].shape[-1]:,} tokens"
    return Answer(SIMILARITY, checkpoint.names, tuple(at), None, read, inputs=features)
