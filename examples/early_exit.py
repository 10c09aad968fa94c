"""Choose a policy of early exit on one part of a data set, and measure it on the rest, for several checkpoints.

What is unusual: all three policies are calibrated, and the time is that of the whole data set with and without early
exit, in one run. Checkpoints are those of the run_*.py scripts.

    python examples/early_exit.py --models runs/images/*-seed* --data FASHION_MNIST --num_validation 3000

Cost: 7,000 images and 12 layers of width 64 take about a minute a checkpoint on one busy CPU core.
"""

from dataclasses import dataclass, field
from pathlib import Path

from torch.utils.data import DataLoader, Subset
from transformers import HfArgumentParser

from acn_hf import ConfidenceExit, EntropyExit, PatienceExit, calibrate_exit, measure_early_exit
from acn_hf.conversion import load_model
from acn_hf.data import Columns, load_data, load_processor, prepare

POLICIES = (ConfidenceExit(0.9), EntropyExit(0.1), PatienceExit(1))


@dataclass
class Arguments:
    models: list[str] = field(metadata={"help": "Checkpoints of ACNs that classify."})
    data: str = field(metadata={"help": "What the command acn-hf takes as DATA."})
    split: str = field(default="test", metadata={"help": "Split to read."})
    num_validation: int = field(default=1000, metadata={"help": "The first so many examples choose the policy."})
    tolerance: float = field(default=0.005, metadata={"help": "How much accuracy may be lost there."})
    batch_size: int = field(default=64, metadata={"help": "Examples in a batch."})


def main() -> None:
    (arguments,) = HfArgumentParser(Arguments).parse_args_into_dataclasses()
    rows = load_data(arguments.data, split=arguments.split)
    parts = (range(arguments.num_validation), range(arguments.num_validation, len(rows)))
    print("| checkpoint | policy | full depth | with early exit | mean depth | time |\n|---|---|---|---|---|---|")
    for source in arguments.models:
        model = load_model(source).eval()
        data, collate = prepare(model, load_processor(model, source), rows, Columns())
        validation, test = (DataLoader(Subset(data, part), arguments.batch_size, collate_fn=collate) for part in parts)
        for policy in POLICIES:
            chosen = calibrate_exit(policy, model, validation, tolerance=arguments.tolerance).policy
            report = measure_early_exit(model, test, chosen, compare=True)
            accuracies = f"{report.full_depth_accuracy:.4f} | {report.accuracy:.4f}"
            print(
                f"| {Path(source).name} | {chosen} | {accuracies} | {report.mean_depth:.2f} | {report.time_ratio:.2f} |"
            )


if __name__ == "__main__":
    main()
