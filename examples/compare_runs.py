"""Print the table of runs that the run_*.py scripts wrote: the metric at every depth, mean ± spread over seeds.

What is unusual: it reads what every run leaves behind (depth_profile.json, train_results.json, trainer_state.json), so
it knows nothing of the task. Runs of one network are folders NAME-seed0, NAME-seed1, ...

    for seed in 0 1 2; do
        python examples/run_image_classification.py --output_dir runs/images/strict-seed$seed --seed $seed ...
    done
    python examples/compare_runs.py runs/images
"""

import argparse
import json
from pathlib import Path

from acn_hf.scripts import depth_table, find_networks, record_of_runs
from acn_hf.support import circumstances, write_text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output_dir", type=Path, metavar="FOLDER", help="folder of runs, the parent of --output_dir")
    parser.add_argument("--tolerances", type=float, nargs="*", default=[0.005, 0.01], help="for the effective depth")
    parser.add_argument("--record", type=Path, help="JSON file for what all runs of the folder came to")
    arguments = parser.parse_args()
    try:
        networks = find_networks(arguments.output_dir)
    except (OSError, ValueError) as error:
        raise SystemExit(f"error: {error}") from None
    print(depth_table(networks, arguments.tolerances))
    if arguments.record is not None:
        record = {"circumstances": circumstances(), **record_of_runs(arguments.output_dir)}
        write_text(arguments.record, json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
