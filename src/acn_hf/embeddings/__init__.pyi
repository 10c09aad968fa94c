from .grid import (
    EmbeddingGrid as EmbeddingGrid,
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
