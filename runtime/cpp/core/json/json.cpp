#include "core/json/json.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>

#include "core/codes.h"
#include "core/json/key_table.h"
#include "core/text/numbers.h"
#include "core/text/utf8.h"

namespace ldm::json {

namespace {

constexpr int deepest = 64;
constexpr std::size_t most_digits = 4300;  // of an integer, as Python reads it

class Parser {
public:
    Parser(Scope& scope, Arena& arena, std::string_view text, std::string_view where)
        : scope_(scope), arena_(arena), text_(text), where_(where), values_(scope.memory), members_(scope.memory),
          bytes_(scope.memory), table_(scope.memory) {}

    Status parse(Value& out) {
        std::size_t invalid = utf8::first_invalid(text_);
        if (invalid < text_.size()) {
            return scope_.fail(codes::json_encoding, {where_, " is not UTF-8 at byte ", invalid});
        }
        if (text_.size() >= 3 && std::memcmp(text_.data(), "\xEF\xBB\xBF", 3) == 0) {
            return scope_.fail(codes::json_encoding, {where_, " begins with a byte order mark; expected plain UTF-8"});
        }
        LDM_TRY(value(out, 0));
        skip();
        if (at_ != text_.size()) return syntax("extra data");
        if (!has_half_) return Status();
        return refuse(codes::json_surrogate, {"it has half of a character (a lone surrogate)"});
    }

private:
    bool has(char byte) const { return at_ < text_.size() && text_[at_] == byte; }
    bool take(char byte) {
        if (!has(byte)) return false;
        ++at_;
        return true;
    }
    bool take(std::string_view word) {
        if (text_.size() - at_ < word.size() || std::memcmp(text_.data() + at_, word.data(), word.size()) != 0)
            return false;
        at_ += word.size();
        return true;
    }
    void skip() {
        while (has(' ') || has('\n') || has('\r') || has('\t')) ++at_;
    }

    Status syntax(const char* what) { return syntax(what, at_); }
    Status syntax(const char* what, std::size_t at) {
        std::size_t line = 1, column = 1;
        for (std::size_t index = 0; index < at && index < text_.size(); ++index) {
            bool ends = text_[index] == '\n';
            line += ends;
            column = ends ? 1 : column + utf8::begins_character(text_[index]);
        }
        return scope_.fail(codes::json_syntax,
                           {where_, " is not valid JSON at line ", line, ", column ", column, " (", what, ")"});
    }
    Status refuse(const char* code, std::initializer_list<Piece> reason) {
        Failure inner;
        inner.set(code, reason);
        return scope_.fail(code, {where_, " is not acceptable JSON: ", std::string_view(inner.text)});
    }

    Status value(Value& out, int depth) {
        skip();
        if (take('{')) return object(out, depth);
        if (take('[')) return list(out, depth);
        if (take('"')) {
            out.kind = Kind::text;
            return string(out.text);
        }
        if (take("true") || take("false")) {
            out.kind = Kind::boolean;
            out.boolean = text_[at_ - 2] == 'u';
            return Status();
        }
        if (take("null")) return Status();
        for (std::string_view name : {"NaN", "Infinity", "-Infinity"}) {
            if (take(name)) return refuse(codes::json_number, {name, " is not a JSON number"});
        }
        return number(out);
    }

    Status enter(int depth) {
        if (depth < deepest) return Status();
        return scope_.fail(codes::json_depth,
                           {where_, " nests its JSON too deeply; expected at most ", deepest, " levels"});
    }

    Status list(Value& out, int depth) {
        LDM_TRY(enter(depth));
        out.kind = Kind::list;
        std::size_t first = values_.size();
        skip();
        if (take(']')) return Status();
        while (true) {
            Value item;
            LDM_TRY(value(item, depth + 1));
            LDM_NEED(scope_, values_.push(item));
            skip();
            if (take(']')) break;
            if (!take(',')) return syntax("expected ','");
        }
        LDM_NEED(scope_, arena_.copy(values_.data() + first, values_.size() - first, out.items));
        values_.shrink(first);
        return Status();
    }

