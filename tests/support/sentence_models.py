"""Small random models of sentence-transformers, and texts for them."""

import random

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling
from transformers import BertConfig, BertModel, BertTokenizerFast

from tests.support.command_line import WORDS as SPECIAL

WORDS = [*SPECIAL, "a", "the", "plot", "cast", "dull", "great", "was", "is", "end", "of", "scene", "and", "music"]
SIZES = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "vocab_size": len(WORDS)}
PROMPTS = {"query": "the film : ", "document": ""}
EVALUATOR = """
from sentence_transformers.sentence_transformer.evaluation import EmbeddingSimilarityEvaluator as Evaluator

def similarity():
    return Evaluator(["a film", "the end", "a plot"], ["the film", "a scene", "the cast"], [1.0, 0.5, 0.1])
"""
"""The source of a file with a function that returns an evaluator."""


def texts(number, seed=0):
    """Return so many texts, all different."""
    draw, found = random.Random(seed), {}
    while len(found) < number:
        found[" ".join(draw.choices(WORDS[5:], k=draw.randint(2, 9)))] = None
    return list(found)


def transformer_folder(folder, model):
    """Write a model of transformers and a tokenizer, as Transformer of sentence-transformers reads them."""
    model.save_pretrained(folder)
    BertTokenizerFast(vocab={word: index for index, word in enumerate(WORDS)}).save_pretrained(folder)
    return str(folder)


def sentence_model(folder, model=None, *, layers=3, pooling="mean", more=(), **options):
    """Return a SentenceTransformer around a model, a random BERT unless another is given."""
    from sentence_transformers.base.modules import Transformer

    torch.manual_seed(0)
    if model is None:
        model = BertModel(BertConfig(**SIZES, num_hidden_layers=layers, initializer_range=0.5))
    first = Transformer(transformer_folder(folder, model))
    modules = [first, Pooling(model.config.hidden_size, pooling), *more, Normalize()]
    return SentenceTransformer(modules=modules, device="cpu", **options).eval()
