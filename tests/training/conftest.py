"""What the tests of training in several processes share."""

import pytest
import torch

from tests.support.processes import run_in_two


@pytest.fixture(scope="session")
def two(request, tmp_path_factory):
    """Run all checks in two processes, once, and return a function from the name of a check to its result."""
    folder = tmp_path_factory.mktemp("two")
    wanted = [item for item in request.session.items if "two" in item.fixturenames]
    whole = any(item.get_closest_marker("full") for item in wanted)
    run_in_two("tests.support.distributed_worker", folder, "whole" if whole else "arrays")

    def result(name):
        return torch.load(folder / f"{name}.pt", weights_only=False)

    result.folder = folder
    return result
