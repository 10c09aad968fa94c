"""The report on residual scales says what the layers have, learned or not."""

import pytest
import torch
from transformers import BertModel

from acn_hf import ResidualScales, plot_residual_scales, residual_scales, truncate
from tests.support.families import HEADS, NUM_LAYERS, by_name, each_head
from tests.support.training import build_model, trainer

BERT = by_name("bert-Model")


@each_head(HEADS)
def test_learned_scales_begin_where_the_config_says(build, head):
    model = build(head, residual_scale=[0.25, 0.5, 0.75], learn_residual_scale=True)
    report = residual_scales(model)
    assert report.scales == report.initial == (0.25, 0.5, 0.75)
    assert (report.learned, report.readout) == (True, "auto")


def test_fixed_scales_are_those_of_the_config(build):
    report = residual_scales(build(BERT, residual_scale=0.5, attention_residual=False, readout="sum"))
    assert report == ResidualScales((0.5,) * NUM_LAYERS, (0.5,) * NUM_LAYERS, False, False, "sum")


def test_training_moves_learned_scales_at_their_own_rate(tmp_path):
    model = build_model(residual_scale=0.5, learn_residual_scale=True)
    scales = [parameter for name, parameter in model.named_parameters() if name.endswith("residual_scale")]
    others = [parameter for name, parameter in model.named_parameters() if not name.endswith("residual_scale")]
    groups = [{"params": others, "lr": 1e-4}, {"params": scales, "lr": 1e-2, "weight_decay": 0.0}]
    run = trainer(tmp_path, model)
    run.optimizer = torch.optim.AdamW(groups)
    run.train()
    report = residual_scales(model)
    moved = [abs(now - then) for now, then in zip(report.scales, report.initial, strict=True)]
    assert 0.005 < max(moved) < 0.2, "six steps at the rate of the weights would be 0.0006"
    assert residual_scales(truncate(model, 2)).scales == report.scales[:2]
    assert residual_scales(type(model).from_pretrained(tmp_path / "checkpoint-6")).scales == report.scales


def test_a_report_saves_and_reads_as_a_table(tmp_path):
    report = ResidualScales((0.9, 1.2), (1.0, 1.0), True, True, "auto")
    report.save(tmp_path / "scales.json")
    assert ResidualScales.load(tmp_path / "scales.json") == report
    assert "learned" in str(report)
    assert "+0.2000" in str(report)


def test_the_picture_shows_scales_and_where_they_began():
    axes = plot_residual_scales(ResidualScales((0.9, 0.4), (1.0, 0.5), True, True, "auto"))
    assert [patch.get_height() for patch in axes.patches] == [0.9, 0.4]
    assert any(list(line.get_ydata()) == [1.0, 0.5] for line in axes.get_lines())
    fixed = plot_residual_scales(ResidualScales((0.0,), (0.0,), False, True, "auto"))
    assert [text.get_text() for text in fixed.get_legend().get_texts()] == ["fixed"]


def test_other_models_are_refused():
    with pytest.raises(TypeError, match="only the models of acn_hf"):
        residual_scales(BertModel(BertModel.config_class(hidden_size=24, num_hidden_layers=1)))
