"""The pages for users: their code runs, and their commands and options are the real ones."""

import re

import datasets
import pytest
import typer
from transformers import BertConfig, BertForSequenceClassification, BertTokenizer

from acn_hf import cli
from tests.support.adapted import quiet
from tests.support.pages import ROOT, run_page, run_training_page
from tests.support.sentence_models import sentence_model

COMMANDS = typer.main.get_command(cli.app).commands
PAGES = (ROOT / "README.md", *ROOT.glob("docs/*.md"))
LINES = {
    line: path.name
    for path in PAGES
    for line in [
        *re.findall(r"^acn-hf [^#\n]*", "".join(re.findall(r"```bash\n(.*?)```", path.read_text(), re.S)), re.M),
        *re.findall(r"`(acn-hf [a-z]+ [^`]+)`", path.read_text()),
    ]
}
"""Commands of `acn-hf` in blocks of code and inside sentences."""


def write_what_the_reader_has(folder):
    """Write a fine-tuned classifier of texts with its tokenizer, and two files of labelled texts."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "film", "to", "remember", "forget"]
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "num_hidden_layers": 4}
    BertTokenizer(vocab={word: index for index, word in enumerate(words)}).save_pretrained(folder / "my-model")
    BertForSequenceClassification(BertConfig(vocab_size=len(words), **sizes)).save_pretrained(folder / "my-model")
    for name in ("train", "validation"):
        (folder / f"{name}.csv").write_text("text,label\n" + "a film to remember,1\na film to forget,0\n" * 8)


def write_encoder(folder):
    """Write a model of sentence-transformers that embeds texts about films."""
    sentence_model(folder.with_name("transformer"), layers=4).save_pretrained(str(folder))


# A Trainer without an accelerator says so at every start.
@pytest.mark.filterwarnings("ignore:.pin_memory. argument is set as true")
def test_the_readme(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    write_what_the_reader_has(tmp_path)
    printed = run_page("README.md", tmp_path, **{"num_train_epochs=4": "max_steps=1, use_cpu=True"})
    assert "Compressed to" in printed
    assert "'label': 'LABEL_" in printed
    written = {path.name for path in (tmp_path / "short").iterdir()}
    assert {"model.safetensors", "tokenizer.json", "README.md"} <= written


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_depth(tmp_path):
    printed = run_training_page("docs/depth.md", tmp_path)
    assert "Depth profile over 359 examples" in printed
    assert "* no smaller depth is as good" in printed
    assert {"short-2", "profile.json", "profile.png"} <= {path.name for path in tmp_path.iterdir()}


def test_metrics(tmp_path):
    printed = run_training_page("docs/metrics.md", tmp_path)
    assert "Depth profile over 3 examples" in printed
    assert "eval_answer_f1_at_depth_4" in printed


@quiet  # peft asks by an old name
def test_adapters(tmp_path):
    run_training_page("docs/adapters.md", tmp_path)
    assert (tmp_path / "short-adapter" / "adapter_model.safetensors").exists()


def test_publishing(tmp_path):
    run_page("docs/publishing.md", tmp_path)
    card = (tmp_path / "short" / "README.md").read_text()
    assert "license: mit" in card
    assert "Reads digits." in card
    assert "license: mit" in (tmp_path / "space" / "README.md").read_text()


def test_training(tmp_path):
    assert "of 6 layers are left" in run_training_page("docs/training.md", tmp_path)
    assert (tmp_path / "trained" / "checkpoint-40" / "depth_profile.json").exists()


def test_compress(tmp_path):
    few = {'tune=stage("tuned", 60)': "tune=stage('tuned', 20)", 'teach=stage("taught", 60)': "teach=stage('t', 10)"}
    printed = run_training_page("docs/compression.md", tmp_path, **few)
    assert re.search(r"Compressed to \d of 6 layers", printed)
    assert "accuracy, test data" in printed
    assert (tmp_path / "short" / "result.json").exists()


def test_report(tmp_path):
    run_training_page("docs/report.md", tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<h1>Digits</h1>" in page
    assert "Examples that leave at each depth" in page
    assert (tmp_path / "report.json").exists()
    page = (tmp_path / "run.html").read_text(encoding="utf-8")
    assert "<h1>A run</h1>" in page
    assert "python train.py" in page


def test_conversion(tmp_path):
    few = {"train(original, 100)": "train(original, 8)", "train(model, 60,": "train(model, 6,"}
    few |= {"max_steps=60": "max_steps=6", "max_steps=40": "max_steps=4"}
    printed = run_training_page("docs/conversion.md", tmp_path, **few)
    assert "Compressed to 2 of 6 layers" in printed
    assert "Residual scales (learned)" in printed
    assert (tmp_path / "residual_scales.png").exists()


@quiet
def test_depth_of_any_model(tmp_path):
    printed = run_training_page("docs/depth_of_any_model.md", tmp_path)
    assert "transformers.models.bert.modeling_bert.BertForSequenceClassification" in printed
    assert not list((tmp_path / "short").glob("*.py"))


def test_language_models(tmp_path):
    printed = run_training_page("docs/language_models.md", tmp_path, **{"max_steps=60": "max_steps=6"})
    assert "Depth profile over 8 examples" in printed
    assert "perplexity" in printed


def test_connectivity(tmp_path):
    assert run_page("docs/connectivity.md", tmp_path) == "torch.Size([7, 4, 10])\n"


def test_pruning(tmp_path):
    printed = run_training_page("docs/pruning.md", tmp_path)
    assert "50.0% of the weights are zero" in printed
    assert "0.75 of the weights are zero" in printed
    assert (tmp_path / "pruned" / "checkpoint-30" / "model.safetensors").exists()
    assert (tmp_path / "narrow" / "model.safetensors").exists()


def test_early_exit(tmp_path):
    assert "mean depth" in run_page("docs/early_exit.md", tmp_path, **{"range(150)": "range(25)"})


def test_embeddings(tmp_path):
    write_encoder(tmp_path / "my-encoder")
    printed = run_training_page("docs/embeddings.md", tmp_path)
    assert "Depth profile over 72 examples" in printed
    assert "spearman by depth and dimension" in printed
    assert "Compressed to 2 of" in printed
    assert {"modules.json", "model.safetensors", "1_Pooling"} <= {path.name for path in (tmp_path / "short").iterdir()}
    assert {"modules.json", "result.json", "README.md"} <= {path.name for path in (tmp_path / "compressed").iterdir()}


def test_analysis(tmp_path):
    assert "DG / FG at every depth" in run_training_page("docs/analysis.md", tmp_path)
    for name in ("flow.png", "history.png", "connections.png", "trained/checkpoint-20/gradient_flow.json"):
        assert (tmp_path / name).stat().st_size > 500


@pytest.mark.parametrize("line", LINES, ids=lambda line: f"{LINES[line]}-{line}")
def test_the_commands_are_real(line):
    _, name, *words = line.split()
    options = {option for parameter in COMMANDS[name].params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= options
    arguments = [one for one in COMMANDS[name].params if one.param_type_name == "argument" and one.required]
    assert len(arguments) <= len([word for word in words if not word.startswith("--")])
