"""Run by `test_read_as_upstream.py` in a process that cannot import acn_hf: `upstream_reader.py JOBS ANSWERS`.

It reads checkpoints with the classes that upstream would have for weights of these names, whatever their configs say.
"""

import json
import sys
from pathlib import Path

sys.modules["acn_hf"] = None  # `import acn_hf` is an ImportError from now on

import torch  # noqa: E402 (after the block)
import transformers  # noqa: E402
from safetensors.torch import save_file  # noqa: E402


def main(jobs_file: str, answers: str) -> None:
    errors, outputs = {}, {}
    for job in torch.load(jobs_file):
        try:
            model = getattr(transformers, job["reader"]).from_pretrained(job["folder"])
        except ValueError as error:
            errors[job["name"]] = str(error)
            continue
        with torch.no_grad():
            outputs[job["name"]] = model(**job["inputs"])[0].contiguous()
    save_file(outputs, f"{answers}.safetensors")
    Path(f"{answers}.json").write_text(json.dumps(errors))


if __name__ == "__main__":
    main(*sys.argv[1:])
