"""A card says what its inputs say, and nothing that was written before is lost."""

import dataclasses
import re
import sys
from pathlib import Path

import pytest
import torch
import transformers
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt
from transformers import Trainer, TrainingArguments, ViTImageProcessorPil

import acn_hf
from acn_hf import CardFacts, CardTrainer, Cost, DepthProfile, compress, truncate, write_model_card
from acn_hf.publishing import CompressionFacts, TestValues
from acn_hf.publishing.facts import PIPELINE_TAGS, config_fields
from acn_hf.publishing.metadata import eval_results
from acn_hf.publishing.render import render_model_card
from tests.support.families import HEADS, by_name, each_head

GOLDEN = Path(__file__).with_name("golden")
IMAGES = by_name("vit-ForImageClassification")
PROFILE = DepthProfile((0, 1, 2, 3), (0.1, 0.925, 0.93, 0.9301), "accuracy", True, 359, (451, 2411, 4371, 6331))
BEFORE = Cost(6331, 25324, 60700, 1.02, 0.24, 1, "cpu", "float32")
AFTER = Cost(2411, 9644, 21440, 0.5, 0.1, 1, "cpu", "float32")


@pytest.fixture
def short(build):
    return truncate(build(IMAGES), 1)


@pytest.fixture
def facts(short):
    return CardFacts(
        name="digits-vit",
        config=config_fields(short),
        repo_id="someone/digits-vit",
        processor="AutoImageProcessor",
        profile=PROFILE,
        cost_before=BEFORE,
        cost_after=AFTER,
        training={"learning_rate": 1e-3, "seed": 0},
        description="A digit classifier.",
        dataset="Digits",
        dataset_id="someone/digits",
        split="validation",
        results={"accuracy": 0.9194, "f1_macro": 0.918},
        results_split="test",
        base_model="someone/digits-vit-long",
        license="apache-2.0",
        language="en",
    )


def metadata_of(folder):
    return ModelCard.load(folder / "README.md").data.to_dict()


# --- the text


def test_the_whole_card(facts):
    assert render_model_card(facts, picture="depth_profile.png") == (GOLDEN / "card_full.md").read_text()


def test_the_card_of_a_model_of_which_nothing_is_known(build):
    facts = CardFacts(name="fresh", config=config_fields(build(by_name("bert-ForPreTraining"))))
    assert render_model_card(facts) == (GOLDEN / "card_bare.md").read_text()


def test_no_number_that_is_not_an_input(facts):
    """Every number of the text stands in the record too, or in a field's own rounding of it."""
    text = render_model_card(dataclasses.replace(facts, repo_id=None))
    known = {*map(str, PROFILE.depths), *(f"{value:.4f}" for value in PROFILE.values), "359", "0.9194", "0.9180"}
    known |= {f"{n:,}" for n in PROFILE.num_parameters} | {"0.03", "0.01", "6.07e-05", "2.144e-05", "0.001"}
    known |= {"1.02", "0.12", "0.50", "0.05", "2506.09714", "0.0"}
    body = text.split("\n---\n", 1)[1]
    assert set(re.findall(r"(?<![\w.])\d[\d,.]*(?:e-\d+)?(?<![.,])(?!\w)", body)) <= known


@each_head()
def test_metadata_are_valid_for_every_head(build, head, tmp_path):
    write_model_card(tmp_path, build(head), dataset="data", profile=PROFILE, license="mit", language="en")
    data = metadata_of(tmp_path)
    assert data["library_name"] == "transformers"
    assert {"acn", "auto-compressing-network"} <= set(data["tags"])
    assert data.get("pipeline_tag") == PIPELINE_TAGS.get(head.acn.__name__)
    if head.acn.__name__ in PIPELINE_TAGS:
        result = data["model-index"][0]["results"][0]
        assert result["task"]["type"] == data["pipeline_tag"]
        assert result["metrics"][0]["value"] == PROFILE.values[-1]
    else:
        assert "model-index" not in data


def test_pipeline_tags_are_tasks_that_load_the_class():
    """transformers knows which Auto class a task loads; ours is registered there."""
    for name, task in PIPELINE_TAGS.items():
        classes = transformers.pipelines.PIPELINE_REGISTRY.supported_tasks.get(task, {}).get("pt", ())
        config = getattr(acn_hf, name).config_class
        served = [auto._model_mapping.get(config, None) for auto in classes]
        served = [one for several in served for one in (several if isinstance(several, tuple) else [several])]
        assert not classes or getattr(acn_hf, name) in served, f"{task} does not load {name}"


