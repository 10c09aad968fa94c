"""Early exit: policies, calibration, reports, and the pass in which examples leave."""
