"""Run by `test_hub_processes.py` in a process of its own: `hub_reader.py JOBS ANSWERS with|without`.

`without` means that acn_hf cannot be imported. No other machine can be reached.
"""

import contextlib
import json
import socket
import sys

connect = socket.socket.connect


def only_this_machine(self, address):
    if self.family != socket.AF_UNIX and address[0] != "127.0.0.1":
        raise AssertionError(f"a test reached for {address}")
    return connect(self, address)


socket.socket.connect = only_this_machine
jobs_file, answers_file, acn_hf_is = sys.argv[1:]
if acn_hf_is == "without":
    sys.modules["acn_hf"] = None
else:
    import acn_hf  # noqa: F401 (registers the models)

import torch  # noqa: E402 (after what is blocked)
import transformers  # noqa: E402


def follow(job):
    """Do what a card says, and return what it loads."""
    names = {}
    with contextlib.chdir(job["source"]):
        exec(job["snippet"], names)
    model, processor = names["model"], names["processor"]
    return {"class": type(model).__name__, "module": type(model).__module__, "processor": type(processor).__name__}


def read(job):
    """Load a model as someone does who knows its name, and return what it is and says, or why it did not load."""
    if "snippet" in job:
        return follow(job)
    options = {"trust_remote_code": True} if acn_hf_is == "without" else {}
    try:
        model = getattr(transformers, job["auto"]).from_pretrained(job["source"], **options, **job["options"])
    except OSError as error:
        return {"error": str(error)}
    with torch.no_grad():
        output = model(**job["inputs"])[0]
    return {"class": type(model).__name__, "module": type(model).__module__, "output": output}


torch.save({name: read(job) for name, job in torch.load(jobs_file).items()}, answers_file)
ours = [name for name in sys.modules if name.partition(".")[0] == "acn_hf" and sys.modules[name]]
print()  # ends the line of a question that transformers may have asked
print(json.dumps(sorted(ours)))
