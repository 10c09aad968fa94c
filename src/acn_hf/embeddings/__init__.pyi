from .evaluator_source import (
    load_evaluator as load_evaluator,
)
from .grid import (
    EmbeddingGrid as EmbeddingGrid,
)
from .loading import (
    NoSentenceTransformerError as NoSentenceTransformerError,
    load_sentence_transformer as load_sentence_transformer,
)
from .memory import (
    depth_embeddings as depth_embeddings,
)
from .profile import (
    measure_embedding_profile as measure_embedding_profile,
)
from .teaching import (
    teach_embeddings as teach_embeddings,
)
