// A report for people: a sentence per failure, and a table.
#include <algorithm>

#include "core/text/utf8.h"
#include "core/text/words.h"
#include "src/verify/report.h"

namespace ldm::verify {

namespace {

constexpr std::size_t max_shown = 200;  // characters of a fact in a sentence

void add_cut(Words& words, std::string_view text) {
    if (utf8::characters(text) <= max_shown) {
        words.add(text);
    } else {
        words.add(utf8::first_characters(text, max_shown - 1), "…");
    }
}

void add_failure(Words& words, const FactResult& fact) {
    words.add(fact.name, ": the package has ");
    add_cut(words, fact.found);
    words.add(", but was proven with ");
    add_cut(words, fact.expected);
}

void add_failure(Words& words, const CaseResult& result) {
    words.add(result.component, " (", result.artefact, "), case ", result.name, ", ", result.output, ": ");
    if (result.problem) {
        words.add(*result.problem);
        return;
    }
    words.add("relative RMS is ");
    if (result.relative_rms) {
        words.scientific(*result.relative_rms, 2);
    } else {
        words.add("not measurable");
    }
    words.add(", more than the tolerance ").scientific(result.tolerance, 2);
}

void add_failure(Words& words, const TrajectoryResult& result) {
    words.add("sampling run: ");
    if (result.problem) {
        words.add(*result.problem);
        return;
    }
    for (const StepResult& step : result.drift) {
        if (step.holds(result.run.latents_floor)) continue;
        words.add("after step ", step.index + 1, " the latents' PSNR is ");
        if (step.psnr) {
            words.fixed(*step.psnr, 1).add(" dB");
        } else {
            words.add("not measurable");
        }
        words.add(", less than ").fixed(result.run.latents_floor, 0).add(" dB");
        return;
    }
    words.add("the image's PSNR is ");
    if (result.image_psnr) {
        words.fixed(*result.image_psnr, 1).add(" dB");
    } else {
        words.add("not measurable");
    }
    words.add(", less than ").fixed(result.run.image_floor, 0).add(" dB");
}

// What a variant failed by. visit: Status(Words) of each sentence.
template <typename Visit>
Status visit_failures(Scope& scope, const VariantResult& variant, Visit visit) {
    auto begin = [&](Words& words) -> Words& { return words.add("variant ", variant.name, ": "); };
    auto visit_one = [&](const auto& result) {
        if (result.passed) return Status();
        Words words(scope.memory);
        add_failure(begin(words), result);
        return visit(words);
    };
    Words words(scope.memory);
    if (variant.problem) return visit(begin(words).add(*variant.problem));
    for (const FactResult& fact : variant.facts) LDM_TRY(visit_one(fact));
    for (const CaseResult& result : variant.cases) LDM_TRY(visit_one(result));
    bool is_below = variant.image_psnr && variant.image_floor && *variant.image_psnr < *variant.image_floor;
    if (!is_below) return Status();
    begin(words).add("sampling run: the image's PSNR is ").fixed(*variant.image_psnr, 1).add(" dB, less than ");
    return visit(words.fixed(*variant.image_floor, 1).add(" dB"));
}

class Sentences {
public:
    Sentences(Scope& scope, Arena& arena) : scope_(scope), arena_(arena), all_(scope.memory) {}

    template <typename Result>
    Status add(const Result& result) {
        if (result.passed) return Status();
        Words words(scope_.memory);
        add_failure(words, result);
        return add(words);
    }
    Status add(const VariantResult& variant) {
        return visit_failures(scope_, variant, [&](const Words& words) { return add(words); });
    }
    Status add(const Words& words) {
        std::string_view sentence;
        LDM_NEED(scope_, words.fits());
        LDM_TRY(Words(scope_.memory).printable(words.view()).keep(scope_, arena_, sentence));
        LDM_NEED(scope_, all_.push(sentence));
        return Status();
    }
    bool empty() const { return all_.empty(); }
    Status keep(View<std::string_view>& out) {
        LDM_NEED(scope_, arena_.copy(all_.data(), all_.size(), out));
        return Status();
    }

private:
    Scope& scope_;
    Arena& arena_;
    Array<std::string_view> all_;
};

// The cases of one graph, which follow one another.
struct Graph {
    std::string_view component, artefact;
    std::int64_t cases = 0, failed = 0;
    const CaseResult* worst = nullptr;  // the closest to its tolerance, or farthest beyond; null: none was measurable

