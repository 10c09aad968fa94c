"""Small random checkpoints for the app: of every kind of answer, ACNs and others."""

import asyncio
from contextlib import contextmanager

import numpy as np
from PIL import Image
from transformers import ViTImageProcessorPil

from acn_hf.app import Question
from tests.support import any_models
from tests.support.command_line import CLASSIFIER, GREY, IMAGES, tokenizer
from tests.support.families import by_name
from tests.support.sentence_models import sentence_model

EVIL = "<script>alert(1)</script> ${alert(2)} {{alert(3)}} <img src=x onerror=alert(4)>"
TAGS = {"id2label": {0: "O", 1: "B-FILM", 2: "I-FILM"}, "label2id": {"O": 0, "B-FILM": 1, "I-FILM": 2}}
TEXT = "good bad film film good"
KINDS = {
    "acn text": "classes",
    "bert": "classes",
    "modernbert": "classes",
    "labels": "labels",
    "number": "numbers",
    "tags": "tags",
    "acn picture": "classes",
    "vit": "classes",
    "sentences": "similarity",
}
"""What the answers are of each checkpoint that `write` can write."""


def write(name, folder, build, **fields):
    """Write one of the checkpoints, with its processor, and return the folder."""
    if name == "sentences":
        sentence_model(folder.with_name(f"{folder.name}-inside"), **fields).save_pretrained(str(folder))
        return folder
    model, processor = _model(name, build, fields), tokenizer()
    if name == "acn picture":
        processor = GREY
    if name == "vit":
        processor = ViTImageProcessorPil(size={"height": 16, "width": 16})
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def _model(name, build, fields):
    if name == "modernbert":
        return any_models.any_model("ModernBertForSequenceClassification").build(**fields)
    if name == "vit":
        return any_models.any_model("ViTForImageClassification").build(**fields)
    if name == "acn picture":
        return build(IMAGES, **fields)
    if name == "tags":
        return build(by_name("bert-ForTokenClassification"), **TAGS, **fields)
    options = {"labels": {"problem_type": "multi_label_classification"}, "number": {"num_labels": 1}}.get(name, {})
    model = build(CLASSIFIER, **options, **fields)
    return CLASSIFIER.build_upstream(model) if name == "bert" else model


def picture(width=24, height=16):
    """Return a colourful picture."""
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def question(name, text=TEXT):
    """Return what is asked of one of the checkpoints."""
    if name in ("acn picture", "vit"):
        return Question(picture=picture())
    return Question(text, "bad film" if name == "sentences" else "")


@contextmanager
def closed_loops():
    """Close what gradio leaves open of every app: the event loops that it makes where none runs."""
    opened, new = [], asyncio.new_event_loop

    def recorded():
        opened.append(new())
        return opened[-1]

    asyncio.new_event_loop = recorded
    try:
        yield
    finally:
        asyncio.new_event_loop = new
        asyncio.set_event_loop(None)
        for loop in opened:
            if not loop.is_running():
                loop.close()