    Status object(Value& out, int depth) {
        LDM_TRY(enter(depth));
        out.kind = Kind::object;
        std::size_t first = members_.size();
        skip();
        if (take('}')) return Status();
        while (true) {
            Member member;
            skip();
            if (!take('"')) return syntax("expected a key in double quotes");
            LDM_TRY(string(member.key));
            skip();
            if (!take(':')) return syntax("expected ':'");
            LDM_TRY(value(member.value, depth + 1));
            LDM_NEED(scope_, members_.push(member));
            skip();
            if (take('}')) break;
            if (!take(',')) return syntax("expected ','");
        }
        LDM_NEED(scope_, arena_.copy(members_.data() + first, members_.size() - first, out.members));
        members_.shrink(first);
        return require_unique(out.members);
    }

    Status require_unique(View<Member> members) {
        constexpr std::size_t few = 8;
        bool repeats = false;
        if (members.size <= few) {
            for (std::size_t index = 1; index < members.size; ++index) {
                for (std::size_t before = 0; before < index; ++before) {
                    repeats = repeats || members[before].key == members[index].key;
                }
            }
        } else {
            LDM_NEED(scope_, table_.build(members));
            repeats = table_.repeats();
        }
        return repeats ? refuse_repeated(members) : Status();
    }

    // Name the key that is there most often, of several the first.
    Status refuse_repeated(View<Member> members) {
        Array<const Member*> sorted(scope_.memory);
        for (const Member& member : members) LDM_NEED(scope_, sorted.push(&member));
        std::sort(sorted.begin(), sorted.end(), [](const Member* a, const Member* b) {
            return a->key != b->key ? a->key < b->key : a < b;
        });
        const Member* found = sorted[0];
        std::size_t most = 0;
        for (std::size_t first = 0, end = 0; first < sorted.size(); first = end) {
            while (end < sorted.size() && sorted[end]->key == sorted[first]->key) ++end;
            if (end - first < most || (end - first == most && sorted[first] > found)) continue;
            found = sorted[first];
            most = end - first;
        }
        return refuse(codes::json_duplicate_key, {"the key ", quoted(found->key), " is given twice in one object"});
    }

    // What follows an opening quote.
    Status string(std::string_view& out) {
        std::size_t start = at_, quote = at_ - 1;
        to_special();
        if (take('"')) return keep(text_.data() + start, at_ - 1 - start, out);
        bytes_.shrink(0);
        while (true) {
            LDM_NEED(scope_, bytes_.append(text_.data() + start, at_ - start));
            if (at_ == text_.size()) return syntax("unterminated string", quote);
            if (take('"')) break;
            if (!take('\\')) return syntax("control character in a string");
            if (at_ == text_.size()) return syntax("unterminated string", quote);
            LDM_TRY(escape());
            start = at_;
            to_special();
        }
        return keep(bytes_.data(), bytes_.size(), out);
    }

    // Go on to a quote, a backslash, a control character or the end.
    void to_special() {
        while (at_ < text_.size() && text_[at_] != '"' && text_[at_] != '\\' &&
               static_cast<unsigned char>(text_[at_]) >= 0x20) {
            ++at_;
        }
    }

    Status keep(const char* bytes, std::size_t size, std::string_view& out) {
        char* kept = static_cast<char*>(arena_.take(size + 1, 1));
        LDM_NEED(scope_, kept != nullptr);
        if (size > 0) std::memcpy(kept, bytes, size);
        kept[size] = '\0';
        out = {kept, size};
        return Status();
    }

