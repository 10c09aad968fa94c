"""What the connections of a model are, and what its layers learn through them."""

from .connections import ConnectivityMatrix, connectivity_matrix
from .gradient_flow import GradientFlow, GradientFlowHistory, measure_gradient_flow
from .gradient_flow_callback import GradientFlowCallback

__all__ = [
    "ConnectivityMatrix",
    "GradientFlow",
    "GradientFlowCallback",
    "GradientFlowHistory",
    "connectivity_matrix",
    "measure_gradient_flow",
]
