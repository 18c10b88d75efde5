"""Rules that the configs of UNet and autoencoder share: one value or one block per resolution."""

from typing import Any, TypeVar

T = TypeVar("T", bound=int)  # a number, or true or false

PerLevel = int | tuple[int, ...]  # one value for every resolution, or one per resolution, finest first
PerBlock = (
    int | tuple[int | tuple[int, ...], ...]
)  # the same, where a resolution may have a value for each of its blocks


def per_level(value: T | tuple[T, ...], levels: int) -> tuple[T, ...]:
    """Return one value per resolution, finest first."""
    return value if isinstance(value, tuple) else (value,) * levels


def per_block(value: PerBlock, blocks: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """Return one value per block of each resolution, which has so many `blocks`; lists are as long as they are."""
    levels = (value,) * len(blocks) if isinstance(value, int) else value
    return tuple(
        (level,) * count if isinstance(level, int) else level for level, count in zip(levels, blocks, strict=True)
    )


def require_levels(config: Any, down: tuple[str, ...], up: tuple[str, ...]) -> None:
    """Raise ConfigError unless there is one known block per resolution, each as wide as its GroupNorm needs."""
    levels = len(config.block_out_channels)
    config.require(levels > 0, "block_out_channels", "at least one width")
    for name, types in (("down_block_types", down), ("up_block_types", up)):
        blocks = getattr(config, name)
        known = len(blocks) == levels and set(blocks) <= set(types)
        config.require(known, name, f"one per level ({levels}), of {' or '.join(types)}")
    groups = config.norm_num_groups
    fits = all(width % groups == 0 for width in config.block_out_channels)
    config.require(fits, "block_out_channels", f"multiples of norm_num_groups = {groups}")
