"""The table of exceptions holds nothing that upstream has dropped."""

import pytest

from .suite import EXCEPTIONS, common


@pytest.mark.parametrize("name", [name for table in EXCEPTIONS.values() for name in table])
def test_excepted_test_still_exists_upstream(name):
    assert hasattr(common.ModelTesterMixin, name), f"upstream has no {name} any more: remove it from EXCEPTIONS"
