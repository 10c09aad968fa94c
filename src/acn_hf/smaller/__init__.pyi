from .pruning import (
    Sparsity as Sparsity,
    measure_sparsity as measure_sparsity,
    prune_model as prune_model,
)
from .quantization import (
    quantize as quantize,
)
from .width import (
    prune_width as prune_width,
)
