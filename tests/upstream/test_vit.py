"""Upstream's common tests on AC-ViT."""

import unittest

import acn_hf
from acn_hf import AcnViTConfig

from .suite import AcnModelTests, ConfigTester, common, model_classes


class ViTTester:
    """What the common tests ask about sizes and inputs; smaller images than upstream's for speed."""

    config_class = AcnViTConfig
    is_training = True
    batch_size = 13
    image_size = 12
    patch_size = 2
    num_channels = 3
    hidden_size = 32
    num_hidden_layers = 2
    num_attention_heads = 4
    mask_length = (image_size // patch_size) ** 2
    num_masks = mask_length // 2
    seq_length = mask_length + 1

    def __init__(self, **acn_fields):
        self.acn_fields = acn_fields

    def get_config(self):
        return self.config_class(
            image_size=self.image_size,
            patch_size=self.patch_size,
            num_channels=self.num_channels,
            encoder_stride=self.patch_size,
            hidden_size=self.hidden_size,
            num_hidden_layers=self.num_hidden_layers,
            num_attention_heads=self.num_attention_heads,
            intermediate_size=37,
            **self.acn_fields,
        )

    def prepare_config_and_inputs_for_common(self):
        shape = [self.batch_size, self.num_channels, self.image_size, self.image_size]
        return self.get_config(), {"pixel_values": common.floats_tensor(shape)}


class AcnViTTest(AcnModelTests, unittest.TestCase):
    all_model_classes = model_classes(AcnViTConfig)
    model_tester = ViTTester()
    test_resize_embeddings = False  # there is no vocabulary

    def setUp(self):
        super().setUp()
        acn_fields = {"num_hidden_layers": 2, "residual_scale": [0.25, 0.5], "readout": "sum", "pooling": "mean"}
        self.config_tester = ConfigTester(
            self, config_class=AcnViTConfig, has_text_modality=False, hidden_size=37, **acn_fields
        )


class AcnViTLearnedScaleTest(AcnViTTest):
    """The residual scale as a parameter: it is initialised, saved, loaded and trained like any other."""

    all_model_classes = (acn_hf.AcnViTModel, acn_hf.AcnViTForImageClassification)
    model_tester = ViTTester(residual_scale=0.5, learn_residual_scale=True)
