"""Settings that upstream's tests expect and this repository's stricter ones refuse."""

from pathlib import Path

import pytest

UPSTREAM_MARKERS = (
    "accelerate_tests",
    "flash_attn_test",
    "flash_attn_3_test",
    "flash_attn_4_test",
    "is_training_test",
    "torch_compile_test",
    "torch_export_test",
)


def pytest_configure(config: pytest.Config) -> None:
    for marker in UPSTREAM_MARKERS:
        config.addinivalue_line("markers", f"{marker}: set by upstream on its own tests")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            # A foreign suite: its warnings are upstream's to mend, and differ from release to release.
            item.add_marker(pytest.mark.filterwarnings("ignore"))
