from .calibration import (
    ExitCalibration as ExitCalibration,
    calibrate_exit as calibrate_exit,
)
from .early_exit import (
    EarlyExitOutput as EarlyExitOutput,
    predict_early_exit as predict_early_exit,
    run_early_exit as run_early_exit,
    with_early_exit as with_early_exit,
)
from .exiting_connection import (
    ExitingConnection as ExitingConnection,
    long_connection_path as long_connection_path,
)
from .policies import (
    ConfidenceExit as ConfidenceExit,
    EntropyExit as EntropyExit,
    ExitPolicy as ExitPolicy,
    PatienceExit as PatienceExit,
)
from .report import (
    EarlyExitReport as EarlyExitReport,
    measure_early_exit as measure_early_exit,
    run_full_depth as run_full_depth,
)
