from .adapters import lora_config as lora_config
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
from .doubts import (
    doubts_about as doubts_about,
    doubts_about_data as doubts_about_data,
    same_answers as same_answers,
)
from .drawing import (
    plot_depth_profile as plot_depth_profile,
)
from .every_depth import (
    depth_logits as depth_logits,
    save_truncated as save_truncated,
    truncate as truncate,
)
from .evidence import (
    Evidence as Evidence,
)
from .layers import layers_of as layers_of, prefix_view as prefix_view
from .metrics import (
    METRICS as METRICS,
    Metric as Metric,
    ProfileError as ProfileError,
    resolve_metric as resolve_metric,
)
from .outputs import depth_outputs as depth_outputs
from .profile import (
    DepthProfile as DepthProfile,
    measure_depth_profile as measure_depth_profile,
)
from .rows_or_batches import batches as batches
from .spread import (
    spread_layers as spread_layers,
)
from .stack import Stack as Stack, find_stack as find_stack
from .tradeoffs import (
    BudgetError as BudgetError,
    DepthTradeoffs as DepthTradeoffs,
)
