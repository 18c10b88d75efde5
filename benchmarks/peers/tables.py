"""The peers' raw figures as tables for people: medians with their spread, and ratios within each round."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.peers.environments import PEERS, REFERENCE, RIVAL
from benchmarks.peers.programs.protocol import SECONDS_OF_A_SHORT_IMAGE
from benchmarks.peers.rounds import Results
from ldm_export.tables import markdown_table

NONE = "–"
Answer = Mapping[str, Any]
Figure = Callable[[Answer], float]


def component_seconds(name: str) -> Figure:
    return lambda answer: statistics.median(answer["seconds"][name])


# What is measured in an image's process -> its value. Memory is in bytes.
# Of Stable Diffusion, by the names of diffusers' folders: what every peer runs.
COMPONENTS = ("text_encoder", "unet", "vae_encoder", "vae_decoder")

IMAGE: dict[str, Figure] = {
    "import": lambda answer: answer["import_seconds"],
    "load": lambda answer: answer["load_seconds"],
    "step": lambda answer: answer["step_seconds"][-1],
    "image": lambda answer: answer["image_seconds"][-1],
    "start to first image": lambda answer: answer["first_image_seconds"],
    "peak memory": lambda answer: answer["peak_bytes"],
}
OPEN: dict[str, Figure] = {
    "opening the UNet": lambda answer: answer["load_seconds"],
    "memory of opening the UNet": lambda answer: answer["peak_bytes"],
}


def figures(results: Results, peer: str, task: str, figure: Figure) -> dict[int, float]:
    """Return the values by round."""
    return {index: figure(answer) for index, answer in sorted(results.of(peer, task).items())}


def ratios(results: Results, peer: str, rival: str) -> dict[str, tuple[float, ...]]:
    """Divide the peer's figures by the rival's, for each round in which both were measured; less is better."""
    tasks: dict[str, dict[str, Figure]] = {
        "components": {name: component_seconds(name) for name in COMPONENTS},
        "open": OPEN,
        "image": IMAGE,
    }
    found = {}
    for task, table in tasks.items():
        for what, figure in table.items():
            own, other = (figures(results, name, task, figure) for name in (peer, rival))
            shared = tuple(own[index] / other[index] for index in own if index in other)
            if shared:
                found[what] = shared
    return found


def render(results: Results) -> str:
    """Render peers.md."""
    settings = results.settings
    peers = [peer for peer in PEERS if peer not in results.left_out and results.of(peer, "image")]
    rounds = {peer: len(results.of(peer, "image")) for peer in peers}
    most = max(rounds.values(), default=0)
    fewer = "".join(f", {count} for {PEERS[peer].title}" for peer, count in rounds.items() if count < most)
    parts = [
        f"# {settings.model} beside its peers",
        f"{settings.size[0]}x{settings.size[1]} pixels, {settings.steps} steps, guidance {settings.guidance:g},"
        f" float32, {settings.threads} threads for each; {results.machine}; {results.date}. Every figure is the"
        f" median of {most} rounds{fewer}, in which the peers took turns, each task in a process of its own; smallest"
        " and largest in brackets.",
        "## An image\n\nStep and image are those of a second image where the first took less than"
        f" {SECONDS_OF_A_SHORT_IMAGE:g} s. The last column is the mean difference of the images, of 255 levels.\n\n"
        + _image_table(results, peers),
        "## Components\n\nOne text, two samples in the UNet as guidance has it, one image in the VAE. The last"
        f" column is the largest relative RMS difference from {PEERS[REFERENCE].title}, on the same inputs.\n\n"
        + _component_table(results, peers),
        "## Opening the UNet\n\n" + _open_table(results, peers),
    ]
    for peer in peers:
        compared = ratios(results, peer, RIVAL) if PEERS[peer].is_ours and RIVAL in peers else {}
        if compared:
            rows = [[what, f"{statistics.median(each):.2f}", *_ends(each)] for what, each in compared.items()]
            title = (
                f"## {PEERS[peer].title} / {PEERS[RIVAL].title}\n\nRatios within a round; below 1 is better for ours."
            )
            parts.append(f"{title}\n\n" + _table(["", "median", "smallest", "largest"], rows))
    parts.append("## What was run\n\n" + _versions(results, peers))
    return "\n\n".join(parts) + "\n"


def bars(results: Results) -> dict[str, dict[str, float]]:
    """Return each peer's median seconds from the start of its process to the first image, by what they go to."""
    drawn = {}
    for peer, definition in PEERS.items():
        rounds = results.of(peer, "image").values()
        if rounds and peer not in results.left_out:
            drawn[definition.title] = {
                "import": statistics.median(answer["import_seconds"] for answer in rounds),
                "load": statistics.median(answer["load_seconds"] for answer in rounds),
                "first image": statistics.median(answer["image_seconds"][0] for answer in rounds),
            }
    return drawn