@each_head()
def test_the_loading_snippet_is_true(build, head, tmp_path, monkeypatch):
    model = build(head)
    model.save_pretrained(tmp_path)
    write_model_card(tmp_path, model)
    monkeypatch.chdir(tmp_path)
    names = run_snippet(tmp_path)
    assert type(names["model"]) is head.acn
    with torch.no_grad():
        assert torch.equal(names["model"](**head.inputs())[0], model(**head.inputs())[0])


def snippet(folder):
    return re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.S)[0]


def run_snippet(folder):
    names = {}
    exec(snippet(folder), names)
    return names


def test_a_loss_says_that_smaller_is_better(facts):
    profile = dataclasses.replace(PROFILE, metric="loss", greater_is_better=False)
    text = render_model_card(dataclasses.replace(facts, profile=profile))
    assert "Smaller is better." in text
    assert "| depth | loss | parameters |" in text


def in_a_browser(text):
    """Return the HTML of a card."""
    return MarkdownIt().enable("table").render(text.split("\n---\n", 1)[1])


def test_a_page_is_linked_and_so_is_its_picture(facts):
    html = in_a_browser(render_model_card(facts, picture="depth_profile.png", page="report.html"))
    assert '<a href="report.html"><img src="depth_profile.png" alt="accuracy at every depth" /></a>' in html
    assert '<a href="report.html">Every depth with its costs, its classes and examples</a>' in html
    without = in_a_browser(render_model_card(facts, picture="depth_profile.png"))
    assert "report.html" not in without
    assert '<img src="depth_profile.png" alt="accuracy at every depth" />' in without


def test_a_page_beside_a_model_of_which_no_depth_is_known_is_linked_too(build):
    bare = CardFacts(name="fresh", config=config_fields(build(by_name("bert-ForPreTraining"))))
    text = render_model_card(bare, page="report.html")
    assert "## Every depth\n\n[Every depth with its costs, its classes and examples](report.html)" in text


def test_the_name_of_a_metric_does_nothing(facts):
    name = "<script>a|b](x)`*"
    facts = dataclasses.replace(facts, profile=dataclasses.replace(PROFILE, metric=name), results={name: 0.5})
    html = in_a_browser(render_model_card(facts, picture="depth_profile.png", page="report.html"))
    assert "<script" not in html
    shown = "&lt;script&gt;a|b](x)`*"
    assert f'<img src="depth_profile.png" alt="{shown} at every depth" /></a>' in html
    assert f"<th>{shown}</th>" in html
    assert f"<td>{shown}</td>" in html


# --- how it was compressed

TAUGHT = CompressionFacts(
    before=dataclasses.replace(PROFILE, values=(0.1, 0.21, 0.43, 0.9521)),
    healed={1: 0.9312, 2: 0.9413},
    interval=(-0.0021, 0.0314),
    doubts=("the examples are few", "they have one label"),
    calmed="massive activations were taken out",
    test=TestValues(0.9415, 0.9216, 360),
)


def test_the_card_shows_all_that_a_compression_says(facts):
    facts = dataclasses.replace(facts, finetuned=0.9312, compression=TAUGHT, test_data="test.csv")
    text = " ".join(render_model_card(facts, picture="depth_profile.png").split())
    for words in (
        "It was then healed, which means trained by the teacher: accuracy **0.9312** on Digits (validation); it was "
        "0.9250 as it was cut.",
        "The model that it was made from has accuracy 0.9521 at full depth, before it was taught.",
        "With 95% confidence this model loses between -0.0021 and 0.0314 in accuracy",
        "Massive activations were taken out.",
        "| on Digits (validation), by which the depth was chosen (359 examples) | 0.9521 | 0.9312 |",
        "| on test.csv, by which nothing was chosen (360 examples) | 0.9415 | 0.9216 |",
        "## Warnings - the examples are few - they have one label ##",
        "| depth | accuracy before teaching | taught | healed | parameters |",
        "| 0 | 0.1000 | 0.1000 | | 451 |",
        "| **1** | **0.2100** | **0.9250** | **0.9312** | **2,411** |",
        "| 3 | 0.9521 | 0.9301 | | 6,331 |",
        "the depth of this model, before it was healed, is in bold",
    ):
        assert words in text, words
    assert "fine-tuned" not in text
    assert ("test.csv", 0.9216) in {(one.dataset_name, one.metric_value) for one in eval_results(facts)}


