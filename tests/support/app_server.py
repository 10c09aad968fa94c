"""Run by tests in a process of its own, since gradio warns and leaks where warnings are errors: `app_server.py APPS`.

APPS is JSON, from names to lists of folders. Prints the addresses as JSON, and ends when its input does.
"""

import json
import sys

from acn_hf.app import build_app

apps = {name: build_app(folders) for name, folders in json.loads(sys.argv[1]).items()}
for app in apps.values():
    app.launch(prevent_thread_lock=True, quiet=True)
print(json.dumps({name: app.local_url for name, app in apps.items()}), flush=True)
sys.stdin.read()
for app in apps.values():
    app.close(verbose=False)
