"""In bfloat16 on a CPU short sequences are trained by plain matrix products, and all is as it was afterwards."""

import datasets
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import BertConfig, BertForSequenceClassification, TrainerCallback

from acn_hf import compress, teach_embeddings
from acn_hf.training.attention import LONGEST, quick_attention
from acn_hf.training.finetuning import fine_tune
from acn_hf.training.shedding import LayerSheddingCallback
from tests.embeddings.test_teaching import arguments as of_embeddings
from tests.support.sentence_models import sentence_model, texts
from tests.support.training import build_model, data, trainer

QUIET = {"eval_strategy": "no", "save_strategy": "no"}


class Attention(TrainerCallback):
    """Notes by what a model attends in each step."""

    def __init__(self):
        self.seen = set()

    def on_step_begin(self, args, state, control, model, **kwargs):
        model = getattr(model, "transformers_model", model)
        self.seen.add(model.config._attn_implementation)


def bert():
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "num_hidden_layers": 2}
    return BertForSequenceClassification(BertConfig(vocab_size=20, **sizes))


def of_tokens(folder, length, **options):
    """Return the Trainer of a BERT that reads texts of so many tokens."""
    rows = datasets.Dataset.from_dict({"input_ids": [[5] * length] * 8, "labels": [0, 1] * 4})
    one = trainer(folder, bert(), max_steps=1, per_device_train_batch_size=2, **QUIET, **options)
    one.train_dataset = rows
    return one


def attended(one, around=quick_attention):
    """Return by what the model of a Trainer attends while it trains, and afterwards."""
    noted = Attention()
    one.add_callback(noted)
    with around(one):
        one.train()
    return noted.seen, one.model.config._attn_implementation


@pytest.mark.parametrize(
    ("length", "options", "during"),
    [(8, {"bf16": True}, "eager"), (8, {}, "sdpa"), (LONGEST + 1, {"bf16": True}, "sdpa")],
    ids=["short", "float32", "long"],
)
def test_only_short_texts_in_bfloat16_are_attended_by_products(tmp_path, length, options, during):
    assert attended(of_tokens(tmp_path, length, **options)) == ({during}, "sdpa")


def test_of_choices_each_is_a_text(tmp_path):
    one = of_tokens(tmp_path, 8, bf16=True)
    one.train_dataset = datasets.Dataset.from_dict({"input_ids": [[[5] * (LONGEST + 1)] * 4] * 8, "labels": [0] * 8})
    with quick_attention(one):
        assert one.model.config._attn_implementation == "sdpa"


def test_patches_are_counted(tmp_path):
    assert attended(trainer(tmp_path, max_steps=1, bf16=True, **QUIET)) == ({"eager"}, "sdpa")
    large = build_model(image_size=8 * LONGEST)
    one = trainer(tmp_path, large, max_steps=1, bf16=True, **QUIET)
    with quick_attention(one):
        assert large.config._attn_implementation == "sdpa"


def test_what_somebody_chose_stays(tmp_path):
    one = trainer(tmp_path, max_steps=1, bf16=True, **QUIET)
    one.model.set_attn_implementation("eager")
    assert attended(one) == ({"eager"}, "eager")


def test_an_error_leaves_nothing_changed(tmp_path):
    one = trainer(tmp_path, bf16=True, **QUIET)
    seen = []

    def stop():
        with quick_attention(one):
            seen.append(one.model.config._attn_implementation)
            raise KeyError

    with pytest.raises(KeyError):
        stop()
    assert seen == ["eager"]
    assert one.model.config._attn_implementation == "sdpa"


def test_nothing_changes_but_rounding(tmp_path):
    how = {"max_steps": 3, "bf16": True, "optim": "sgd", **QUIET}  # Adam would blow up the rounding of small gradients
    plain, quick = (trainer(tmp_path, build_model(), **how) for _ in range(2))
    plain.train()
    attended(quick)
    pairs = list(zip(plain.model.parameters(), quick.model.parameters(), strict=True))
    before = torch.cat([weight.flatten() for weight in build_model().parameters()])
    one, other = (torch.cat([pair[place].detach().flatten() for pair in pairs]) for place in (0, 1))
    assert (one - other).norm() < 0.05 * (one - before).norm()


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*:FutureWarning")  # peft asks by the old name
def test_adapters_train_so_too(tmp_path):
    adapted = get_peft_model(build_model(), LoraConfig(target_modules=["q_proj", "v_proj"]))
    one = trainer(tmp_path, adapted, max_steps=1, bf16=True, label_names=["labels"], **QUIET)
    with quick_attention(one):
        assert adapted.base_model.model.config._attn_implementation == "eager"
    assert adapted.base_model.model.config._attn_implementation == "sdpa"


def test_both_configs_are_as_before_when_layers_left(tmp_path):
    one = trainer(tmp_path, max_steps=4, bf16=True, **QUIET)
    before = one.model.config
    shedding = LayerSheddingCallback(data()["validation"], tolerance=1.0, margin=0, patience=1, every=1, start=0)
    shedding.attach(one)
    assert attended(one) == ({"eager"}, "sdpa")
    assert one.model.config is not before
    assert before._attn_implementation == "sdpa"


def test_a_stage_and_embeddings_train_so(tmp_path):
    noted = Attention()
    model = fine_tune(build_model(), lambda copy: trainer(tmp_path, copy, bf16=True, callbacks=[noted], **QUIET))
    assert (noted.seen, model.config._attn_implementation) == ({"eager"}, "sdpa")
    noted = Attention()
    long = sentence_model(tmp_path / "long")
    taught = teach_embeddings(long, texts(40), of_embeddings(tmp_path, bf16=True), callbacks=[noted])
    assert noted.seen == {"eager"}
    assert {one.transformers_model.config._attn_implementation for one in (long, taught)} == {"sdpa"}


def test_the_result_of_a_compression_attends_as_its_model_did(tmp_path):
    def stage(copy):
        return trainer(tmp_path / str(copy.config.num_hidden_layers), copy, bf16=True, max_steps=1, **QUIET)

    result = compress(build_model(), data()["validation"], teach=stage, heal=stage, depth=2)
    assert result.model.config._attn_implementation == "sdpa"