@pytest.mark.parametrize(
    ("finetuned", "healed", "says", "not_says"),
    [
        (0.95, {1: 0.95}, "It was then healed", "fine-tuned"),
        (0.95, {}, "It was then fine-tuned", "healed"),
        (None, {1: 0.5}, "changes nothing of what the network computes", "It was then"),
        (None, {}, "changes nothing of what the network computes", "healed"),
    ],
)
def test_healed_is_what_a_teacher_trained_and_was_kept(facts, finetuned, healed, says, not_says):
    text = render_model_card(
        dataclasses.replace(facts, finetuned=finetuned, compression=CompressionFacts(healed=healed))
    )
    assert says in text
    assert not_says not in text


def test_what_a_compression_says_is_in_the_record_and_goes_with_its_profile(facts, tmp_path):
    facts = dataclasses.replace(facts, finetuned=0.9312, compression=TAUGHT, test_data="test.csv")
    write_model_card(tmp_path, facts)
    assert CardFacts.load(tmp_path / "model_card.json") == facts
    assert write_model_card(tmp_path, license="mit").compression == TAUGHT
    other = write_model_card(tmp_path, profile=dataclasses.replace(PROFILE, values=(0.1, 0.9, 0.91, 0.92)))
    assert (other.compression, other.finetuned, other.test_data) == (None, None, None)
    assert "healed" not in (tmp_path / "README.md").read_text()


def test_a_record_of_before_says_nothing_of_a_compression(facts, tmp_path):
    fields = {name: value for name, value in facts.to_dict().items() if name not in ("compression", "test_data")}
    assert CardFacts.from_dict(fields) == facts


# --- where the facts come from


def test_training_arguments_are_shown_without_places_and_tokens(short, tmp_path):
    arguments = TrainingArguments(str(tmp_path / "secret"), learning_rate=3e-4, max_steps=7, hub_token="hf_secret")
    facts = write_model_card(tmp_path, short, training=arguments)
    assert (facts.training["learning_rate"], facts.training["max_steps"]) == (3e-4, 7)
    assert "num_train_epochs" not in facts.training
    assert "| `learning_rate` | `0.0003` |" in (tmp_path / "README.md").read_text()
    assert not [path for path in tmp_path.glob("*.*") if b"secret" in path.read_bytes()]


def test_the_record_is_enough_to_render_the_card(short, facts, tmp_path):
    written = write_model_card(tmp_path, facts)
    loaded = CardFacts.load(tmp_path / "model_card.json")
    assert loaded == written == facts
    assert render_model_card(loaded, picture="depth_profile.png") == (tmp_path / "README.md").read_text()


def test_a_folder_says_itself_what_it_holds(short, tmp_path):
    short.save_pretrained(tmp_path / "some-name")
    facts = write_model_card(tmp_path / "some-name")
    assert (facts.name, facts.depth, facts.full_depth) == ("some-name", 1, 3)
    assert facts.auto_class == "AutoModelForImageClassification"


def test_later_facts_add_to_the_record(facts, tmp_path):
    write_model_card(tmp_path, facts)
    again = write_model_card(tmp_path, license="mit", training={"seed": 5})
    assert again == dataclasses.replace(facts, license="mit", training={"seed": 5})
    text = (tmp_path / "README.md").read_text()
    assert text.count("## Every depth") == text.count("# digits-vit\n") == 1
    assert metadata_of(tmp_path)["license"] == "mit"


def test_a_changed_result_replaces_the_old_one(facts, tmp_path):
    write_model_card(tmp_path, facts)
    write_model_card(tmp_path, results={"accuracy": 0.5}, results_split="other")
    found = {
        (r.metric_name, r.dataset_split): r.metric_value
        for r in ModelCard.load(tmp_path / "README.md").data.eval_results
    }
    assert found == {("accuracy", "other"): 0.5, ("accuracy", "validation"): 0.925}


@pytest.mark.parametrize(
    ("label", "numbers"),
    [("dataset", "results"), ("dataset_id", "results"), ("results_split", "results"), ("split", "profile")],
)
def test_numbers_are_not_said_to_be_of_other_data(facts, tmp_path, label, numbers):
    write_model_card(tmp_path, facts)
    before = (tmp_path / "README.md").read_text()
    rule = f"the {numbers} that the card has must keep their {label}, {getattr(facts, label)!r}; got 'other'"
    with pytest.raises(ValueError, match=re.escape(rule)):
        write_model_card(tmp_path, **{label: "other"})
    assert (tmp_path / "README.md").read_text() == before
    anew = {"results": {"accuracy": 0.5}, "profile": PROFILE, label: "other"}
    assert getattr(write_model_card(tmp_path, **anew), label) == "other"


def test_a_value_after_finetuning_goes_with_its_profile(facts, tmp_path):
    write_model_card(tmp_path, facts, finetuned=0.95)
    assert write_model_card(tmp_path, profile=PROFILE, license="mit").finetuned == 0.95
    other = dataclasses.replace(PROFILE, values=(0.1, 0.9, 0.91, 0.92))
    assert write_model_card(tmp_path, profile=other).value == 0.9


