"""The peers' raw figures as tables for people: medians with their spread, and ratios within each round."""

import statistics
from collections.abc import Sequence

from benchmarks.peers.environments import ALL_TASKS, COMPONENTS, PEERS, REFERENCE, RIVAL
from benchmarks.peers.figures import IMAGE, component_peak, component_seconds, divided, figures, ratios
from benchmarks.peers.programs.protocol import SECONDS_OF_A_SHORT_IMAGE
from benchmarks.peers.results import Results
from benchmarks.peers.targets import INTERVALS, STEPS, Verdict, image_of_steps, verdicts
from ldm_export.tables import NONE, markdown_table, spread, three_digits

HELD = {True: "**met**", False: "**missed**", None: "not measured"}


def render(results: Results) -> str:
    """Render peers.md."""
    settings = results.settings
    peers = [
        peer for peer in PEERS if peer not in results.left_out and any(results.of(peer, task) for task in ALL_TASKS)
    ]
    rounds = {peer: max(len(results.of(peer, task)) for task in PEERS[peer].tasks) for peer in peers}
    most = max(rounds.values(), default=0)
    fewer = "".join(f", {count} for {PEERS[peer].title}" for peer, count in rounds.items() if count < most)
    parts = [
        f"# {settings.model} beside its peers",
        f"{settings.size[0]}x{settings.size[1]} pixels, {settings.steps} steps, guidance {settings.guidance:g},"
        f" {settings.threads} threads for each; {results.machine}; {results.date}. Every figure is the"
        f" median of {most} rounds{fewer}, in which the peers took turns, each task in a process of its own; smallest"
        " and largest in brackets. Where no precision is named, a program computes in float32.",
        "## What was to be reached\n\n" + _verdict_list(verdicts(results)),
        "## An image\n\nStep and image are those of a second image where the first took less than"
        f" {SECONDS_OF_A_SHORT_IMAGE:g} s. The last column is the mean difference of the images, of 255 levels, from"
        f" that of {PEERS[REFERENCE].title}; of a peer with noise of its own, from its own in float32.\n\n"
        + _image_table(results, peers),
        *filter(None, (_component_part(results, peers, name) for name in COMPONENTS)),
        f"## {STEPS} evaluations of the UNet / those of {PEERS[RIVAL].title}\n\nFrom the times of its evaluations."
        " With caching one in so many is whole, and the others are shallow.\n\n" + _caching_table(results, peers),
        "## Opening the UNet\n\n" + _open_table(results, peers),
    ]
    for peer in peers:
        compared = ratios(results, peer, RIVAL) if PEERS[peer].is_ours and RIVAL in peers else {}
        if compared:
            rows = [
                [what, f"{statistics.median(each):.2f}", three_digits(min(each)), three_digits(max(each))]
                for what, each in compared.items()
            ]
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
        if not results.of(peer, "image"):
            continue
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


def _component_part(results: Results, peers: Sequence[str], component: str) -> str:
    """Render milliseconds, their ratio, error and memory of one component; "" where nobody was asked for it."""
    rows = []
    for peer in peers:
        seconds, peaks = (
            list(figures(results, peer, "components", read(component)).values())
            for read in (component_seconds, component_peak)
        )
        if not seconds:
            continue
        shares = list(divided(results, peer, RIVAL, "components", component_seconds(component)).values())
        error = results.errors.get(peer, {}).get(component)
        row = [PEERS[peer].title, PEERS[peer].precision, spread(seconds, 1e3), spread(shares)]
        rows.append([*row, NONE if error is None else f"{error:.1e}", spread(peaks, 1e-6)])
    if not rows:
        return ""
    what = {"unet": ", two samples as guidance has them"}.get(component, "")
    head = ["", "precision", "ms", f"/ {PEERS[RIVAL].title}", f"relative RMS from {REFERENCE}", "peak memory, MB"]
    said = "The memory is that of the process while it evaluates, with all that it has opened."
    return f"## {component}{what}\n\n{said}\n\n" + _table(head, rows)


def _caching_table(results: Results, peers: Sequence[str]) -> str:
    rows = []
    for peer in peers:
        for interval in INTERVALS if PEERS[peer].is_cached else (1,):
            shares = list(image_of_steps(results, peer, interval).values())
            if shares:
                rows.append([PEERS[peer].title, NONE if interval == 1 else str(interval), spread(shares)])
    return _table(["", "interval", "share"], rows)


def _verdict_list(found: Sequence[Verdict]) -> str:
    return "\n".join(f"- {each.asked}: {HELD[each.holds]}; {each.found}" for each in found)


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
            task = next(task for task in ALL_TASKS if results.of(peer, task))
            versions = list(results.of(peer, task).values())[-1]["versions"]
            lines.append(f"- {definition.title}: " + ", ".join(f"{name} {number}" for name, number in versions.items()))
    return "\n".join(lines)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return markdown_table(head, rows, "<" + ">" * (len(head) - 1))