    void add(const CaseResult& result) {
        ++cases;
        failed += result.passed ? 0 : 1;
        auto ratio = [](const CaseResult& each) { return *each.relative_rms / each.tolerance; };
        if (result.relative_rms && (worst == nullptr || ratio(result) > ratio(*worst))) worst = &result;
    }
};

Status list_graphs(Scope& scope, const Report& report, Array<Graph>& out) {
    for (const CaseResult& result : report.cases) {
        Graph* found = std::find_if(out.begin(), out.end(), [&](const Graph& graph) {
            return graph.component == result.component && graph.artefact == result.artefact;
        });
        if (found == out.end()) {
            Graph graph;
            graph.component = result.component;
            graph.artefact = result.artefact;
            LDM_NEED(scope, out.push(graph));
            found = &out.back();
        }
        found->add(result);
    }
    return Status();
}

constexpr std::size_t columns = 5;
constexpr bool is_to_the_right[columns] = {false, false, true, true, false};

struct Line {
    std::string_view cells[columns] = {"component", "graph", "cases", "relative RMS, tolerance", "verdict"};
};

Status make_line(Scope& scope, Arena& arena, const Graph& graph, Line& out) {
    out.cells[0] = graph.component;
    out.cells[1] = graph.artefact;
    LDM_TRY(Words(scope.memory).add(graph.cases).keep(scope, arena, out.cells[2]));
    out.cells[3] = "not measurable";
    if (graph.worst != nullptr) {
        Words words(scope.memory);
        words.scientific(*graph.worst->relative_rms, 2).add(" of ").scientific(graph.worst->tolerance, 2);
        LDM_TRY(words.keep(scope, arena, out.cells[3]));
    }
    out.cells[4] = "passed";
    return graph.failed == 0 ? Status()
                             : Words(scope.memory).add(graph.failed, " failed").keep(scope, arena, out.cells[4]);
}

void add_lines(Words& words, const Array<Line>& lines) {
    std::size_t widths[columns] = {};
    for (const Line& line : lines) {
        for (std::size_t column = 0; column < columns; ++column) {
            widths[column] = std::max(widths[column], utf8::characters(line.cells[column]));
        }
    }
    for (const Line& line : lines) {
        for (std::size_t column = 0; column < columns; ++column) {
            std::size_t start = words.view().size(), missing = widths[column] - utf8::characters(line.cells[column]);
            if (is_to_the_right[column]) words.pad(start, missing);
            words.add(line.cells[column]);
            if (column + 1 < columns) words.pad(start, widths[column]).add("  ");
        }
        words.add("\n");
    }
}

void add_trajectory(Words& words, const TrajectoryResult& result) {
    words.add("sampling run  ", result.run.sampler, ", ", result.run.steps, " steps: latents PSNR ");
    std::optional<double> lowest;
    for (const StepResult& step : result.drift) {
        if (step.psnr && (!lowest || *step.psnr < *lowest)) lowest = step.psnr;
    }
    auto add_decibels = [&](const std::optional<double>& figure) {
        if (figure) {
            words.fixed(*figure, 1).add(" dB");
        } else {
            words.add("equal or not measurable");
        }
    };
    add_decibels(lowest);
    words.add(" (floor ").fixed(result.run.latents_floor, 0).add("), image PSNR ");
    add_decibels(result.image_psnr);
    words.add("  ", result.passed ? "passed" : "failed", "\n");
}

Status add_line(Scope& scope, Words& words, const VariantResult& variant) {
    words.add("variant ", variant.name, "  ");
    if (variant.left_out) {
        words.add("left out: ", *variant.left_out, "\n");
        return Status();
    }
    std::size_t failed = 0;
    LDM_TRY(visit_failures(scope, variant, [&](const Words&) {
        ++failed;
        return Status();
    }));
    words.add(variant.cases.size, " cases, image PSNR ");
    if (variant.image_psnr) {
        words.fixed(*variant.image_psnr, 1).add(" dB");
    } else {
        words.add("equal or not measurable");
    }
    if (variant.image_floor) words.add(" (floor ").fixed(*variant.image_floor, 1).add(")");
    if (variant.passed) {
        words.add("  passed\n");
    } else {
        words.add("  ", failed, " failed\n");
    }
    return Status();
}

}  // namespace

Status list_failures(Scope& scope, Arena& arena, const Report& report, View<std::string_view>& out) {
    Sentences sentences(scope, arena);
    for (const FactResult& fact : report.facts) LDM_TRY(sentences.add(fact));
    for (const CaseResult& result : report.cases) LDM_TRY(sentences.add(result));
    if (report.trajectory) {
        LDM_TRY(sentences.add(*report.trajectory));
    } else if (sentences.empty()) {
        LDM_TRY(sentences.add(Words(scope.memory).add("the sampling run was not reached")));
    }
    for (const VariantResult& variant : report.variants) LDM_TRY(sentences.add(variant));
    return sentences.keep(out);
}

Status make_table(Scope& scope, Arena& arena, const Report& report, std::string_view& out) {
    Array<Graph> graphs(scope.memory);
    Array<Line> lines(scope.memory);
    LDM_TRY(list_graphs(scope, report, graphs));
    LDM_NEED(scope, lines.push(Line()));
    for (const Graph& graph : graphs) {
        Line line;
        LDM_TRY(make_line(scope, arena, graph, line));
        LDM_NEED(scope, lines.push(line));
    }
    Words words(scope.memory);
    add_lines(words, lines);
    if (report.trajectory) add_trajectory(words, *report.trajectory);
    for (const VariantResult& variant : report.variants) LDM_TRY(add_line(scope, words, variant));
    words.add(report.package, " on ", report.engine, ": ", report.passed ? "passed" : "FAILED");
    LDM_NEED(scope, words.fits());
    return Words(scope.memory).printable(words.view()).keep(scope, arena, out);
}

}  // namespace ldm::verify
