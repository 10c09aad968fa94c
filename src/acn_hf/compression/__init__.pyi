from .job import (
    Job as Job,
    Short as Short,
)
from .result import (
    CompressionResult as CompressionResult,
)
