import pytest

from tests.support.sentence_models import PROMPTS, sentence_model


@pytest.fixture(scope="session")
def encoder_folder(tmp_path_factory):
    """A folder for the transformer of a model of sentence-transformers."""
    return tmp_path_factory.mktemp("encoder")


@pytest.fixture
def model(encoder_folder):
    """A small random SentenceTransformer of three layers, with prompts."""
    return sentence_model(encoder_folder, prompts=PROMPTS)
