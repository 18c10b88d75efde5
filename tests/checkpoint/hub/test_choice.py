"""Which files of a repository are fetched: one set of weights for each part, and no file of other programs."""

from collections.abc import Iterable

import pytest

from ldm_export.checkpoint.hub.choice import of_part, of_pipeline, one_file, weights_of_pipeline
from ldm_export.checkpoint.hub.listing import MAX_LISTED, Listing, read_listing
from ldm_export.checkpoint.hub.names import HubName
from ldm_export.errors import CheckpointError

NAME = HubName("a/b")
COMMIT = "0" * 40
STEMS = {"unet": "diffusion_pytorch_model", "text_encoder": "model"}
SMALL = ["model_index.json", "README.md", "LICENSE.txt", "unet/config.json", "vae/config.json", "tokenizer/merges.txt"]
SMALL += ["tokenizer_2/vocab.json", "scheduler/scheduler_config.json", "text_encoder/config.json"]
# As in published repositories: other frameworks, a checker, images, single files, what a trainer left.
OTHERS = ["x.ckpt", "x.safetensors", "a.png", "unet/model.onnx", "unet/flax_model.msgpack", "unet/openvino_model.xml"]
OTHERS += [
    "safety_checker/model.safetensors",
    "safety_checker/config.json",
    "feature_extractor/preprocessor_config.json",
]
OTHERS += [
    "unet/diffusion_pytorch_model.non_ema.safetensors",
    "vae_decoder/config.json",
    "unet/optimizer.bin",
    ".gitattributes",
]
OTHERS += ["config.json", "unet/config_old.json", "docs/README.md", "tokenizer/run.py"]


def listing(names: Iterable[str], size: int | None = 1) -> Listing:
    return Listing(COMMIT, dict.fromkeys(names, size), {})


def unet(*endings: str) -> list[str]:
    return [f"unet/diffusion_pytorch_model{each}" for each in endings]


TEXT = "text_encoder/model.safetensors"


def weights(names: list[str], variant: str | None = None) -> set[str]:
    return set(weights_of_pipeline(NAME, listing([*names, TEXT, *OTHERS]), STEMS, variant)) - {TEXT}


def test_small_files_are_those_that_opening_reads() -> None:
    assert set(of_pipeline(NAME, listing([*SMALL, *OTHERS])).small) == set(SMALL)


def test_safetensors_are_before_pickles() -> None:
    assert weights(unet(".bin", ".safetensors")) == set(unet(".safetensors"))
    assert weights(unet(".bin")) == set(unet(".bin"))


def test_a_variant_is_chosen_for_each_part_that_has_it() -> None:
    names = unet(".bin", ".fp16.bin", ".fp16.safetensors", ".safetensors")
    assert weights(names, "fp16") == set(unet(".fp16.safetensors"))  # the text encoder has none


SHARDS = [f"-0000{each}-of-00002" for each in (1, 2)]


@pytest.mark.parametrize(
    ("variant", "files"),
    [
        (None, unet(".safetensors.index.json", *(f"{each}.safetensors" for each in SHARDS))),
        ("fp16", unet(".safetensors.index.fp16.json", *(f".fp16{each}.safetensors" for each in SHARDS))),
        ("fp16", unet(".safetensors.index.fp16.json", *(f"{each}.fp16.safetensors" for each in SHARDS))),
    ],
)
def test_shards_come_with_their_index_and_all_of_them(variant: str | None, files: list[str]) -> None:
    assert weights([*files, *unet(".bin")], variant) == set(files)
    with pytest.raises(CheckpointError, match="no weights of unet with a name of diffusers'") as error:
        weights(files[:-1], variant)
    assert error.value.code == "hub.files"


@pytest.mark.parametrize("names", [[], unet(".onnx", ".fp16.safetensors"), unet("-00001-of-00002.safetensors")])
def test_a_part_without_weights_is_refused(names: list[str]) -> None:
    with pytest.raises(CheckpointError, match="hf:a/b has no weights of unet .*another repository$") as error:
        weights(names)
    assert error.value.code == "hub.files"


