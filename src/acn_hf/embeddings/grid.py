"""A metric for every depth and several dimensions of the embeddings."""

from dataclasses import dataclass
from typing import Any

from rich.table import Table

from ..depth.errors import ProfileError
from ..depth.profile import DepthProfile
from ..support.records import Record, render


@dataclass(frozen=True)
class EmbeddingGrid(Record):
    """The profiles of one model whose embeddings are cut to several dimensions.

    Args:
        dimensions (`tuple[int, ...]`): Descending.
        profiles (`tuple[DepthProfile, ...]`): One for each, of the same depths and metric.

    Raises:
        ProfileError: Dimensions and profiles differ in number, dimensions do not descend, or profiles differ in their
            depths or their metric.
    """

    dimensions: tuple[int, ...]
    profiles: tuple[DepthProfile, ...]

    def __post_init__(self) -> None:
        if not len(self.dimensions) == len(self.profiles) > 0:
            raise ProfileError(
                f"a grid must hold one profile for each of its dimensions; got {len(self.profiles)} for "
                f"{self.dimensions}"
            )
        if list(self.dimensions) != sorted(set(self.dimensions), reverse=True):
            raise ProfileError(f"the dimensions of a grid must descend; got {self.dimensions}")
        kinds = {(profile.depths, profile.metric) for profile in self.profiles}
        if len(kinds) > 1:
            raise ProfileError(f"the profiles of a grid must have the same depths and metric; got {sorted(kinds)}")

    def at(self, dimension: int) -> DepthProfile:
        """Return the profile of a dimension.

        Raises:
            ProfileError: It was not measured.
        """
        if dimension not in self.dimensions:
            raise ProfileError(f"dimension must be one of those measured, {self.dimensions}; got {dimension!r}")
        return self.profiles[self.dimensions.index(dimension)]

    def effective_depth(self, dimension: int, tolerance: float = 0.005, *, relative: bool = False) -> int:
        """Return the smallest depth whose embeddings of a dimension are as good as the largest ones of full depth.

        Full depth if none is.

        Args:
            dimension (`int`): One of those measured.
            tolerance (`float`, *optional*, defaults to 0.005): See [`DepthProfile`].
            relative (`bool`, *optional*, defaults to `False`): See [`DepthProfile`].

        Raises:
            ProfileError: `dimension` was not measured, or `tolerance` is out of range.
        """
        full = self.profiles[0].values[-1]
        return self.at(dimension).effective_depth(tolerance, relative=relative, reference=full)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a dictionary that JSON can hold."""
        return {**super().to_dict(), "profiles": [profile.to_dict() for profile in self.profiles]}

    @classmethod
    def _values(cls, fields: dict[str, Any]) -> dict[str, Any]:
        return {**fields, "profiles": [DepthProfile.from_dict(profile) for profile in fields["profiles"]]}

    def __str__(self) -> str:
        first = self.profiles[0]
        table = Table(title=f"{first.metric} by depth and dimension, over {first.num_examples} examples")
        for name in ("depth", *map(str, self.dimensions), "parameters"):
            table.add_column(name, justify="right")
        rows = zip(*(profile.values for profile in self.profiles), strict=True)
        for depth, values, parameters in zip(first.depths, rows, first.num_parameters, strict=True):
            table.add_row(str(depth), *(f"{value:.4f}" for value in values), f"{parameters:,}")
        return render(table)
