# Copyright 2025 The acn-hf authors
"""Upstream's common model and configuration tests, told about the classes of acn_hf.

The archive lacks upstream's tests of single models, of generation, of exporters and of pipelines; what stands here
is what the common tests need from a model's own test file.
"""

import inspect
from collections.abc import Mapping
from functools import partialmethod
from typing import Any
from unittest import mock

import acn_hf
from acn_hf.modeling import modeling_acn

from .source import upstream_module

common = upstream_module("test_modeling_common")
ConfigTester = upstream_module("test_configuration_common").ConfigTester
TrainingTesterMixin = upstream_module("test_training_mixin").TrainingTesterMixin

EXCEPTIONS: dict[str, dict[str, str]] = {
    "acn_vit": {
        "test_model_get_set_embeddings": "expects nn.Embedding; ViT embeds patches with a convolution",
    },
    "acn_deit": {
        "test_model_get_set_embeddings": "expects nn.Embedding; DeiT embeds patches with a convolution",
    },
    "acn_mixer": {
        "test_model_get_set_embeddings": "expects nn.Embedding; Mixer embeds patches with a convolution",
    },
}
"""For each `model_type`, the upstream tests that cannot apply to it, and why."""


class AcnModelTests(common.ModelTesterMixin):
    """The common tests; a subclass sets `all_model_classes` and `model_tester`, and `config_tester` in `setUp`."""

    def setUp(self):
        reason = EXCEPTIONS.get(self.model_tester.get_config().model_type, {}).get(self._testMethodName)
        if reason is not None:
            self.skipTest(reason)

    def test_config(self):
        self.config_tester.run_common_tests()

    def test_can_init_all_missing_weights(self):
        # Upstream skips models whose config file shows no copyright year from 2023 on; this file shows one.
        dated = mock.Mock(wraps=inspect, getfile=lambda _: __file__)
        with mock.patch.object(common, "inspect", dated):
            super().test_can_init_all_missing_weights()

    def test_reverse_loading_mapping(self, *args, **kwargs):
        # It looks for the names of older releases, which acn_hf stores only when asked to.
        save = partialmethod(modeling_acn.AcnPreTrainedModel.save_pretrained, save_original_format=True)
        with mock.patch.object(modeling_acn.AcnPreTrainedModel, "save_pretrained", save):
            super().test_reverse_loading_mapping(*args, **kwargs)

    def test_model_weights_reload_no_missing_tied_weights(self):
        # It counts the missing keys of a file without weights, which acn_hf refuses to load.
        with mock.patch.object(modeling_acn, "check_layers_loaded"):
            super().test_model_weights_reload_no_missing_tied_weights()


def model_classes(config_class: type) -> tuple[type, ...]:
    """Return every public model class of the family, the base model first."""
    classes = [value for value in vars(acn_hf).values() if getattr(value, "config_class", None) is config_class]
    return tuple(sorted(classes, key=lambda model_class: (hasattr(model_class, "base_model_class"), str(model_class))))


def name_our_classes_like_upstreams(tables: dict[str, Any]) -> None:
    """Add our classes to the tables of class names by which the common tests choose labels and checks.

    Only the tables that the test module sees are replaced, not those of transformers.
    """
    for name, table in tables.items():
        if name.endswith("_MAPPING_NAMES") and isinstance(table, Mapping):
            named = {family: table[family] for family in ("bert", "deit", "vit") if family in table}
            first = {family: name if isinstance(name, str) else name[0] for family, name in named.items()}
            if "vit" in first:  # it has no Mixer
                first["mixer"] = first["vit"].replace("ViT", "Mixer")
            known = {f"acn_{family}": f"Acn{name}" for family, name in first.items() if hasattr(acn_hf, f"Acn{name}")}
            tables[name] = {**table, **known}


name_our_classes_like_upstreams(vars(common))