def test_without_matplotlib_the_card_has_no_picture(facts, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    write_model_card(tmp_path, facts)
    assert {path.name for path in tmp_path.iterdir()} == {"README.md", "model_card.json"}
    assert "depth_profile.png" not in (tmp_path / "README.md").read_text()
    assert "| **1** | **0.9250** | **2,411** |" in (tmp_path / "README.md").read_text()


def test_without_matplotlib_the_card_keeps_the_picture_of_the_same_profile(facts, tmp_path, monkeypatch):
    write_model_card(tmp_path, facts)
    picture = (tmp_path / "depth_profile.png").read_bytes()
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    write_model_card(tmp_path, license="mit")
    assert (tmp_path / "depth_profile.png").read_bytes() == picture
    assert "(depth_profile.png)" in (tmp_path / "README.md").read_text()
    other = dataclasses.replace(PROFILE, values=(0.1, 0.9, 0.91, 0.92))
    write_model_card(tmp_path, profile=other)
    assert "(depth_profile.png)" not in (tmp_path / "README.md").read_text()


# --- what is refused


def test_what_is_no_model_is_refused(tmp_path):
    with pytest.raises(TypeError, match="a card is that of a model of transformers or its config; got Linear"):
        write_model_card(tmp_path, torch.nn.Linear(1, 1))


def test_a_config_without_a_class_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"must name a class in `architectures` .*; got None of .*'acn_vit'"):
        write_model_card(tmp_path, acn_hf.AcnViTConfig())


def test_a_profile_of_other_depths_is_refused(short, tmp_path):
    profile = DepthProfile((0, 3), (0.1, 0.9), "accuracy", True, 5, (1, 2))
    with pytest.raises(ValueError, match=r"must hold the depth of its model, 1; it holds \(0, 3\)"):
        write_model_card(tmp_path / "new", short, profile=profile)
    assert not (tmp_path / "new").exists()


def test_a_folder_that_is_not_there_has_no_card(tmp_path):
    with pytest.raises(NotADirectoryError, match=r"must be there to have a card; .*missing is no folder"):
        write_model_card(tmp_path / "missing")
    assert list(tmp_path.iterdir()) == []


def test_a_fact_that_no_card_knows_is_refused(short, tmp_path):
    with pytest.raises(TypeError, match=r"a card's facts must be among base_model, .*; got licence"):
        write_model_card(tmp_path, short, licence="mit")


@pytest.mark.parametrize(
    ("metadata", "text"),
    [("- a list", "should be a dict"), ("- a\n: b", "the metadata of the card that is there cannot be read: ")],
    ids=["a list", "no YAML"],
)
def test_metadata_that_cannot_be_read_leave_the_card_as_it_is(short, tmp_path, metadata, text):
    (tmp_path / "README.md").write_text(f"---\n{metadata}\n---\nmine\n")
    with pytest.raises(ValueError, match=text):
        write_model_card(tmp_path, short)
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]
    assert (tmp_path / "README.md").read_text() == f"---\n{metadata}\n---\nmine\n"


# --- cards of others


def test_a_card_by_hand_is_kept(facts, tmp_path):
    (tmp_path / "README.md").write_text(
        "---\nlicense: mit\ntags:\n- mine\nthumbnail: x.png\n---\n# By hand\n\nMy words.\n"
    )
    write_model_card(tmp_path, dataclasses.replace(facts, license=None))
    write_model_card(tmp_path)
    text, data = (tmp_path / "README.md").read_text(), metadata_of(tmp_path)
    assert text.count("My words.") == text.count("## Every depth") == 1
    assert (data["license"], data["thumbnail"]) == ("mit", "x.png")
    assert data["tags"] == ["mine", "acn", "auto-compressing-network"]


@pytest.fixture
def trained(build, tmp_path):
    """Return a function that trains with a class of Trainer, into `tmp_path`, and returns trainer and result."""

    def train(trainer_class):
        arguments = TrainingArguments(
            str(tmp_path), max_steps=1, report_to="none", use_cpu=True, save_strategy="no", disable_tqdm=True,
            eval_strategy="steps", eval_steps=1, logging_steps=1, dataloader_pin_memory=False,
        )  # fmt: skip
        batch = IMAGES.inputs(batch_size=4, labels=True)
        rows = [{name: value[row] for name, value in batch.items()} for row in range(4)]
        trainer = trainer_class(build(IMAGES), arguments, train_dataset=rows, eval_dataset=rows)
        trainer.train()
        return trainer, compress(trainer.model, [batch], tolerance=1.0)

    return train


