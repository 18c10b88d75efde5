// Weights of a prompt, from its brackets.
#include "core/text/prompt.h"

#include <algorithm>
#include <cfloat>

#include "core/codes.h"
#include "core/text/numbers.h"
#include "core/text/vocabulary.h"

namespace ldm {

namespace {

constexpr double round_factor = 1.1, square_factor = 1 / 1.1;
constexpr double most_weight = 10.0, least_product = 1e-6, most_product = 100.0;

bool is_space(char byte) { return byte == ' ' || (byte >= '\t' && byte <= '\r'); }
bool is_digit(char byte) { return byte >= '0' && byte <= '9'; }
bool is_bracket(char byte) { return byte == '(' || byte == ')' || byte == '[' || byte == ']'; }

enum class MarkKind { end, escaped, weight, bracket, stop };

// A mark of the syntax; `number`: of a weight.
struct Mark {
    MarkKind kind = MarkKind::end;
    std::size_t start = 0, end = 0;
    std::string_view number;
};

// What stands at a colon: a number and ")", with white space around the number.
bool read_weight(std::string_view text, Mark& mark) {
    std::size_t at = mark.start + 1;
    while (at < text.size() && is_space(text[at])) ++at;
    std::size_t first = at;
    while (at < text.size() && is_digit(text[at])) ++at;
    std::size_t whole = at - first;
    if (at < text.size() && text[at] == '.') {
        ++at;
        std::size_t before = at;
        while (at < text.size() && is_digit(text[at])) ++at;
        if (whole == 0 && at == before) return false;
    } else if (whole == 0) {
        return false;
    }
    mark.number = text.substr(first, at - first);
    while (at < text.size() && is_space(text[at])) ++at;
    if (at == text.size() || text[at] != ')') return false;
    mark.kind = MarkKind::weight;
    mark.end = at + 1;
    return true;
}

bool is_break(std::string_view text, std::size_t at) {
    return text.substr(at, 5) == "BREAK" && (at == 0 || is_space(text[at - 1])) &&
           (at + 5 == text.size() || is_space(text[at + 5]));
}

Mark next_mark(std::string_view text, std::size_t from) {
    for (std::size_t at = from; at < text.size(); ++at) {
        Mark mark{MarkKind::end, at, at + 1, {}};
        char byte = text[at];
        if (byte == '\\' && at + 1 < text.size() && (is_bracket(text[at + 1]) || text[at + 1] == '\\')) {
            return {MarkKind::escaped, at, at + 2, {}};
        }
        if (byte == ':' && read_weight(text, mark)) return mark;
        if (is_bracket(byte)) return {MarkKind::bracket, at, at + 1, {}};
        if (byte == 'B' && is_break(text, at)) return {MarkKind::stop, at, at + 5, {}};
    }
    return {MarkKind::end, text.size(), text.size(), {}};
}

// A text, an opening bracket or a closing one, in order.
struct Step {
    enum { text, open, close } kind;
    std::string_view words;
    double factor;
};

class PartParser {
public:
    PartParser(Scope& scope, Arena& arena, std::string_view name)
        : scope_(scope),
          arena_(arena),
          name_(name),
          steps_(scope.memory),
          opened_(scope.memory),
          weights_(scope.memory),
          bytes_(scope.memory),
          found_(scope.memory) {}

    Status parse(std::string_view text, View<WeightedText>& out) {
        steps_.shrink(0);
        opened_.shrink(0);
        std::size_t place = 0;
        while (true) {
            Mark mark = next_mark(text, place);
            LDM_TRY(put_text(text.substr(place, mark.start - place)));
            if (mark.kind == MarkKind::end) break;
            place = mark.end;
            LDM_TRY(read(text.substr(mark.start, mark.end - mark.start), mark));
        }
        return multiply(out);
    }

private:
    struct Opening {
        char bracket;
        std::size_t step;
    };

    Status put_text(std::string_view text) {
        if (text.empty()) return Status();
        LDM_NEED(scope_, steps_.push({Step::text, text, 1.0}));
        return Status();
    }

