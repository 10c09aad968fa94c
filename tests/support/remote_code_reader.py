"""Run by `test_remote_code.py` in a process that cannot import acn_hf: `reader.py JOBS ANSWERS`."""

import importlib.abc
import json
import sys
from pathlib import Path


class Blocker(importlib.abc.MetaPathFinder):
    """Makes acn_hf impossible to import."""

    def find_spec(self, fullname, path=None, target=None):
        if fullname.partition(".")[0] == "acn_hf":
            raise ImportError(f"{fullname} is blocked")


sys.meta_path.insert(0, Blocker())

import torch  # noqa: E402 (after the blocker)
import transformers  # noqa: E402
from safetensors.torch import save_file  # noqa: E402


def read(folder: str, auto: str, inputs: dict, options: dict):
    """Load a model as someone does who has only its files, and return it with its first output."""
    model = getattr(transformers, auto).from_pretrained(folder, trust_remote_code=True, **options)
    with torch.no_grad():
        return model, model(**inputs)[0]


def main(jobs_file: str, answers: str) -> None:
    facts = {}
    for job in torch.load(jobs_file):
        model, output = read(job["folder"], job["auto"], job["inputs"], job["options"])
        again = Path(answers, f"{job['name']}-again")
        model.save_pretrained(again)
        _, output_again = read(str(again), job["auto"], job["inputs"], {})
        save_file({"output": output, "again": output_again}, Path(answers, f"{job['name']}.safetensors"))
        facts[job["name"]] = {
            "class": type(model).__name__,
            "module": type(model).__module__,
            "again": sorted(path.name for path in again.iterdir()),
        }
    facts["acn_hf imported"] = "acn_hf" in sys.modules
    Path(answers, "facts.json").write_text(json.dumps(facts))


if __name__ == "__main__":
    main(*sys.argv[1:])
