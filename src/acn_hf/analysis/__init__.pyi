from .connections import (
    ConnectivityMatrix as ConnectivityMatrix,
    connectivity_matrix as connectivity_matrix,
)
from .gradient_flow import (
    GradientFlow as GradientFlow,
    GradientFlowHistory as GradientFlowHistory,
    measure_gradient_flow as measure_gradient_flow,
)
from .gradient_flow_callback import (
    GradientFlowCallback as GradientFlowCallback,
)
from .scales import (
    ResidualScales as ResidualScales,
    residual_scales as residual_scales,
)