def test_a_variant_of_no_part_is_refused() -> None:
    with pytest.raises(CheckpointError, match="no weights of the variant 'bf16', in none of unet, text_encoder"):
        weights(unet(".safetensors"), "bf16")


def test_a_repository_of_single_files_is_refused_with_their_names() -> None:
    with pytest.raises(
        CheckpointError, match=r"no model_index\.json.*it has 2 \.safetensors files \(x\.sa.*, y\."
    ) as e:
        of_pipeline(NAME, listing(["y.safetensors", "x.safetensors", "a.ckpt"]))
    assert str(e.value).endswith("to take one, write hf:a/b/x.safetensors") and e.value.code == "hub.files"
    with pytest.raises(CheckpointError, match=r"1 \.ckpt file \(x\.ckpt\); to take it, write hf:a/b/x\.ckpt@v1$"):
        of_pipeline(HubName("a/b", None, "v1"), listing(["x.ckpt"]))
    with pytest.raises(CheckpointError, match="maybe a part .--vae, --unet.*; it has no file of weights"):
        of_pipeline(NAME, listing(["config.json"]))


def test_a_named_file_is_fetched_alone() -> None:
    names = listing(["x.safetensors", "y/z.safetensors", "model_index.json"])
    assert one_file(HubName("a/b", "y/z.safetensors"), names)[1:] == ((), ("y/z.safetensors",))
    with pytest.raises(CheckpointError, match="is not in its repository; it has 2") as error:
        one_file(HubName("a/b", "w.safetensors"), names)
    assert error.value.code == "hub.not-found"


def test_a_part_is_that_of_a_pipeline_or_the_repository_itself() -> None:
    alone = ["config.json", "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin", "README.md"]
    assert of_part(NAME, listing(alone), "vae", None) == (".", ("config.json",), (alone[1],))
    whole = [
        "model_index.json",
        "config.json",
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
        *unet(".bin"),
    ]
    assert of_part(NAME, listing(whole), "vae", None) == ("vae", (whole[2],), (whole[3],))
    with pytest.raises(CheckpointError, match="has no unet: neither .*it has 1 .safetensors file .*write hf:a/b/vae/"):
        of_part(NAME, listing(whole), "unet", None)


def test_an_immense_config_is_refused() -> None:
    with pytest.raises(CheckpointError, match="with 1099511627776 bytes; expected at most") as error:
        of_pipeline(NAME, listing(SMALL, 2**40))
    assert error.value.code == "hub.listing"


DIGEST = "1" * 64


def test_a_listing_is_read() -> None:
    read = read_listing(NAME, COMMIT, [("a", 1, None), ("b/c", None, DIGEST)])
    assert read == Listing(COMMIT, {"a": 1, "b/c": None}, {"b/c": DIGEST})


@pytest.mark.parametrize(
    ("commit", "files", "message"),
    [
        ("../..", [], "is at '../..'; expected a commit"),
        (None, [], "is at None"),
        (COMMIT, [("../x", 1, None)], "lists a file '../x'; expected names inside"),
        (COMMIT, [("x", -1, None)], "lists 'x' with -1 bytes"),
        (COMMIT, [("x", "9", None)], "lists 'x' with '9' bytes"),
        (COMMIT, [("x", True, None)], "lists 'x' with True bytes"),
        (COMMIT, [("x", 1, None), ("x", 2, None)], "lists 'x' twice"),
        (COMMIT, [("x", 1, "../" * 20 + "abcd")], "which is none"),
        (COMMIT, [("x", 1, 5)], "which is none"),
        (COMMIT, ((str(each), 1, None) for each in range(10**12)), f"more than {MAX_LISTED} files"),
    ],
)
def test_a_hostile_listing_is_refused(
    commit: object, files: Iterable[tuple[object, object, object]], message: str
) -> None:
    with pytest.raises(CheckpointError, match=message) as error:
        read_listing(NAME, commit, files)
    assert error.value.code == "hub.listing"
