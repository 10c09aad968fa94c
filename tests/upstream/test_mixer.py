"""Upstream's common tests on AC-Mixer, which upstream has no class for."""

import unittest

import pytest

from acn_hf import AcnMixerConfig

from .suite import AcnModelTests, ConfigTester, common, model_classes


class MixerTester:
    """What the common tests ask about sizes and inputs."""

    is_training = True
    batch_size = 13
    image_size = 12
    num_channels = 3
    hidden_size = 32
    num_hidden_layers = 2
    seq_length = 36

    def __init__(self, **acn_fields):
        self.acn_fields = acn_fields

    def get_config(self):
        return AcnMixerConfig(
            image_size=self.image_size,
            patch_size=2,
            num_channels=self.num_channels,
            hidden_size=self.hidden_size,
            num_hidden_layers=self.num_hidden_layers,
            token_intermediate_size=24,
            intermediate_size=37,
            **self.acn_fields,
        )

    def prepare_config_and_inputs_for_common(self):
        shape = [self.batch_size, self.num_channels, self.image_size, self.image_size]
        return self.get_config(), {"pixel_values": common.floats_tensor(shape)}


class AcnMixerTest(AcnModelTests, unittest.TestCase):
    all_model_classes = model_classes(AcnMixerConfig)
    model_tester = MixerTester()
    test_resize_embeddings = False  # there is no vocabulary
    has_attentions = False

    def setUp(self):
        super().setUp()
        acn_fields = {"num_hidden_layers": 2, "residual_scale": [0.25, 0.5], "readout": "sum", "block_type": "paper"}
        self.config_tester = ConfigTester(
            self,
            config_class=AcnMixerConfig,
            has_text_modality=False,
            common_properties=["hidden_size", "num_hidden_layers"],  # there is no attention, and it has no heads
            hidden_size=37,
            **acn_fields,
        )


@pytest.mark.full  # the network around the block is the same
class AcnMixerPaperTest(AcnMixerTest):
    """The authors' block, and the residual scale as a parameter, which is initialised and trained like any other."""

    model_tester = MixerTester(block_type="paper", residual_scale=0.5, learn_residual_scale=True)