def _image_table(results: Results, peers: Sequence[str]) -> str:
    """Render seconds, then memory and disk."""
    head = ["", *(f"{what}, s" for what in IMAGE if what != "peak memory")]
    head += ["peak memory, MB", "model, MB", "environment, MB", f"levels from {REFERENCE}"]
    rows = []
    for peer in peers:
        row = [PEERS[peer].title]
        for what, figure in IMAGE.items():
            values = list(figures(results, peer, "image", figure).values())
            row.append(spread(values, 1e-6) if what == "peak memory" else spread(values))
        last = list(results.of(peer, "image").values())[-1]
        installed = results.environment_bytes.get(peer)
        levels = results.errors.get(peer, {}).get("image")
        row += [f"{last['file_bytes'] / 1e6:.0f}", NONE if installed is None else f"{installed / 1e6:.0f}"]
        rows.append([*row, NONE if levels is None else f"{levels:.2f}"])
    return _table(head, rows)


def _component_table(results: Results, peers: Sequence[str]) -> str:
    """Render milliseconds."""
    rows = []
    for peer in peers:
        row = [PEERS[peer].title]
        for name in COMPONENTS:
            values = list(figures(results, peer, "components", component_seconds(name)).values())
            row.append(spread(values, 1e3))
        errors = [error for what, error in results.errors.get(peer, {}).items() if what in COMPONENTS]
        rows.append([*row, f"{max(errors):.1e}" if errors else NONE])
    return _table(["", *(f"{name}, ms" for name in COMPONENTS), "difference"], rows)


def _open_table(results: Results, peers: Sequence[str]) -> str:
    rows = []
    for peer in peers:
        answers = list(results.of(peer, "open").values())
        if answers:
            size = answers[-1]["file_bytes"]
            row = [spread([answer["load_seconds"] for answer in answers])]
            row.append(spread([answer["peak_bytes"] for answer in answers], 1e-6))
            times = [answer["peak_bytes"] / size for answer in answers]
            rows.append([PEERS[peer].title, *row, f"{size / 1e6:.0f}", spread(times)])
    return _table(["", "seconds", "peak memory, MB", "its files, MB", "peak / files"], rows)


def _versions(results: Results, peers: Sequence[str]) -> str:
    lines = []
    for peer, definition in PEERS.items():
        if peer in results.left_out:
            lines.append(f"- {definition.title}: left out; {results.left_out[peer]}")
        elif peer in peers:
            versions = list(results.of(peer, "image").values())[-1]["versions"]
            lines.append(f"- {definition.title}: " + ", ".join(f"{name} {number}" for name, number in versions.items()))
    return "\n".join(lines)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return markdown_table(head, rows, "<" + ">" * (len(head) - 1))


def spread(values: Sequence[float], scale: float = 1.0) -> str:
    """Write the median of values times `scale`, with the smallest and the largest in brackets."""
    if not values:
        return NONE
    low, high = _ends([scale * value for value in values])
    return f"{_short(scale * statistics.median(values))} ({low} to {high})"


def _ends(values: Sequence[float]) -> tuple[str, str]:
    return _short(min(values)), _short(max(values))


def _short(value: float) -> str:
    """Format three digits, but all of those before the point."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
