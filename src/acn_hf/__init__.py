"""Auto-Compressing Networks for Hugging Face Transformers (arXiv 2506.09714).

Importing this package registers its models with the Auto classes of transformers.
"""

from . import auto
from ._version import __version__
from .modeling.configuration_acn_bert import AcnBertConfig
from .modeling.configuration_acn_vit import AcnViTConfig
from .modeling.depth import DepthError, depth_logits, truncate
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
from .modeling.modeling_acn_vit import (
    AcnViTForImageClassification,
    AcnViTForMaskedImageModeling,
    AcnViTModel,
)

auto.register()
