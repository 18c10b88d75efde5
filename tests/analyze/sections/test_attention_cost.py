"""What attention costs on pixels: counts by hand, what fits is timed and what does not is named, sentences."""

from types import SimpleNamespace

import pytest

from ldm_export.analyze.attention_maps import Layer
from ldm_export.analyze.findings import Figure, Findings
from ldm_export.analyze.graph_cost import count_cost
from ldm_export.analyze.sections import attention_cost
from ldm_export.analyze.sections.attention_cost import SELF, TEXT, cost_sentence, layer_macs, text_macs, time_layers
from ldm_export.analyze.study import Progress
from ldm_export.models.layers import Attention

LAYERS = [Layer(Attention(8, heads=2, context_channels=5), size, 7) for size in ((4, 6), (2, 3))]


def study(seconds: float = 60.0) -> SimpleNamespace:
    return SimpleNamespace(
        scaled=lambda full, quick: seconds, progress=lambda what, total: Progress(what, total, print)
    )


def test_work_of_attention_to_the_text_by_hand() -> None:
    layer = LAYERS[1]
    places, channels, tokens, width = 6, 8, 7, 5
    by_hand = 2 * places * channels**2 + 2 * tokens * width * channels + 2 * places * tokens * channels
    assert text_macs(layer, places) == layer_macs(layer, TEXT, places) == by_hand


def test_work_is_what_the_graph_has() -> None:
    layer = LAYERS[1]
    text = count_cost(layer.module.to("meta"), (1, 6, 8), (1, 7, 5), fixed=[1])
    assert text.total == layer_macs(layer, TEXT, 6)
    layer.module.to_empty(device="cpu")
    assert count_cost(Attention(8, heads=2).to("meta"), (1, 6, 8)).total == layer_macs(layer, SELF, 6)


def test_what_fits_is_timed_on_both_sides() -> None:
    timings = time_layers(study(), LAYERS, 16)  # type: ignore[arg-type]
    assert len(timings.seconds) == 8 and timings.left_out == []
    for layer in LAYERS:
        for kind in (TEXT, SELF):
            found = timings.ratio(layer.size, kind)
            assert found is not None and 0 < found.low <= found.value <= found.high


def test_what_does_not_fit_is_named_and_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError("a layer was made")

    monkeypatch.setattr(attention_cost, "_job", refuse)
    timings = time_layers(study(0.0), LAYERS, 16)  # type: ignore[arg-type]
    assert timings.seconds == {} and len(timings.left_out) == 8
    assert timings.left_out[-1].startswith("the image's attention to itself with 384 positions (about ")
    monkeypatch.setattr(attention_cost, "available_memory", lambda: 10)
    timings = time_layers(study(), LAYERS, 16)  # type: ignore[arg-type]
    assert all("of memory" in each for each in timings.left_out) and len(timings.left_out) == 8
    assert timings.ratio(LAYERS[0].size, TEXT) is None


def findings(text: float | None, itself: float | None) -> Findings:
    values = {"cost_text": text, "cost_self": itself}
    return Findings(figures=[Figure(name, name, value, "times", "", "") for name, value in values.items()])


@pytest.mark.parametrize(
    ("text", "itself", "area", "said"),
    (
        (35.2, 674.0, 64, ("takes 35.2 times as long: its work grows", "f² = 64 times", "takes 674 times as long")),
        (1.0, 2.5, 4, ("takes as long: its work", "f² = 4 times", "takes 2.5 times as long")),
        (None, None, 64, ("On a grid of pixels its work grows with the positions", "grows with their square. So")),
        (14.0, None, 16, ("takes 14 times as long", "grows with their square. So")),
        (1.02, 0.98, 1, ("f = 1", "attention is the same.")),
    ),
)
def test_the_sentence_is_made_of_the_figures(
    text: float | None, itself: float | None, area: int, said: tuple[str, ...]
) -> None:
    sentence = cost_sentence(findings(text, itself), 0.051, area)
    assert sentence.startswith("Attention to the text is 5.1% of the work of an evaluation. ")
    assert all(part in sentence for part in said), sentence
    assert "  " not in sentence and " 1 times" not in sentence and sentence.endswith(".")
