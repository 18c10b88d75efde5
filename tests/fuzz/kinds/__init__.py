"""The kinds of input, one file each; a kind makes inputs from valid seeds and gives them to a public reader."""

from tests.fuzz.kind import Kind
from tests.fuzz.kinds import (
    captions,
    checkpoint,
    cli,
    engine_options,
    graph,
    hash_cache,
    hub_listing,
    image,
    manifest,
    metadata,
    profile,
    prompt,
    prompts_file,
    recipe,
    safetensors,
    sampler,
    scheduler,
    tokenizer,
    variant_record,
    variants,
)

KINDS: dict[str, Kind] = {
    kind.name: kind
    for module in (
        manifest,
        safetensors,
        tokenizer,
        image,
        metadata,
        recipe,
        scheduler,
        checkpoint,
        prompt,
        sampler,
        engine_options,
        captions,
        cli,
        graph,
        hash_cache,
        hub_listing,
        variants,
        variant_record,
        profile,
        prompts_file,
    )
    for kind in module.KINDS
}
