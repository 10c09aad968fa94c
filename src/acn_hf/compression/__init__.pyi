from .any_job import (
    AnyJob as AnyJob,
    Short as Short,
)
from .embeddings import (
    compress_embeddings as compress_embeddings,
)
from .job import (
    Job as Job,
)
from .result import (
    CompressionResult as CompressionResult,
)
