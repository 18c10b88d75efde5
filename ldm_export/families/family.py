"""A family of models: its parts, the components cut from them, its pipelines.

A *part* is a model of the checkpoint, with a folder of its own in a diffusers pipeline. A *component* is a graph of the
package. Most parts are one component; an autoencoder is two.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from ldm_export.configs.strict import StrictConfig
from ldm_export.families.keymaps import Rules
from ldm_export.families.spec import ComponentSpec
from ldm_runtime.package.manifest import CodecHalf, CodecRole, ConcatChannels, DenoiserRole, LatentSpec

Configs = Mapping[str, Any]  # part -> its StrictConfig


@dataclass(frozen=True)
class TextPart:
    """A text encoder's role, but for the facts of its tokenizer: those are the files'.

    tokenizer: its folder in the pipeline. pooled: the output that the denoiser reads too, or None.
    """

    component: str
    tokenizer: str
    input: str = "input_ids"
    output: str = "last_hidden_state"
    pooled: str | None = None


@dataclass(frozen=True)
class Roles:
    """The role of each component, as in the contract of a package."""

    text: tuple[TextPart, ...]
    denoiser: DenoiserRole
    concat: tuple[ConcatChannels, ...] = ()
    codec: CodecRole = CodecRole(
        name="vae",
        encoder=CodecHalf("vae_encoder", "sample", "latent_parameters"),
        decoder=CodecHalf("vae_decoder", "latent_sample", "sample"),
    )


def as_it_stands(config: object) -> object:
    """Return a config.json that no pipeline changes."""
    return config


@dataclass(frozen=True)
class Part:
    """One model of a checkpoint.

    components: the graphs cut from it. library: what model_index.json says that it comes from. stem: name of the
    weights file without its ending. rules: names of its weights in other layouts. optimum: its class in optimum-onnx,
    which looks for optimum_options in its config. as_run: config.json -> the same as the pipeline's constructor
    changes it.
    """

    config: type[StrictConfig]
    model: Callable[[Any], nn.Module]
    components: tuple[str, ...]
    library: str
    optimum: str
    stem: str
    rules: Rules = ()
    optimum_options: Mapping[str, Any] = field(default_factory=dict)
    as_run: Callable[[object], object] = as_it_stands


@dataclass(frozen=True)
class Family:
    """One kind of pipeline.

    parts: by their folder. tokenizers: folder -> the part that reads its tokens. pipelines: class in model_index.json
    -> the scheduler's options that its constructor sets. index: what else model_index.json says. check raises
    ConfigError unless the configs belong together. native_size: (width, height) in pixels of the images that the
    model was trained on. zeros_key: the key of model_index.json that says whether, without a negative prompt, zeros
    take the place of its embeddings (true where it is absent); None: never.
    """

    name: str
    parts: Mapping[str, Part]
    tokenizers: Mapping[str, str]
    pipelines: Mapping[str, Mapping[str, Any]]
    index: Mapping[str, Any]
    check: Callable[[Configs], None]
    pipeline_of: Callable[[Configs], str]
    components: Callable[[Configs], tuple[ComponentSpec, ...]]
    roles: Callable[[Configs], Roles]
    latent: Callable[[Configs], LatentSpec]
    native_size: Callable[[Configs], tuple[int, int]]
    zeros_key: str | None = None

    @property
    def folders(self) -> tuple[str, ...]:
        """Return the folders that a diffusers pipeline of this family is read from."""
        return (*self.parts, "scheduler", *self.tokenizers)

    def specs(self, configs: Configs) -> dict[str, ComponentSpec]:
        """Return the table of all components by name."""
        table = {spec.name: spec for spec in self.components(configs)}
        assert {name: spec.part for name, spec in table.items()} == {
            component: name for name, part in self.parts.items() for component in part.components
        }
        return table
