"""Cards of SentenceTransformers: the one that sentence-transformers writes with ours in it, and what is uploaded."""

from dataclasses import replace

import numpy as np
import pytest
from huggingface_hub import ModelCard
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense

from acn_hf import CardFacts, compress_embeddings, truncate, write_model_card
from acn_hf.publishing.render import render_model_card
from tests.support.command_line import run
from tests.support.hub_server import OWNER_TOKEN
from tests.support.sentence_models import PROMPTS, sentence_model, texts

__all__ = ["run"]
REPO = "someone/short"
DATA, TEST = texts(40), texts(30, seed=2)
CARD = "---\nlicense: apache-2.0\nlanguage:\n- en\nbase_model: someone/bare\ndatasets:\n- someone/pairs\n---\n# Long\n"

# By huggingface_hub's own call to httpx.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture
def long(tmp_path):
    """A SentenceTransformer with a Dense module, read from a folder with a card."""
    model = sentence_model(tmp_path / "bare", more=[Dense(16, 12)], prompts=PROMPTS)
    model.save_pretrained(str(tmp_path / "long"))
    (tmp_path / "long" / "README.md").write_text(CARD)
    return SentenceTransformer(str(tmp_path / "long"), device="cpu")


@pytest.fixture
def result(long):
    return compress_embeddings(long, DATA, depth=2, test=TEST)


def check_metadata(data):
    assert (data.license, data.language, data.base_model) == ("apache-2.0", ["en"], "someone/bare")
    assert (data.library_name, data.pipeline_tag) == ("sentence-transformers", "sentence-similarity")
    assert {"sentence-transformers", "sentence-similarity", "feature-extraction", "acn-hf"} <= set(data.tags)
    assert len(set(data.tags)) == len(data.tags)


def test_both_cards_are_one(result, tmp_path):
    result.save_pretrained(tmp_path / "short", name="My short one", dataset="reviews", test_data="others")
    text = (tmp_path / "short" / "README.md").read_text()
    card = ModelCard(text)
    check_metadata(card.data)
    assert text.count("<!-- acn-hf: begin -->") == text.count("# My short one\n") == 1
    assert text.index("### Full Model Architecture") < text.index("<!-- acn-hf: begin -->")
    ours = text.split("<!-- acn-hf: begin -->")[1]
    for said in (
        "The first 2 of 3 layers of a `BertModel` in a `SentenceTransformer`",
        "from sentence_transformers import SentenceTransformer",
        "![neighbours at every depth](depth_profile.png)",
        f"| on others, by which nothing was chosen (30 examples) | 1.0000 | {result.test.short:.4f} |",
        "`neighbours`: the share of the nearest neighbours of a text",
    ):
        assert said in ours
    assert "AutoModel" not in ours
    measured = {(one.dataset_name, one.metric_name): one.metric_value for one in card.data.eval_results}
    assert measured == {("reviews", "neighbours"): result.value, ("others", "neighbours"): result.test.short}
    assert result.model.model_card_data.model_name is None, "what is saved is left as it was"


def test_what_is_healed_is_not_said_to_be_the_first_layers(result, tmp_path):
    result.save_pretrained(tmp_path / "short")
    facts = CardFacts.load(tmp_path / "short" / "model_card.json")
    healed = replace(facts, finetuned=0.97, compression=replace(facts.compression, healed={2: 0.97}))
    text = render_model_card(healed)
    cut = f"{facts.profile.value_at(2):.4f}"
    assert "\n2 of the 3 layers of a `BertModel` in a `SentenceTransformer`" in text
    assert f"neighbours **0.9700**; that of the first 2 layers was {cut} as it was cut" in text
    assert "| depth | neighbours | healed | parameters |" in text
    kept = replace(facts, compression=replace(facts.compression, healed={2: 0.5}))
    assert "\nThe first 2 of 3 layers of a `BertModel`" in render_model_card(kept)