    Status read(std::string_view token, const Mark& mark) {
        char innermost = opened_.empty() ? ' ' : opened_.back().bracket;
        char byte = token[0];
        if (mark.kind == MarkKind::bracket && (byte == '(' || byte == '[')) {
            LDM_NEED(scope_, opened_.push({byte, steps_.size()}));
            LDM_NEED(scope_, steps_.push({Step::open, {}, byte == '(' ? round_factor : square_factor}));
            return Status();
        }
        bool closes =
            mark.kind == MarkKind::bracket && ((innermost == '(' && byte == ')') || (innermost == '[' && byte == ']'));
        bool weighs = mark.kind == MarkKind::weight && innermost == '(';
        if (!closes && !weighs) return put_text(mark.kind == MarkKind::escaped ? token.substr(1) : token);
        if (weighs) LDM_TRY(weight(mark.number, steps_[opened_.back().step].factor));
        opened_.shrink(opened_.size() - 1);
        LDM_NEED(scope_, steps_.push({Step::close, {}, 1.0}));
        return Status();
    }

    Status weight(std::string_view number, double& out) {
        numbers::read(number, out);
        std::string_view shown = number.substr(0, number.size() <= 20 ? number.size() : 17);
        std::string_view rest = number.size() <= 20 ? "" : "...";
        if (!(out >= 0.0 && out <= most_weight)) {
            return scope_.fail(codes::request_prompt,
                               {"a weight in ", name_, " is ", shown, rest, "; expected a number from 0 to 10"});
        }
        if (out != 0.0 && out < least_product) {
            return scope_.fail(codes::request_prompt,
                               {"a weight in ", name_, " is ", shown, rest, "; expected 0, or 0.000001 at least"});
        }
        return Status();
    }

    // The product is 0 only if a factor is: what overflows or underflows is to be refused.
    static double product(double outside, double factor) {
        return outside == 0.0 || factor == 0.0 ? 0.0 : std::max(outside * factor, DBL_MIN);
    }

    Status multiply(View<WeightedText>& out) {
        weights_.shrink(0);
        bytes_.shrink(0);
        found_.shrink(0);
        LDM_NEED(scope_, weights_.push(1.0));
        for (const Step& step : steps_) {
            if (step.kind == Step::open) {
                LDM_NEED(scope_, weights_.push(product(weights_.back(), step.factor)));
            } else if (step.kind == Step::close) {
                weights_.shrink(weights_.size() - 1);
            } else {
                if (!found_.empty() && found_.back().weight != weights_.back()) LDM_TRY(finish());
                if (found_.empty() || !bytes_has_piece_) LDM_NEED(scope_, found_.push({{}, weights_.back()}));
                bytes_has_piece_ = true;
                LDM_NEED(scope_, bytes_.append(step.words.data(), step.words.size()));
            }
        }
        if (bytes_has_piece_) LDM_TRY(finish());
        LDM_NEED(scope_, arena_.copy(found_.data(), found_.size(), out));
        return Status();
    }

    // The text of the last piece is complete.
    Status finish() {
        if (!bytes_has_piece_) return Status();
        WeightedText& piece = found_.back();
        piece.text = {bytes_.data(), bytes_.size()};
        LDM_TRY(keep(scope_, arena_, piece.text));
        bytes_.shrink(0);
        bytes_has_piece_ = false;
        if (piece.weight == 0.0 || (piece.weight >= least_product && piece.weight <= most_product)) return Status();
        return scope_.fail(codes::request_prompt,
                           {"the brackets around ", quoted(piece.text), " in ", name_, " multiply to a weight of ",
                            piece.weight > 1.0 ? "more than 100" : "less than 0.000001", "; use fewer of them"});
    }

    Scope& scope_;
    Arena& arena_;
    std::string_view name_;
    Array<Step> steps_;
    Array<Opening> opened_;
    Array<double> weights_;  // the current text's, and those outside of each open bracket
    Array<char> bytes_;      // of the piece that is being joined
    Array<WeightedText> found_;
    bool bytes_has_piece_ = false;
};

}  // namespace

Status parse_prompt(Scope& scope, Arena& arena, std::string_view prompt, std::string_view name,
                    View<View<WeightedText>>& out) {
    Array<View<WeightedText>> parts(scope.memory);
    PartParser parser(scope, arena, name);
    std::size_t start = 0;
    Mark mark;
    do {
        mark = next_mark(prompt, mark.end);
        if (mark.kind != MarkKind::stop && mark.kind != MarkKind::end) continue;
        View<WeightedText> part;
        LDM_TRY(parser.parse(prompt.substr(start, mark.start - start), part));
        LDM_NEED(scope, parts.push(part));
        start = mark.end;
    } while (mark.kind != MarkKind::end);
    LDM_NEED(scope, arena.copy(parts.data(), parts.size(), out));
    return Status();
}

}  // namespace ldm