    // What follows a backslash. A failure is at it, or at the u that no four digits follow.
    Status escape() {
        static constexpr char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
        const char* known = static_cast<const char*>(std::memchr(from, text_[at_], 8));
        if (known != nullptr) {
            ++at_;
            LDM_NEED(scope_, bytes_.push(to[known - from]));
            return Status();
        }
        char32_t point = 0;
        if (!take('u') || !hexadecimal(point)) return syntax("unknown escape in a string", at_ - 1);
        std::size_t behind = at_;
        char32_t low = 0;
        if (point >= 0xD800 && point < 0xDC00 && take("\\u")) {
            if (!hexadecimal(low)) return syntax("unknown escape in a string", at_ - 1);
            if (low >= 0xDC00 && low < 0xE000) {
                point = 0x10000 + ((point - 0xD800) << 10) + (low - 0xDC00);
            } else {
                at_ = behind;
            }
        }
        has_half_ = has_half_ || (point >= 0xD800 && point < 0xE000);  // refused when all is read, as in Python
        char encoded[4];
        LDM_NEED(scope_, bytes_.append(encoded, utf8::encode(point, encoded)));
        return Status();
    }

    bool hexadecimal(char32_t& out) {
        if (text_.size() - at_ <= 4) return false;  // something follows in every string
        unsigned found = 0;
        const char* start = text_.data() + at_;
        auto [end, error] = std::from_chars(start, start + 4, found, 16);
        if (error != std::errc() || end != start + 4) return false;
        out = found;
        at_ += 4;
        return true;
    }

    std::size_t digits() {
        std::size_t start = at_;
        while (at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9') ++at_;
        return at_ - start;
    }

    Status number(Value& out) {
        std::size_t start = at_;
        bool negative = take('-');
        std::size_t whole = has('0') ? 1 : digits();
        if (whole == 0) return syntax("expected a value", start);
        if (has('0') && whole == 1 && at_ == start + negative) ++at_;
        bool integer = true;
        if (std::size_t before = at_; take('.') && digits() == 0) {
            at_ = before;  // "1." is the number 1 and extra data
        } else {
            integer = at_ == before;
        }
        if (std::size_t before = at_; take('e') || take('E')) {
            if (!take('-')) take('+');
            if (digits() == 0) {
                at_ = before;
            } else {
                integer = false;
            }
        }
        if (integer && whole > most_digits) {
            return refuse(codes::json_number, {"it has an integer of thousands of digits"});
        }
        out.kind = integer ? Kind::integer : Kind::real;
        const char *first = text_.data() + start, *last = text_.data() + at_;
        numbers::read({first, at_ - start}, out.real);
        if (!integer && std::isinf(out.real)) {
            return refuse(codes::json_number, {quoted({first, at_ - start}), " is too large for a float64"});
        }
        if (integer && std::from_chars(first, last, out.integer).ec != std::errc()) {
            View<char> spelt;
            LDM_NEED(scope_, arena_.copy(first, at_ - start, spelt));
            out.text = {spelt.data, spelt.size};
            out.integer =
                negative ? std::numeric_limits<std::int64_t>::min() : std::numeric_limits<std::int64_t>::max();
        }
        if (integer && out.integer == 0) out.real = 0.0;  // not -0
        return Status();
    }

    Scope& scope_;
    Arena& arena_;
    std::string_view text_;
    std::string_view where_;
    std::size_t at_ = 0;
    bool has_half_ = false;  // of a character, in a string
    Array<Value> values_;    // of the lists that are open
    Array<Member> members_;  // of the objects that are open
    Array<char> bytes_;      // of the string that is open
    KeyTable table_;         // of an object's keys
};

}  // namespace

const Value* Value::find(std::string_view key) const {
    for (const Member& member : members) {
        if (member.key == key) return &member.value;
    }
    return nullptr;
}

Status parse(Scope& scope, Arena& arena, std::string_view text, std::string_view where, Value& out) {
    out = Value();
    return Parser(scope, arena, text, where).parse(out);
}

}  // namespace ldm::json
