#include "core/status.h"

#include <charconv>
#include <cstring>

#include "core/codes.h"
#include "core/text/numbers.h"
#include "core/text/quoting.h"
#include "core/text/utf8.h"

namespace ldm {

namespace {

constexpr std::size_t longest_quoted = 60;  // characters, with the quotes
constexpr std::size_t kept_characters = Failure::most_characters / 2 - 40;  // at both ends of a long sentence
constexpr std::string_view before_count = " … (", behind_count = " characters left out) … ";

// Where the last `count` characters of a text begin.
std::size_t start_of_last(std::string_view text, std::size_t count) {
    std::size_t at = text.size();
    for (; count > 0 && at > 0; count -= utf8::begins_character(text[at])) --at;
    return at;
}

}  // namespace

// Writes behind a Failure's sentence. Of one that is too long it keeps both ends.
class Writer {
public:
    explicit Writer(Failure& failure) : its_(failure), length_(std::strlen(failure.text)) {
        if (its_.mark_bytes_ > 0) remove(beginning(), its_.mark_bytes_);
        its_.mark_bytes_ = 0;
    }

    void put(std::string_view part) {
        constexpr std::size_t longest_character = 4;
        while (!part.empty()) {
            if (left() < longest_character) leave_out_middle();
            std::string_view fitting = utf8::prefix(part, left());
            std::memcpy(its_.text + length_, fitting.data(), fitting.size());
            length_ += fitting.size();
            its_.characters_ += utf8::characters(fitting);
            part.remove_prefix(fitting.size());
        }
    }
    template <typename T>
    void number(T value) {
        char digits[40];
        put({digits, static_cast<std::size_t>(std::to_chars(digits, digits + sizeof digits, value).ptr - digits)});
    }
    void real(double value) {
        char digits[40];
        put({digits,
             static_cast<std::size_t>(
                 std::to_chars(digits, digits + sizeof digits, value, std::chars_format::general, 6).ptr - digits)});
    }
    // Text of a file or of the caller: what would command a terminal or hide in it is escaped.
    void printable(std::string_view part) {
        while (!part.empty()) {
            utf8::Character read = utf8::next(part);
            bool is_plain =
                read.valid && read.point >= ' ' && !utf8::is_unprintable(read.point);  // a sentence is a line
            put(is_plain ? part.substr(0, read.bytes) : quoting::escaped(read.point).view());
            part.remove_prefix(read.bytes);
        }
    }
    void quoted(std::string_view part) {
        bool is_long = quoting::quoted_length(part, longest_quoted + 1) > longest_quoted;
        std::size_t left = is_long ? longest_quoted - 3 : longest_quoted;
        quoting::quote(part, "", [&](std::string_view character) {
            if (left == 0) return false;
            put(character);
            --left;
            return true;
        });
        if (is_long) put("...");
    }
    void spelt(const void* what, Spelling spelling) {
        char whole[longest_quoted];
        bool is_long = spelling(what, whole, sizeof whole) > longest_quoted;
        std::size_t kept = is_long ? longest_quoted - 3 : spelling(what, whole, sizeof whole);
        put({whole, kept});
        if (is_long) put("...");
    }
    void quoted_whole(std::string_view part, std::string_view rest) {
        quoting::quote(part, rest, [&](std::string_view character) {
            put(character);
            return true;
        });
    }

    // Say how many characters are left out, if any are, and end the text.
    void end() {
        if (its_.characters_ > Failure::most_characters) {
            leave_out_middle();
            mark(its_.characters_ - 2 * kept_characters);
        }
        its_.text[length_] = 0;
    }

private:
    std::size_t left() const { return Failure::room - 1 - length_; }

    // Bytes of the first characters that are kept.
    std::size_t beginning() const { return utf8::first_characters({its_.text, length_}, kept_characters).size(); }

    void remove(std::size_t from, std::size_t bytes) {
        std::memmove(its_.text + from, its_.text + from + bytes, length_ - from - bytes);
        length_ -= bytes;
    }

    void leave_out_middle() {
        std::size_t from = beginning(), to = start_of_last({its_.text, length_}, kept_characters);
        if (to > from) remove(from, to - from);
    }

    void mark(std::size_t left_out) {
        char digits[20];
        auto count = static_cast<std::size_t>(std::to_chars(digits, digits + sizeof digits, left_out).ptr - digits);
        its_.mark_bytes_ = before_count.size() + count + behind_count.size();
        char* at = its_.text + beginning();
        std::memmove(at + its_.mark_bytes_, at, static_cast<std::size_t>(its_.text + length_ - at));
        for (std::string_view part : {before_count, std::string_view(digits, count), behind_count}) {
            std::memcpy(at, part.data(), part.size());
            at += part.size();
        }
        length_ += its_.mark_bytes_;
    }

    Failure& its_;
    std::size_t length_;
};

Piece quoted(std::string_view text) {
    Piece piece(text);
    piece.kind_ = Piece::Kind::quoted;
    return piece;
}

Piece quoted_whole(std::string_view text, bool goes_on) {
    Piece piece(text);
    piece.kind_ = goes_on ? Piece::Kind::quoted_beginning : Piece::Kind::quoted_whole;
    return piece;
}

Piece exactly(double number) {
    Piece piece(number);
    piece.kind_ = Piece::Kind::exact;
    return piece;
}

Piece spelt(const void* what, Spelling spelling) {
    Piece piece("");
    piece.kind_ = Piece::Kind::spelt;
    piece.what_ = what;
    piece.spelling_ = spelling;
    return piece;
}

void Failure::clear() {
    code = nullptr;
    text[0] = 0;
    characters_ = mark_bytes_ = 0;
}

void Failure::set(const char* its_code, std::initializer_list<Piece> sentence) {
    clear();
    add(sentence);
    code = its_code;
}

void Failure::add(std::initializer_list<Piece> more) {
    Writer writer(*this);
    for (const Piece& piece : more) {
        switch (piece.kind_) {
            case Piece::Kind::text: writer.printable(piece.text_); break;
            case Piece::Kind::integer: writer.number(piece.integer_); break;
            case Piece::Kind::natural: writer.number(piece.natural_); break;
            case Piece::Kind::real: writer.real(piece.real_); break;
            case Piece::Kind::exact: writer.put(numbers::shortest(piece.real_).view()); break;
            case Piece::Kind::spelt: writer.spelt(piece.what_, piece.spelling_); break;
            case Piece::Kind::quoted: writer.quoted(piece.text_); break;
            case Piece::Kind::quoted_whole: writer.quoted_whole(piece.text_, ""); break;
            case Piece::Kind::quoted_beginning: writer.quoted_whole(piece.text_, " …"); break;
        }
    }
    writer.end();
}

void Scope::tell(std::string_view topic, std::initializer_list<Piece> sentence) const {
    if (listener.hear == nullptr) return;
    Failure detail;  // used as a sentence
    detail.set("", {topic, ": "});
    detail.add(sentence);
    listener.hear(listener.user, detail.text);
}

Status Scope::fail(const char* code, std::initializer_list<Piece> sentence) {
    failure.set(code, sentence);
    return Status(code);
}

Status Scope::out_of_memory() { return fail(codes::other_memory, {"no memory is left"}); }

}  // namespace ldm