def check_both(folder, result):
    """Everything of ours and everything of Trainer's is in the card, once."""
    text, data = (folder / "README.md").read_text(), metadata_of(folder)
    for words in ("## Every depth", "## What it costs", "## Training procedure", "### Framework versions"):
        assert text.count(words) == 1, words
    for depth, value in zip(result.profile.depths, result.profile.values, strict=True):
        assert re.search(rf"^\| \**{depth}\** \| \**{value:.4f}\** \|", text, re.M)
    assert {"acn", "auto-compressing-network", "generated_from_trainer"} <= set(data["tags"])
    assert (data["pipeline_tag"], data["license"]) == ("image-classification", "mit")
    assert data["model-index"][0]["results"][0]["metrics"][0]["value"] == result.profile.values[result.depth]


def test_trainers_card_before_ours(trained, tmp_path):
    trainer, result = trained(Trainer)
    trainer.create_model_card()
    write_model_card(tmp_path, result=result, license="mit", dataset="data", split="validation")
    check_both(tmp_path, result)


def test_trainers_card_after_ours(trained, tmp_path):
    trainer, result = trained(CardTrainer)
    write_model_card(tmp_path, result=result, license="mit", dataset="data", split="validation")
    trainer.create_model_card()
    check_both(tmp_path, result)
    trainer.create_model_card(tags="mine", model_name="name")
    check_both(tmp_path, result)
    assert "mine" in metadata_of(tmp_path)["tags"]


def test_a_plain_trainers_card_after_ours_is_mended_by_one_call(trained, tmp_path):
    trainer, result = trained(Trainer)
    write_model_card(tmp_path, result=result, license="mit", dataset="data", split="validation")
    trainer.create_model_card()
    write_model_card(tmp_path)
    check_both(tmp_path, result)


def test_without_a_card_of_ours_trainers_is_as_it_was(trained, tmp_path):
    trainer, _ = trained(CardTrainer)
    trainer.create_model_card()
    assert "acn-hf" not in (tmp_path / "README.md").read_text()


# --- the result of a compression brings it along


def test_a_result_is_saved_with_all_that_belongs_to_it(build, tmp_path):
    result = compress(build(IMAGES), [IMAGES.inputs(labels=True)], tolerance=1.0)
    result.save_pretrained(
        tmp_path / "short", processor=ViTImageProcessorPil(size={"height": 8, "width": 8}), license="mit"
    )
    names = {path.name for path in (tmp_path / "short").iterdir()}
    assert {"model.safetensors", "preprocessor_config.json", "README.md", "depth_profile.png"} <= names
    assert not [path for path in tmp_path.iterdir() if path.name != "short"]
    facts = CardFacts.load(tmp_path / "short" / "model_card.json")
    assert (facts.name, facts.processor, facts.license) == ("short", "AutoImageProcessor", "mit")
    assert facts.cost_after == result.cost_after
    assert DepthProfile.load(tmp_path / "short" / "depth_profile.json") == result.profile == facts.profile
    result.save(tmp_path / "alone.json")
    assert (tmp_path / "short" / "result.json").read_text() == (tmp_path / "alone.json").read_text()


def test_a_result_that_cannot_be_saved_leaves_nothing(build, tmp_path):
    result = compress(build(IMAGES), [IMAGES.inputs(labels=True)], tolerance=1.0)
    with pytest.raises(TypeError, match="got licence"):
        result.save_pretrained(tmp_path / "short", licence="mit")
    assert list(tmp_path.iterdir()) == []


def test_heads_without_a_task_are_few():
    assert {head.acn.__name__ for head in HEADS} - set(PIPELINE_TAGS) == {
        "AcnBertForPreTraining", "AcnBertForNextSentencePrediction", "AcnDeiTForMaskedImageModeling",
        "AcnViTForMaskedImageModeling",
    }  # fmt: skip


def test_a_plain_model_of_questions_says_its_task_and_how_it_was_measured(tmp_path):
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 2, "intermediate_size": 24}
    model = transformers.BertForQuestionAnswering(transformers.BertConfig(vocab_size=30, **sizes))
    answers = DepthProfile((0, 1, 2), (0.25, 0.5, 0.75), "answer_f1", True, 9, (1, 2, 3))
    write_model_card(tmp_path, model, dataset="questions", profile=answers)
    (result,) = metadata_of(tmp_path)["model-index"][0]["results"]
    assert result["task"]["type"] == "question-answering"
    assert (result["metrics"][0]["type"], result["metrics"][0]["name"]) == ("f1", "answer_f1")
