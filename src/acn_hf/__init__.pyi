from ._version import (
    __version__ as __version__,
)
from .analysis import (
    ConnectivityMatrix as ConnectivityMatrix,
    GradientFlow as GradientFlow,
    GradientFlowCallback as GradientFlowCallback,
    GradientFlowHistory as GradientFlowHistory,
    ResidualScales as ResidualScales,
    connectivity_matrix as connectivity_matrix,
    measure_gradient_flow as measure_gradient_flow,
    residual_scales as residual_scales,
)
from .compress import (
    compress as compress,
)
from .compression.embeddings import (
    compress_embeddings as compress_embeddings,
)
from .compression.result import (
    CompressionResult as CompressionResult,
)
from .conversion import (
    ConversionError as ConversionError,
    from_residual as from_residual,
    to_residual as to_residual,
)
from .depth import (
    BudgetError as BudgetError,
    Cost as Cost,
    DepthCost as DepthCost,
    DepthProfile as DepthProfile,
    DepthTradeoffs as DepthTradeoffs,
    depth_logits as depth_logits,
    lora_config as lora_config,
    measure_cost as measure_cost,
    measure_depth_cost as measure_depth_cost,
    measure_depth_profile as measure_depth_profile,
    plot_depth_profile as plot_depth_profile,
    save_truncated as save_truncated,
    truncate as truncate,
)
from .embeddings import (
    EmbeddingGrid as EmbeddingGrid,
    depth_embeddings as depth_embeddings,
    measure_embedding_profile as measure_embedding_profile,
    teach_embeddings as teach_embeddings,
)
from .exits import (
    ConfidenceExit as ConfidenceExit,
    EarlyExitOutput as EarlyExitOutput,
    EarlyExitReport as EarlyExitReport,
    EntropyExit as EntropyExit,
    ExitCalibration as ExitCalibration,
    ExitPolicy as ExitPolicy,
    PatienceExit as PatienceExit,
    calibrate_exit as calibrate_exit,
    measure_early_exit as measure_early_exit,
    predict_early_exit as predict_early_exit,
    with_early_exit as with_early_exit,
)
from .export import (
    ExportError as ExportError,
    ExportReport as ExportReport,
    export_onnx as export_onnx,
    export_program as export_program,
)
from .modeling import (
    AcnBertConfig as AcnBertConfig,
    AcnBertForMaskedLM as AcnBertForMaskedLM,
    AcnBertForMultipleChoice as AcnBertForMultipleChoice,
    AcnBertForNextSentencePrediction as AcnBertForNextSentencePrediction,
    AcnBertForPreTraining as AcnBertForPreTraining,
    AcnBertForQuestionAnswering as AcnBertForQuestionAnswering,
    AcnBertForSequenceClassification as AcnBertForSequenceClassification,
    AcnBertForTokenClassification as AcnBertForTokenClassification,
    AcnBertModel as AcnBertModel,
    AcnDeiTConfig as AcnDeiTConfig,
    AcnDeiTForImageClassification as AcnDeiTForImageClassification,
    AcnDeiTForImageClassificationWithTeacher as AcnDeiTForImageClassificationWithTeacher,
    AcnDeiTForMaskedImageModeling as AcnDeiTForMaskedImageModeling,
    AcnDeiTModel as AcnDeiTModel,
    AcnMixerConfig as AcnMixerConfig,
    AcnMixerForImageClassification as AcnMixerForImageClassification,
    AcnMixerModel as AcnMixerModel,
    AcnViTConfig as AcnViTConfig,
    AcnViTForImageClassification as AcnViTForImageClassification,
    AcnViTForMaskedImageModeling as AcnViTForMaskedImageModeling,
    AcnViTModel as AcnViTModel,
    DepthError as DepthError,
)
from .plots import (
    plot_connectivity as plot_connectivity,
    plot_exit_depths as plot_exit_depths,
    plot_gradient_flow as plot_gradient_flow,
    plot_residual_scales as plot_residual_scales,
)
from .publishing import (
    CardFacts as CardFacts,
    CardTrainer as CardTrainer,
    convert_checkpoint as convert_checkpoint,
    push_checkpoint as push_checkpoint,
    write_model_card as write_model_card,
)
from .smaller import (
    Sparsity as Sparsity,
    measure_sparsity as measure_sparsity,
    prune_model as prune_model,
    prune_width as prune_width,
    quantize as quantize,
)
from .training import (
    DepthProfileCallback as DepthProfileCallback,
    DistillationLoss as DistillationLoss,
    FinetuningError as FinetuningError,
    IntermediateSupervisionCallback as IntermediateSupervisionCallback,
    LabelledTokensCallback as LabelledTokensCallback,
    LayerSheddingCallback as LayerSheddingCallback,
    PruningCallback as PruningCallback,
    ResidualAnnealingCallback as ResidualAnnealingCallback,
    intermediate_supervision as intermediate_supervision,
    teach as teach,
)
