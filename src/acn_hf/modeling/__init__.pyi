from .configuration_acn import (
    AcnConfig as AcnConfig,
)
from .configuration_acn_bert import (
    AcnBertConfig as AcnBertConfig,
)
from .configuration_acn_deit import (
    AcnDeiTConfig as AcnDeiTConfig,
)
from .configuration_acn_mixer import (
    AcnMixerConfig as AcnMixerConfig,
)
from .configuration_acn_vit import (
    AcnViTConfig as AcnViTConfig,
)
from .connectivity import (
    LongConnection as LongConnection,
    PreNormLongConnection as PreNormLongConnection,
    ShortConnection as ShortConnection,
)
from .depth import (
    DepthError as DepthError,
)
from .modeling_acn import (
    AcnPreTrainedModel as AcnPreTrainedModel,
)
from .modeling_acn_bert import (
    AcnBertForMaskedLM as AcnBertForMaskedLM,
    AcnBertForMultipleChoice as AcnBertForMultipleChoice,
    AcnBertForNextSentencePrediction as AcnBertForNextSentencePrediction,
    AcnBertForPreTraining as AcnBertForPreTraining,
    AcnBertForQuestionAnswering as AcnBertForQuestionAnswering,
    AcnBertForSequenceClassification as AcnBertForSequenceClassification,
    AcnBertForTokenClassification as AcnBertForTokenClassification,
    AcnBertModel as AcnBertModel,
)
from .modeling_acn_deit import (
    AcnDeiTForImageClassification as AcnDeiTForImageClassification,
    AcnDeiTForImageClassificationWithTeacher as AcnDeiTForImageClassificationWithTeacher,
    AcnDeiTForMaskedImageModeling as AcnDeiTForMaskedImageModeling,
    AcnDeiTModel as AcnDeiTModel,
)
from .modeling_acn_mixer import (
    AcnMixerForImageClassification as AcnMixerForImageClassification,
    AcnMixerModel as AcnMixerModel,
)
from .modeling_acn_vit import (
    AcnViTForImageClassification as AcnViTForImageClassification,
    AcnViTForMaskedImageModeling as AcnViTForMaskedImageModeling,
    AcnViTModel as AcnViTModel,
)
