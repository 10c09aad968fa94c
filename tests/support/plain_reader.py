"""Run by `test_any_model.py` in a process that cannot import acn_hf: `plain_reader.py JOBS ANSWERS`.

It reads checkpoints as somebody does who has never heard of acn_hf, without `trust_remote_code`.
"""

import json
import sys
from pathlib import Path

sys.modules["acn_hf"] = None  # `import acn_hf` is an ImportError from now on

import torch  # noqa: E402 (after the block)
import transformers  # noqa: E402
from safetensors.torch import save_file  # noqa: E402


def main(jobs_file: str, answers: str) -> None:
    told, outputs = {}, {}
    for job in torch.load(jobs_file):
        model, info = getattr(transformers, job["reader"]).from_pretrained(job["folder"], output_loading_info=True)
        with torch.no_grad():
            outputs[job["name"]] = model(**job["inputs"])[0].contiguous()
        told[job["name"]] = {
            "class": type(model).__name__,
            "module": type(model).__module__.partition(".")[0],
            "layers": model.config.to_dict(),
            "not in order": {name: sorted(map(str, keys)) for name, keys in info.items() if keys},
        }
    save_file(outputs, f"{answers}.safetensors")
    Path(f"{answers}.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
