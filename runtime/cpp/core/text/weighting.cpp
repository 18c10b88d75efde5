#include "core/text/weighting.h"

#include <cmath>
#include <limits>

#include "core/codes.h"
#include "core/text/numbers.h"

namespace ldm::text {

namespace {

constexpr double round_factor = 1.1, square_factor = 1 / 1.1;
constexpr double most = 10.0;                                  // one weight
constexpr double least_product = 1e-6, most_product = 100.0;   // the weights of nested brackets, unless it is 0

bool is_space(char byte) { return byte == ' ' || (byte >= '\t' && byte <= '\r'); }
bool is_digit(char byte) { return byte >= '0' && byte <= '9'; }

// Something in a prompt that is not plain text.
struct Token {
    enum class Kind { none, escaped, weight, bracket, pause } kind = Kind::none;
    std::size_t first = 0, size = 0;
    std::string_view number;  // of a weight

    std::size_t end() const { return first + size; }
};

// `: number )` at a place, white space between.
bool is_weight(std::string_view text, std::size_t at, Token& out) {
    std::size_t first = at++;
    auto skip = [&](bool (*is)(char)) {
        std::size_t start = at;
        while (at < text.size() && is(text[at])) ++at;
        return at - start;
    };
    skip(is_space);
    std::size_t number = at, whole = skip(is_digit), fraction = 0;
    if (at < text.size() && text[at] == '.') {
        ++at;
        fraction = skip(is_digit);
    }
    std::size_t number_end = at;
    skip(is_space);
    if (whole + fraction == 0 || at == text.size() || text[at] != ')') return false;
    out = {Token::Kind::weight, first, at + 1 - first, {text.data() + number, number_end - number}};
    return true;
}

bool is_pause(std::string_view text, std::size_t at) {
    constexpr std::string_view word = "BREAK";
    if (text.size() - at < word.size() || std::memcmp(text.data() + at, word.data(), word.size()) != 0) return false;
    std::size_t end = at + word.size();
    return (at == 0 || is_space(text[at - 1])) && (end == text.size() || is_space(text[end]));
}

bool is_bracket(char byte) { return byte == '(' || byte == ')' || byte == '[' || byte == ']'; }

// The next token from a place on; kind none where there is no other.
Token next_token(std::string_view text, std::size_t at) {
    for (; at < text.size(); ++at) {
        char byte = text[at];
        Token found;
        if (byte == '\\' && at + 1 < text.size() && (is_bracket(text[at + 1]) || text[at + 1] == '\\')) {
            return {Token::Kind::escaped, at, 2, {}};
        }
        if (byte == ':' && is_weight(text, at, found)) return found;
        if (is_bracket(byte)) return {Token::Kind::bracket, at, 1, {}};
        if (byte == 'B' && is_pause(text, at)) return {Token::Kind::pause, at, 5, {}};
    }
    return {};
}

// Reads one part: texts and brackets in order, each opening one with its factor once that is known; then it multiplies
// factors.
class Part {
public:
    Part(Scope& scope, Arena& arena, std::string_view text, std::string_view name)
        : scope_(scope), arena_(arena), text_(text), name_(name), marks_(scope.memory), opened_(scope.memory),
          weights_(scope.memory), pieces_(scope.memory), joined_(scope.memory) {}

    Status read(View<Piece>& out) {
        LDM_TRY(mark());
        LDM_TRY(multiply());
        LDM_NEED(scope_, arena_.copy(pieces_.data(), pieces_.size(), out));
        return Status();
    }

private:
    struct Mark {
        enum class Kind { text, open, close } kind;
        std::string_view text;
        double factor;
    };

    Status put(Mark::Kind kind, std::string_view text, double factor) {
        LDM_NEED(scope_, marks_.push({kind, text, factor}));
        return Status();
    }
    char innermost() const { return opened_.empty() ? '\0' : marks_[opened_[opened_.size() - 1]].text[0]; }
    Status close(double factor) {
        marks_[opened_.back()].factor = factor;
        opened_.shrink(opened_.size() - 1);
        return put(Mark::Kind::close, {}, 1.0);
    }

    Status mark() {
        std::size_t place = 0;
        for (Token token = next_token(text_, 0); token.kind != Token::Kind::none; token = next_token(text_, place)) {
            LDM_TRY(put(Mark::Kind::text, {text_.data() + place, token.first - place}, 1.0));
            place = token.end();
            LDM_TRY(take(token));
        }
        return put(Mark::Kind::text, {text_.data() + place, text_.size() - place}, 1.0);
    }

