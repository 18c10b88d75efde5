"""A family of models: its parts, the components cut from them, its pipelines.

A *part* is a model of the checkpoint, with a folder of its own in a diffusers pipeline. A *component* is a graph of the
package. Most parts are one component; an autoencoder is two.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from ldm_export.configs.strict import StrictConfig
from ldm_export.errors import ConfigError
from ldm_export.families.keymaps import Rules
from ldm_export.families.original.layout import OriginalLayout
from ldm_export.families.spec import ComponentSpec
from ldm_runtime.checks import shown
from ldm_runtime.package.manifest import CodecRole, ConcatChannels, DenoiserRole, LatentSpec
from ldm_runtime.sampling.solvers import Sampler
from ldm_runtime.sampling.solvers.options import Value, changed_options

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
    codec: CodecRole
    concat: tuple[ConcatChannels, ...] = ()


def as_it_stands(config: object) -> object:
    """Return a config.json that no pipeline changes."""
    return config


@dataclass(frozen=True)
class Part:
    """One model of a checkpoint.

    components: the graphs cut from it. begins: a pattern of what some keys of it begin with in its library's names, and
    those of no other kind of part. library: what model_index.json says that it comes from. stem: name of the weights
    file without its ending. rules: names of its weights in other layouts. optimum: its class in optimum-onnx. as_run:
    config.json -> the same as its library reads it and the pipeline's constructor changes it. others: config -> model
    of other classes that the part may be of.
    """

    config: type[StrictConfig]
    model: Callable[[Any], nn.Module]
    components: tuple[str, ...]
    begins: str
    library: str
    optimum: str
    stem: str
    rules: Rules = ()
    as_run: Callable[[object], object] = as_it_stands
    others: Mapping[type[StrictConfig], Callable[[Any], nn.Module]] = field(default_factory=dict)

    def read_config(self, data: object, where: str) -> StrictConfig:
        """Read a parsed config.json as that of the class that it names. Raises ConfigError; `where` names the file."""
        kinds = (self.config, *self.others)
        name = data.get("_class_name") if isinstance(data, dict) else None
        kind = next((each for each in kinds if name == each.CLASS_NAME), None)
        if kind is None and self.others and isinstance(data, dict):
            names = " or ".join(repr(each.CLASS_NAME) for each in kinds)
            raise ConfigError(f"{where} has _class_name {shown(name)}; supported is {names}")
        return (kind or self.config).from_dict(data, where)

    def make(self, config: StrictConfig) -> nn.Module:
        """Make the model of a config, with weights that are not yet those of a checkpoint."""
        return {self.config: self.model, **self.others}[type(config)](config)


GUIDANCE = 7.5  # of most pipelines in diffusers


@dataclass(frozen=True)
class Family:
    """One kind of pipeline.

    parts: by their folder. tokenizers: folder -> the part that reads its tokens. pipelines: class in model_index.json
    -> the scheduler's options that its constructor sets. calls: such a class -> the solver's options that its calls
    set, where the solver has them. index: what else model_index.json says. check raises
    ConfigError unless the configs belong together. native_size: (width, height) in pixels of the images that the
    model was trained on. zeros_key: the key of model_index.json that says whether, without a negative prompt, zeros
    take the place of its embeddings (true where it is absent); None: never. guidance: the scales that pipelines of
    diffusers have by default, where it is not GUIDANCE. originals: its kinds of single-file checkpoints.
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
    calls: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)
    guidance: Mapping[str, float] = field(default_factory=dict)
    originals: tuple[OriginalLayout, ...] = ()

    @property
    def folders(self) -> tuple[str, ...]:
        """Return the folders that a diffusers pipeline of this family is read from."""
        return (*self.parts, "scheduler", *self.tokenizers)

    def guidance_of(self, configs: Configs) -> float:
        """Return the scale that diffusers' pipeline of such models has by default."""
        return self.guidance.get(self.pipeline_of(configs), GUIDANCE)

    def class_of(self, configs: Configs, sampler: Sampler) -> str:
        """Return the class of a model with this default sampler: one whose calls set its options, or else its own."""
        changed = changed_options(sampler.options).items()
        found = [name for name, options in self.calls.items() if options.items() <= changed]
        return found[0] if found else self.pipeline_of(configs)

    def index_of(self, configs: Configs, scheduler: str) -> dict[str, Any]:
        """Return the model_index.json of such models in diffusers, with the scheduler of this class."""
        return {
            "_class_name": self.pipeline_of(configs),
            **self.index,
            "scheduler": ["diffusers", scheduler],
            **{name: ["transformers", "CLIPTokenizer"] for name in self.tokenizers},
            **{name: [part.library, configs[name].CLASS_NAME] for name, part in self.parts.items()},
        }

    def reads_guidance(self, configs: Configs) -> bool:
        """Return whether the denoiser is told the guidance scale."""
        return "guidance_embedding" in self.roles(configs).denoiser.extra.values()

    def specs(self, configs: Configs) -> dict[str, ComponentSpec]:
        """Return the table of all components by name."""
        table = {spec.name: spec for spec in self.components(configs)}
        assert {name: spec.part for name, spec in table.items()} == {
            component: name for name, part in self.parts.items() for component in part.components
        }
        return table
