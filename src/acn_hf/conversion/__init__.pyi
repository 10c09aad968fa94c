from .convert import (
    from_residual as from_residual,
    load_residual as load_residual,
)
from .convert_back import (
    to_residual as to_residual,
)
from .layouts import (
    ConversionError as ConversionError,
    layout_of as layout_of,
)
from .loader import (
    NotAnAcnError as NotAnAcnError,
    load_model as load_model,
)
from .timm_mixers import (
    TimmMixer as TimmMixer,
    is_timm_checkpoint as is_timm_checkpoint,
)
