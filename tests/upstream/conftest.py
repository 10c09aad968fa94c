"""Settings that upstream's tests expect and this repository's stricter ones refuse."""

import re
from pathlib import Path

import pytest

from tests.support.covering import covering_array

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


EAGER_AND_SDPA = re.compile(
    r"test_eager_matches_sdpa_inference_\d+_(fp16|fp32|bf16)_pad_(left|right)(_no_attn_mask|)(_sdpa_kernels|)"
)
"""The tests of a product of four lists, which upstream runs whole."""

SLOW = {"test_bc_torch_dtype": ("AcnViTTest", "AcnMixerTest")}
"""Tests that take longest, and the classes in which `make test` runs them: what they check is the same code in all."""


@pytest.hookimpl(tryfirst=True)  # before pytest leaves out what carries a marker
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            # A foreign suite: its warnings are upstream's to mend, and differ from release to release.
            item.add_marker(pytest.mark.filterwarnings("ignore"))
            if item.name in SLOW and item.parent.name not in SLOW[item.name]:
                item.add_marker(pytest.mark.full)
    products = {item: found.groups() for item in items if (found := EAGER_AND_SDPA.fullmatch(item.name))}
    array = covering_array(sorted(set(products.values())))
    for item, combination in products.items():
        if combination not in array:
            item.add_marker(pytest.mark.full)