    Status take(const Token& token) {
        std::string_view its(text_.data() + token.first, token.size);
        char byte = its[0];
        if (token.kind == Token::Kind::bracket && (byte == '(' || byte == '[')) {
            LDM_NEED(scope_, opened_.push(marks_.size()));
            return put(Mark::Kind::open, its, byte == '(' ? round_factor : square_factor);
        }
        if (token.kind == Token::Kind::bracket && innermost() == (byte == ')' ? '(' : '[')) {
            return close(marks_[opened_.back()].factor);
        }
        if (token.kind == Token::Kind::weight && innermost() == '(') {
            double weight = 0.0;
            LDM_TRY(read_weight(token.number, weight));
            return close(weight);
        }
        if (token.kind == Token::Kind::escaped) its.remove_prefix(1);
        return put(Mark::Kind::text, its, 1.0);
    }

    Status read_weight(std::string_view number, double& out) {
        numbers::read(number, out);
        if (!(out >= 0.0 && out <= most)) {
            return scope_.fail(codes::request_prompt, {"a weight in ", name_, " is ", quoted(number),
                               "; expected a number from 0 to ", most});
        }
        if (out == 0.0 || out >= least_product) return Status();
        return scope_.fail(codes::request_prompt, {"a weight in ", name_, " is ", quoted(number),
                           "; expected 0, or 0.000001 at least"});
    }

    Status multiply() {
        LDM_NEED(scope_, weights_.push(1.0));  // the current text's, and those outside of each open bracket
        double weight = 1.0;
        for (const Mark& mark : marks_) {
            if (mark.kind == Mark::Kind::open) {
                LDM_NEED(scope_, weights_.push(product(weights_.back(), mark.factor)));
            } else if (mark.kind == Mark::Kind::close) {
                weights_.shrink(weights_.size() - 1);
            } else if (!mark.text.empty()) {
                if (!joined_.empty() && weight != weights_.back()) LDM_TRY(finish_piece(weight));
                weight = weights_.back();
                LDM_NEED(scope_, joined_.append(mark.text.data(), mark.text.size()));
            }
        }
        return joined_.empty() ? Status() : finish_piece(weight);
    }

    // The product is 0 only if one of its factors is: what overflows or underflows is to be refused.
    static double product(double outside, double factor) {
        if (outside == 0.0 || factor == 0.0) return 0.0;
        return std::fmax(outside * factor, std::numeric_limits<double>::min());
    }

    Status finish_piece(double weight) {
        View<char> kept;
        LDM_NEED(scope_, arena_.copy(joined_.data(), joined_.size(), kept));
        joined_.shrink(0);
        Piece piece{{kept.data, kept.size}, weight};
        LDM_NEED(scope_, pieces_.push(piece));
        if (weight == 0.0 || (weight >= least_product && weight <= most_product)) return Status();
        return scope_.fail(codes::request_prompt, {"the brackets around ", quoted(piece.text), " in ", name_,
                           " multiply to a weight of ", weight > 1.0 ? "more than 100" : "less than 0.000001",
                           "; use fewer of them"});
    }

    Scope& scope_;
    Arena& arena_;
    std::string_view text_, name_;
    Array<Mark> marks_;
    Array<std::size_t> opened_;  // places in marks_
    Array<double> weights_;
    Array<Piece> pieces_;
    Array<char> joined_;         // the texts of the piece that is not finished
};

}  // namespace

Status parse_prompt(Scope& scope, Arena& arena, std::string_view prompt, std::string_view name, View<View<Piece>>& out) {
    Array<View<Piece>> parts(scope.memory);
    std::size_t start = 0, at = 0;
    while (true) {
        Token token = next_token(prompt, at);
        bool is_last = token.kind == Token::Kind::none;
        at = is_last ? prompt.size() : token.end();
        if (!is_last && token.kind != Token::Kind::pause) continue;
        std::size_t end = is_last ? prompt.size() : token.first;
        View<Piece> pieces;
        LDM_TRY(Part(scope, arena, {prompt.data() + start, end - start}, name).read(pieces));
        LDM_NEED(scope, parts.push(pieces));
        if (is_last) break;
        start = at;
    }
    LDM_NEED(scope, arena.copy(parts.data(), parts.size(), out));
    return Status();
}

void weigh(float* states, std::size_t tokens, std::size_t width, std::size_t stride, const double* weights) {
    double before = 0.0, after = 0.0;
    bool all_are_one = true;
    for (std::size_t token = 0; token < tokens; ++token) all_are_one = all_are_one && weights[token] == 1.0;
    if (all_are_one) return;
    for (std::size_t token = 0; token < tokens; ++token) {
        auto weight = static_cast<float>(weights[token]);
        for (std::size_t index = 0; index < width; ++index) {
            float& value = states[token * stride + index];
            before += double{value} * double{value};
            value *= weight;
            after += double{value} * double{value};
        }
    }
    if (after == 0.0) return;  // nothing to restore
    auto factor = static_cast<float>(std::sqrt(before / after));
    for (std::size_t token = 0; token < tokens; ++token) {
        for (std::size_t index = 0; index < width; ++index) states[token * stride + index] *= factor;
    }
}

}  // namespace ldm::text
