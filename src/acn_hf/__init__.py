"""Auto-Compressing Networks for Hugging Face Transformers (arXiv 2506.09714).

Importing this package registers its models with the Auto classes of transformers.
"""

from . import auto
from ._version import __version__
from .analysis import (
    ConnectivityMatrix,
    GradientFlow,
    GradientFlowCallback,
    GradientFlowHistory,
    connectivity_matrix,
    measure_gradient_flow,
)
from .analysis.scales import ResidualScales, residual_scales
from .compress import CompressionResult, compress
from .conversion.convert import ConversionError, from_residual
from .depth.adapters import depth_logits, lora_config, truncate
from .depth.cost import Cost, measure_cost
from .depth.depth_cost import DepthCost, measure_depth_cost
from .depth.profile import DepthProfile, measure_depth_profile
from .exits.calibration import ExitCalibration, calibrate_exit
from .exits.early_exit import EarlyExitOutput, predict_early_exit, with_early_exit
from .exits.policies import ConfidenceExit, EntropyExit, ExitPolicy, PatienceExit
from .exits.report import EarlyExitReport, measure_early_exit
from .export.files import ExportReport, export_onnx, export_program
from .export.program import ExportError
from .modeling.configuration_acn_bert import AcnBertConfig
from .modeling.configuration_acn_deit import AcnDeiTConfig
from .modeling.configuration_acn_mixer import AcnMixerConfig
from .modeling.configuration_acn_vit import AcnViTConfig
from .modeling.depth import DepthError
from .modeling.modeling_acn_bert import (
    AcnBertForMaskedLM,
    AcnBertForMultipleChoice,
    AcnBertForNextSentencePrediction,
    AcnBertForPreTraining,
    AcnBertForQuestionAnswering,
    AcnBertForSequenceClassification,
    AcnBertForTokenClassification,
    AcnBertModel,
)
from .modeling.modeling_acn_deit import (
    AcnDeiTForImageClassification,
    AcnDeiTForImageClassificationWithTeacher,
    AcnDeiTForMaskedImageModeling,
    AcnDeiTModel,
)
from .modeling.modeling_acn_mixer import AcnMixerForImageClassification, AcnMixerModel
from .modeling.modeling_acn_vit import (
    AcnViTForImageClassification,
    AcnViTForMaskedImageModeling,
    AcnViTModel,
)
from .plots import (
    plot_connectivity,
    plot_depth_profile,
    plot_exit_depths,
    plot_gradient_flow,
    plot_residual_scales,
)
from .publishing.checkpoints import convert_checkpoint, push_checkpoint
from .publishing.facts import CardFacts
from .publishing.model_card import CardTrainer, write_model_card
from .smaller.pruning import Sparsity, measure_sparsity, prune_model
from .smaller.quantization import quantize
from .smaller.width import prune_width
from .training.annealing import ResidualAnnealingCallback
from .training.callbacks import DepthProfileCallback, IntermediateSupervisionCallback
from .training.distillation import DistillationLoss
from .training.finetuning import FinetuningError
from .training.gradual_pruning import PruningCallback
from .training.shedding import LayerSheddingCallback
from .training.supervision import intermediate_supervision

auto.register()

__all__ = [
    "AcnBertConfig",
    "AcnBertForMaskedLM",
    "AcnBertForMultipleChoice",
    "AcnBertForNextSentencePrediction",
    "AcnBertForPreTraining",
    "AcnBertForQuestionAnswering",
    "AcnBertForSequenceClassification",
    "AcnBertForTokenClassification",
    "AcnBertModel",
    "AcnDeiTConfig",
    "AcnDeiTForImageClassification",
    "AcnDeiTForImageClassificationWithTeacher",
    "AcnDeiTForMaskedImageModeling",
    "AcnDeiTModel",
    "AcnMixerConfig",
    "AcnMixerForImageClassification",
    "AcnMixerModel",
    "AcnViTConfig",
    "AcnViTForImageClassification",
    "AcnViTForMaskedImageModeling",
    "AcnViTModel",
    "CardFacts",
    "CardTrainer",
    "CompressionResult",
    "ConfidenceExit",
    "ConnectivityMatrix",
    "ConversionError",
    "Cost",
    "DepthCost",
    "DepthError",
    "DepthProfile",
    "DepthProfileCallback",
    "DistillationLoss",
    "EarlyExitOutput",
    "EarlyExitReport",
    "EntropyExit",
    "ExitCalibration",
    "ExitPolicy",
    "ExportError",
    "ExportReport",
    "FinetuningError",
    "GradientFlow",
    "GradientFlowCallback",
    "GradientFlowHistory",
    "IntermediateSupervisionCallback",
    "LayerSheddingCallback",
    "PatienceExit",
    "PruningCallback",
    "ResidualAnnealingCallback",
    "ResidualScales",
    "Sparsity",
    "__version__",
    "calibrate_exit",
    "compress",
    "connectivity_matrix",
    "convert_checkpoint",
    "depth_logits",
    "export_onnx",
    "export_program",
    "from_residual",
    "intermediate_supervision",
    "lora_config",
    "measure_cost",
    "measure_depth_cost",
    "measure_depth_profile",
    "measure_early_exit",
    "measure_gradient_flow",
    "measure_sparsity",
    "plot_connectivity",
    "plot_depth_profile",
    "plot_exit_depths",
    "plot_gradient_flow",
    "plot_residual_scales",
    "predict_early_exit",
    "prune_model",
    "prune_width",
    "push_checkpoint",
    "quantize",
    "residual_scales",
    "truncate",
    "with_early_exit",
    "write_model_card",
]
