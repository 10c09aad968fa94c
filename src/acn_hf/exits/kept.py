"""What is kept of a policy of early exit in a file: its calibration, or what it did on data."""

import json
from pathlib import Path

from .calibration import ExitCalibration
from .report import EarlyExitReport

KEPT_NAME = "exits.json"
"""What the file is called that lies beside a checkpoint."""


def load_exits(path: Path) -> EarlyExitReport | ExitCalibration:
    """Return what a file holds of a policy of early exit.

    Raises:
        OSError: The file cannot be read.
        ValueError: It holds neither an `EarlyExitReport` nor an `ExitCalibration`.
    """
    try:
        is_calibration = "tolerance" in json.loads(path.read_text(encoding="utf-8"))
    except (TypeError, ValueError, RecursionError):  # the other says of what is damaged what it is
        is_calibration = False
    return ExitCalibration.load(path) if is_calibration else EarlyExitReport.load(path)
