"""Upstream's common tests on AC-BERT."""

import unittest

from transformers.testing_utils import torch_device

import acn_hf
from acn_hf import AcnBertConfig

from .suite import AcnModelTests, ConfigTester, TrainingTesterMixin, common, model_classes


class BertTester:
    """What the common tests ask about sizes and inputs; the sizes are those of upstream's BERT tests."""

    is_training = True
    batch_size = 13
    seq_length = 7
    num_choices = 4
    vocab_size = 99
    type_vocab_size = 16
    hidden_size = 32
    num_hidden_layers = 2
    num_attention_heads = 4
    causal_lm_class = acn_hf.AcnBertForMaskedLM  # the class that test_training_overfit trains

    def __init__(self, **acn_fields):
        self.acn_fields = acn_fields

    def get_config(self) -> AcnBertConfig:
        return AcnBertConfig(
            vocab_size=self.vocab_size,
            type_vocab_size=self.type_vocab_size,
            hidden_size=self.hidden_size,
            num_hidden_layers=self.num_hidden_layers,
            num_attention_heads=self.num_attention_heads,
            intermediate_size=37,
            **self.acn_fields,
        )

    def prepare_config_and_inputs_for_common(self):
        shape = [self.batch_size, self.seq_length]
        inputs = {
            "input_ids": common.ids_tensor(shape, self.vocab_size),
            "token_type_ids": common.ids_tensor(shape, self.type_vocab_size),
            "attention_mask": common.random_attention_mask(shape),
        }
        return self.get_config(), inputs


class AcnBertTest(AcnModelTests, TrainingTesterMixin, unittest.TestCase):
    all_model_classes = model_classes(AcnBertConfig)
    model_tester = BertTester()

    def setUp(self):
        super().setUp()
        acn_fields = {"num_hidden_layers": 2, "residual_scale": [0.25, 0.5], "readout": "sum"}
        self.config_tester = ConfigTester(self, config_class=AcnBertConfig, hidden_size=37, **acn_fields)

    def _prepare_for_class(self, inputs_dict, model_class, return_labels=False):
        inputs = super()._prepare_for_class(inputs_dict, model_class, return_labels)
        if return_labels and model_class is acn_hf.AcnBertForPreTraining:
            # It has two heads, which the common tests leave to BERT's own.
            shape = (self.model_tester.batch_size, self.model_tester.seq_length)
            inputs["labels"] = common.torch.zeros(shape, dtype=common.torch.long, device=torch_device)
            inputs["next_sentence_label"] = inputs["labels"][:, 0]
        return inputs


class AcnBertLearnedScaleTest(AcnBertTest):
    """The residual scale as a parameter: it is initialised, saved, loaded and trained like any other."""

    all_model_classes = (acn_hf.AcnBertModel, acn_hf.AcnBertForMaskedLM)
    model_tester = BertTester(residual_scale=0.5, learn_residual_scale=True)
