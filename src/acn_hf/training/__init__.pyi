from .annealing import (
    ResidualAnnealingCallback as ResidualAnnealingCallback,
)
from .answers import (
    AnswerBook as AnswerBook,
)
from .callbacks import (
    DepthProfileCallback as DepthProfileCallback,
    IntermediateSupervisionCallback as IntermediateSupervisionCallback,
)
from .distillation import (
    DistillationLoss as DistillationLoss,
)
from .finetuning import (
    FinetuningError as FinetuningError,
    fine_tune as fine_tune,
    finetuning_arguments as finetuning_arguments,
    quiet_trainer as quiet_trainer,
)
from .gradual_pruning import (
    PruningCallback as PruningCallback,
)
from .labelled_tokens_callback import (
    LabelledTokensCallback as LabelledTokensCallback,
)
from .measuring_callback import (
    LoggingCallback as LoggingCallback,
    MeasuringCallback as MeasuringCallback,
)
from .shedding import (
    LayerSheddingCallback as LayerSheddingCallback,
)
from .stage_trainer import (
    StageSettings as StageSettings,
)
from .stages import (
    StageError as StageError,
    Stages as Stages,
)
from .supervision import (
    intermediate_supervision as intermediate_supervision,
)
from .teaching import (
    taught_by as taught_by,
    teach as teach,
)
