from .files import (
    ExportReport as ExportReport,
    export_onnx as export_onnx,
    export_program as export_program,
)
from .program import (
    ExportError as ExportError,
)
