"""Checkpoints that people trained and published become ACNs, exact at scale 1 on real inputs."""

import torch
from torch.nn.functional import cosine_similarity
from transformers import AutoTokenizer, BertForMaskedLM, BertForSequenceClassification, BertModel

from acn_hf import from_residual
from tests.conversion.test_convert import same_outputs
from tests.support.checkpoints import SENTENCES, reaction_model, read_reactions, sentence_encoder


def embed(model, sentences):
    tokens = AutoTokenizer.from_pretrained(sentence_encoder())(sentences, padding=True, return_tensors="pt")
    mask = tokens["attention_mask"][..., None]
    return (model(**tokens).last_hidden_state * mask).sum(1) / mask.sum(1)


@torch.no_grad()
def test_sentence_encoder():
    folder = sentence_encoder()
    original, acn = BertModel.from_pretrained(folder), from_residual(folder, residual_scale=1.0)
    tokens = AutoTokenizer.from_pretrained(folder)(SENTENCES, padding=True, return_tensors="pt")
    ours, theirs = (model(**tokens, output_hidden_states=True) for model in (acn, original))
    assert len(ours.hidden_states) == 7
    assert same_outputs(ours, theirs)
    cat, kitten, law = embed(acn, ["A cat sleeps.", "A kitten is asleep.", "The court dismissed the appeal."])
    assert cosine_similarity(cat, kitten, dim=0) > 0.7 > 0.2 > cosine_similarity(cat, law, dim=0)


@torch.no_grad()
def test_without_its_short_connections_a_trained_encoder_computes_something_else():
    """The check above can fail, and this is why an ACN at scale 0 must be trained."""
    folder = sentence_encoder()
    original, acn = BertModel.from_pretrained(folder), from_residual(folder)
    assert cosine_similarity(embed(original, SENTENCES), embed(acn, SENTENCES), dim=-1).max() < 0.5


@torch.no_grad()
def test_masked_language_model_of_reactions():
    folder = reaction_model("bert_pretrained")  # its config has no model_type, its weights are a pytorch_model.bin
    original = BertForMaskedLM.from_pretrained(folder).eval()
    acn = from_residual(folder, residual_scale=1.0, architecture="BertForMaskedLM")
    inputs = read_reactions(folder)
    ours, theirs = (model(**inputs, output_hidden_states=True) for model in (acn, original))
    assert len(ours.hidden_states) == 13
    assert same_outputs(ours, theirs)
    words = inputs["attention_mask"].bool()
    right = (ours.logits.argmax(-1) == inputs["input_ids"])[words]
    assert right.float().mean() > 0.85  # it sees all that it is asked for; special tokens it never learned to name


@torch.no_grad()
def test_classifier_of_reactions():
    folder = reaction_model("bert_ft_10k_25s")
    original = BertForSequenceClassification.from_pretrained(folder)
    acn, inputs = from_residual(folder, residual_scale=1.0), read_reactions(folder)
    assert acn.num_labels == 50
    assert same_outputs(acn(**inputs), original(**inputs))
    assert acn(**inputs).logits.softmax(-1).max(-1).values.min() > 0.3