def test_what_is_saved_is_read_and_says_the_same_again(result, tmp_path):
    result.save_pretrained(tmp_path / "short")
    again = SentenceTransformer(str(tmp_path / "short"), device="cpu")
    assert np.array_equal(again.encode(TEST), result.model.encode(TEST))
    truncate(again, 1).save_pretrained(str(tmp_path / "shorter"))
    data = ModelCard((tmp_path / "shorter" / "README.md").read_text()).data
    assert (data.license, data.language, data.base_model) == ("apache-2.0", ["en"], "someone/bare")


def test_a_card_that_is_there_is_kept(result, tmp_path):
    (tmp_path / "short").mkdir()
    (tmp_path / "short" / "README.md").write_text("---\nlicense: mit\n---\n# By hand\n\nMind the gap.\n")
    for _ in range(2):
        result.save_pretrained(tmp_path / "short", dataset="reviews")
        text = (tmp_path / "short" / "README.md").read_text()
        assert "Mind the gap." in text
        assert text.count("<!-- acn-hf: begin -->") == 1
        data = ModelCard(text).data
        assert (data.license, data.library_name) == ("mit", "sentence-transformers")
        assert {"sentence-transformers", "feature-extraction"} <= set(data.tags)


def test_a_card_is_written_for_any_folder_of_one(long, tmp_path):
    truncate(long, 1).save_pretrained(str(tmp_path / "cut"))
    facts = write_model_card(tmp_path / "cut", dataset="reviews")
    assert (facts.library, facts.depth, facts.architecture) == ("sentence-transformers", 1, "BertModel")
    check_metadata(ModelCard((tmp_path / "cut" / "README.md").read_text()).data)
    assert CardFacts.load(tmp_path / "cut" / "model_card.json") == facts
    assert write_model_card(tmp_path / "cut", license="mit").library == "sentence-transformers"


def test_a_result_is_one_commit_and_loads_by_its_name(hub, result):
    result.push_to_hub(REPO, token=OWNER_TOKEN)
    repo = hub.repos[REPO]
    assert {"modules.json", "1_Pooling/config.json", "2_Dense/model.safetensors", "result.json"} <= set(repo.files)
    check_metadata(ModelCard.load(REPO).data)
    assert f'SentenceTransformer("{REPO}"' in ModelCard.load(REPO).text
    uploaded = SentenceTransformer(REPO, device="cpu")
    assert np.array_equal(uploaded.encode(TEST), result.model.encode(TEST))
    assert uploaded.prompts == PROMPTS


def test_push_uploads_what_is_published_in_one_commit(hub, run, result, tmp_path):
    folder = tmp_path / "short"
    result.save_pretrained(folder)
    (folder / "training_args.bin").write_bytes(b"a token")
    (folder / "notes").mkdir()
    (folder / "notes" / "config.json").write_text("{}")
    (folder / "2_Dense" / "optimizer.pt").write_bytes(b"a state")
    before = {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    done = run("push", folder, REPO, "--token", OWNER_TOKEN)
    assert done.exit_code == 0, done.output
    uploaded = set(hub.repos[REPO].files)
    assert uploaded - {".gitattributes"} == {
        *("README.md", "config.json", "config_sentence_transformers.json", "depth_profile.json", "depth_profile.png"),
        *("model.safetensors", "model_card.json", "modules.json", "result.json", "sentence_bert_config.json"),
        *("tokenizer.json", "tokenizer_config.json", "1_Pooling/config.json", "2_Dense/config.json"),
        *("2_Dense/model.safetensors", "3_Normalize/config.json"),
    }
    again = SentenceTransformer(REPO, device="cpu")
    assert np.array_equal(again.encode(TEST), result.model.encode(TEST))
    assert {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_what_is_not_whole_is_not_pushed(hub, run, long, tmp_path):
    truncate(long, 2).save_pretrained(str(tmp_path / "cut"))
    config = (tmp_path / "cut" / "config.json").read_text()
    (tmp_path / "cut" / "config.json").write_text(config.replace('"num_hidden_layers": 2', '"num_hidden_layers": 3'))
    done = run("push", tmp_path / "cut", REPO, "--token", OWNER_TOKEN)
    assert done.exit_code == 1
    assert "it lacks 16, which would stay random" in done.stderr
    assert hub.repos == {}
