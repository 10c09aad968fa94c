from .page import (
    render_report as render_report,
    write_report as write_report,
)
from .record import (
    ReportRecord as ReportRecord,
)
from .run_log import (
    RunLog as RunLog,
)
from .still import (
    still_picture as still_picture,
)
