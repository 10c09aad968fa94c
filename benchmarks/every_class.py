"""Which classes of the installed transformers have depth: all of them are tried, small and random.

    python benchmarks/every_class.py [AutoModelForSequenceClassification ...]

Nothing in acn_hf knows a family by its name. To see that this is enough, every class that an Auto class serves is built
from a config made small by the usual names of its fields, and every depth is computed in both ways. What comes out is
one of

- works: each depth that is read is the model cut there, bit for bit;
- refused: by a `DepthError`, with the reason;
- not built: the class does not run from such a config or such inputs, with or without acn_hf;
- wrong: anything else. There must be none.

Cost: about 5 minutes on one CPU core.
"""

import json
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
import transformers
from timing import RESULTS
from transformers.models.auto import modeling_auto

from acn_hf import DepthError, truncate
from acn_hf.depth import depth_outputs
from acn_hf.depth.cost import example_inputs
from acn_hf.support import circumstances

AUTO_CLASSES = (
    "AutoModelForSequenceClassification",
    "AutoModelForTokenClassification",
    "AutoModelForImageClassification",
    "AutoModelForAudioClassification",
    "AutoModelForVideoClassification",
    "AutoModelForMaskedLM",
    "AutoModelForCausalLM",
    "AutoModel",
)
SIZES = {
    32: "hidden_size d_model n_embd dim embed_dim embedding_size emb_dim image_size max_length",
    48: "intermediate_size ffn_dim hidden_dim d_ff n_inner ffn_hidden_size encoder_ffn_dim decoder_ffn_dim",
    2: "num_attention_heads num_heads n_head n_heads encoder_attention_heads decoder_attention_heads "
    "num_key_value_heads num_kv_heads num_experts_per_tok type_vocab_size global_attention_every_n_layers eos_token_id",
    16: "head_dim attention_head_size d_kv qk_head_dim num_mel_bins moe_intermediate_size q_lora_rank kv_lora_rank",
    64: "vocab_size max_position_embeddings n_positions max_seq_len",
    3: "num_hidden_layers num_layers n_layer n_layers encoder_layers decoder_layers",
    8: "patch_size qk_nope_head_dim qk_rope_head_dim v_head_dim sliding_window",
    4: "num_experts num_local_experts n_routed_experts num_frames",
    1: "bos_token_id n_group topk_group",
    0: "pad_token_id",
}
SMALL = {name: size for size, names in SIZES.items() for name in names.split()}
LARGEST, SECONDS = 30_000_000, 60


def small(config: Any) -> Any:
    """Return a config of the same class with small sizes."""
    fields = {}
    for name, value in vars(config).items():
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if name in SMALL and (is_number or name.endswith("_token_id")):
            fields[name] = SMALL[name]
        elif isinstance(value, transformers.PreTrainedConfig):
            fields[name] = small(value).to_dict()
    return type(config)(**fields)


def inputs_of(model: Any) -> dict[str, torch.Tensor]:
    """Return two random examples."""
    inputs, draw = example_inputs(model, 2), torch.Generator().manual_seed(0)
    return {
        name: torch.randint(3, 60, (2, 8), generator=draw)
        if name == "input_ids"
        else torch.randn(value.shape, generator=draw)
        if value.is_floating_point()
        else value
        for name, value in inputs.items()
    }


@torch.no_grad()
def outcome(model_class: Any) -> tuple[str, str]:
    """Return what becomes of a class, and why."""
    try:
        torch.manual_seed(0)
        model = model_class(small(model_class.config_class())).eval()
        if model.num_parameters() > LARGEST:
            return "not built", f"{model.num_parameters():,} parameters"
        inputs = inputs_of(model)
        model(**inputs)
    except TimeoutError:
        raise
    except Exception as error:  # each class has its own
        return "not built", f"{type(error).__name__}: {error}"
    try:
        depths, uncached = [], []
        for depth, read in depth_outputs(model, inputs):
            short = truncate(model, depth)
            try:
                cut = short(**inputs)
            except ValueError as error:  # a cache of states alone, which some classes ask for its length
                if "LinearAttention" not in str(error):
                    raise
                cut = short(**inputs, use_cache=False)
                uncached.append(depth)
            depths.append(depth)
            tensors = {name: value for name, value in cut.items() if isinstance(value, torch.Tensor)}
            different = [name for name, value in tensors.items() if not same(read[name], value)]
            if different:
                return "wrong", f"depth {depth}: {', '.join(different)}"
    except DepthError as error:
        return "refused", str(error)
    except TimeoutError:
        raise
    except Exception as error:  # what must not be
        return "wrong", f"{type(error).__name__}: {error}"
    remark = f"; without a cache alone at {uncached}" if uncached else ""
    return "works", f"depths {depths[0]} to {depths[-1]}{remark}"


def same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Return whether two tensors hold the same numbers, to the bit."""
    return torch.equal(one.isnan(), other.isnan()) and torch.equal(one.nan_to_num(), other.nan_to_num())


def classes(auto_name: str) -> Iterator[Any]:
    """Yield the classes that an Auto class serves."""
    names = getattr(modeling_auto, auto_name)._model_mapping._model_mapping.values()
    for name in dict.fromkeys(name for entry in names for name in (entry if isinstance(entry, tuple) else (entry,))):
        model_class = getattr(transformers, name, None)
        if isinstance(model_class, type) and issubclass(model_class, transformers.PreTrainedModel):
            yield model_class


def too_long(*_: Any) -> None:
    """End what takes too long."""
    raise TimeoutError


def try_all(auto_names: tuple[str, ...]) -> dict[str, dict[str, list[str]]]:
    """Return what became of every class, by Auto class and name."""
    signal.signal(signal.SIGALRM, too_long)
    results: dict[str, dict[str, list[str]]] = {}
    for auto_name in auto_names:
        results[auto_name] = {}
        for model_class in classes(auto_name):
            signal.alarm(SECONDS)
            try:
                kind, reason = outcome(model_class)
            except TimeoutError:
                kind, reason = "not built", f"takes more than {SECONDS} seconds"
            signal.alarm(0)
            results[auto_name][model_class.__name__] = [kind, reason.split("\n")[0][:200]]
    return results


def main() -> None:
    """Try all classes, print what became of them, and write it down if all were tried."""
    transformers.logging.set_verbosity_error()
    names = tuple(sys.argv[1:]) or AUTO_CLASSES
    results = try_all(names)
    counts = {name: dict(Counter(kind for kind, _ in of_it.values())) for name, of_it in results.items()}
    for name, of_it in results.items():
        for model_class, (kind, reason) in of_it.items():
            print(f"{name} {model_class}: {kind}, {reason}")
    print(json.dumps(counts, indent=2))
    if names == AUTO_CLASSES:
        record = {"circumstances": circumstances(RESULTS.parent), "counts": counts, "results": results}
        (RESULTS / "every_class.json").write_text(json.dumps(record, indent=1) + "\n")
    if any("wrong" in of_it for of_it in counts.values()):
        raise SystemExit("some classes are computed wrongly, and not refused")


if __name__ == "__main__":
    main()
