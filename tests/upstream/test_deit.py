"""Upstream's common tests on AC-DeiT."""

import unittest

import pytest

import acn_hf
from acn_hf import AcnDeiTConfig

from .suite import AcnModelTests, ConfigTester, model_classes
from .test_vit import ViTTester

TEACHER = acn_hf.AcnDeiTForImageClassificationWithTeacher


class DeiTTester(ViTTester):
    """Images of ViT's tests, with one token more."""

    config_class = AcnDeiTConfig
    seq_length = ViTTester.mask_length + 2


@pytest.mark.full  # the layers are those of AC-ViT
class AcnDeiTTest(AcnModelTests, unittest.TestCase):
    all_model_classes = model_classes(AcnDeiTConfig)
    model_tester = DeiTTester()
    test_resize_embeddings = False  # there is no vocabulary

    def setUp(self):
        super().setUp()
        acn_fields = {"num_hidden_layers": 2, "residual_scale": [0.25, 0.5], "readout": "sum"}
        self.config_tester = ConfigTester(
            self, config_class=AcnDeiTConfig, has_text_modality=False, hidden_size=37, **acn_fields
        )
        if self._testMethodName.startswith("test_training"):  # the class with a teacher returns no loss
            self.all_model_classes = tuple(kind for kind in self.all_model_classes if kind is not TEACHER)

    def _prepare_for_class(self, inputs_dict, model_class, return_labels=False):
        inputs = super()._prepare_for_class(inputs_dict, model_class, return_labels)
        if model_class is TEACHER:
            inputs.pop("labels", None)
        return inputs


class AcnDeiTLearnedScaleTest(AcnDeiTTest):
    """The residual scale as a parameter: it is initialised, saved, loaded and trained like any other."""

    all_model_classes = (acn_hf.AcnDeiTModel, acn_hf.AcnDeiTForImageClassification)
    model_tester = DeiTTester(residual_scale=0.5, learn_residual_scale=True)
