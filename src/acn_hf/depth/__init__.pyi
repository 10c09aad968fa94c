from .adapters import (
    depth_logits as depth_logits,
    lora_config as lora_config,
    truncate as truncate,
)
from .cost import (
    Cost as Cost,
    example_inputs as example_inputs,
    measure_cost as measure_cost,
)
from .depth_cost import (
    DepthCost as DepthCost,
    measure_depth_cost as measure_depth_cost,
)
from .distributed_profile import (
    measure_together as measure_together,
)
from .evidence import (
    Evidence as Evidence,
)
from .metrics import (
    METRICS as METRICS,
    Metric as Metric,
    ProfileError as ProfileError,
    resolve_metric as resolve_metric,
)
from .profile import (
    DepthProfile as DepthProfile,
    batches as batches,
    measure_depth_profile as measure_depth_profile,
)
