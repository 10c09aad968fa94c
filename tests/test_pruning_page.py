"""The page on pruning runs as it stands."""

import subprocess
import sys

from tests.test_project import ROOT, python_blocks


def test_the_page_on_pruning_runs(tmp_path):
    program = "\n".join(python_blocks(ROOT / "docs" / "pruning.md"))
    assert program.count('report_to="none"') == 1
    program = program.replace('report_to="none"', 'report_to="none", use_cpu=True')
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "50.0% of the weights are zero" in done.stdout
    assert "0.75 of the weights are zero" in done.stdout
    assert (tmp_path / "pruned" / "checkpoint-30" / "model.safetensors").exists()
    assert (tmp_path / "narrow" / "model.safetensors").exists()
