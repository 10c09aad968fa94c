from .grid import (
    EmbeddingGrid as EmbeddingGrid,
)
from .memory import (
    depth_embeddings as depth_embeddings,
)
from .profile import (
    measure_embedding_profile as measure_embedding_profile,
)
