"""What the MLP-Mixers of timm hold and compute, for tests without timm; `tests/timm` runs on timm's own.

The classes of the parts, the names of the weights and the files are those of timm.
"""

import json

import torch
from safetensors.torch import save_file
from torch import nn

PREPROCESSING = {
    "input_size": [1, 8, 8],
    "interpolation": "bilinear",
    "crop_pct": 0.8,
    "mean": [0.2],
    "std": [0.4],
    "num_classes": 3,
}


class Mlp(nn.Module):
    def __init__(self, size, neurons, rate):
        super().__init__()
        self.fc1, self.act, self.drop1 = nn.Linear(size, neurons), nn.GELU(), nn.Dropout(rate)
        self.fc2, self.drop2 = nn.Linear(neurons, size), nn.Dropout(rate)

    def forward(self, x):
        return self.drop2(self.fc2(self.drop1(self.act(self.fc1(x)))))


class MixerBlock(nn.Module):
    def __init__(self, size, tokens, rate, eps):
        super().__init__()
        self.norm1, self.mlp_tokens = nn.LayerNorm(size, eps=eps), Mlp(tokens, 6, rate)
        self.norm2, self.mlp_channels = nn.LayerNorm(size, eps=eps), Mlp(size, 24, rate)

    def forward(self, x):
        x = x + self.mlp_tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return x + self.mlp_channels(self.norm2(x))


class PatchEmbed(nn.Module):
    def __init__(self, img_size, patch, channels, size):
        super().__init__()
        self.img_size, self.proj = img_size, nn.Conv2d(channels, size, patch, patch)


class MlpMixer(nn.Module):
    """Of random weights and random biases; a grey image of 8 x 8 pixels has four tokens."""

    def __init__(self, num_classes=3, size=16, rate=0.0, eps=1e-6):
        super().__init__()
        self.global_pool = "avg"
        self.pretrained_cfg = {"architecture": "mixer_s16_224", **PREPROCESSING}
        self.stem = PatchEmbed((8, 8), 4, 1, size)
        self.blocks = nn.Sequential(*[MixerBlock(size, 4, rate, eps) for _ in range(3)])
        self.norm = nn.LayerNorm(size, eps=eps)
        self.head = nn.Linear(size, num_classes) if num_classes else nn.Identity()
        torch.manual_seed(1)
        for name, weight in self.named_parameters():
            nn.init.normal_(weight, mean=1.0 if "norm" in name and weight.ndim == 1 else 0.0, std=0.3)

    def forward(self, x):
        tokens = self.norm(self.blocks(self.stem.proj(x).flatten(2).transpose(1, 2)))
        return self.head(tokens.mean(dim=1))


for _part in (Mlp, MixerBlock, PatchEmbed, MlpMixer):
    _part.__module__ = "timm.models.mlp_mixer"


def write_checkpoint(model, folder, **changed):
    """Write what timm writes for a model."""
    told = {name: value for name, value in model.pretrained_cfg.items() if name != "architecture"}
    config = {
        "architecture": model.pretrained_cfg["architecture"],
        "num_classes": 3,
        "num_features": 16,
        "global_pool": "avg",
        "model_args": {"num_classes": 3, "in_chans": 1, "global_pool": "avg", "img_size": [8, 8]},
        "pretrained_cfg": told,
    }
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**config, **changed}))
    save_file(model.state_dict(), folder / "model.safetensors")
    return folder
