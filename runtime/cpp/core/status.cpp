#include "core/status.h"

#include <charconv>

#include "core/codes.h"
#include "core/text/numbers.h"
#include "core/text/quoting.h"
#include "core/text/utf8.h"

namespace ldm {

namespace {

constexpr std::size_t longest_quoted = 60;  // characters, with the quotes

// Writes into a Failure's room and stops where it is full.
struct Writer {
    char* text;
    std::size_t length = 0;

    void put(std::string_view part) {
        if (part.size() > Failure::room - 1 - length) part = utf8::prefix(part, Failure::room - 1 - length);
        std::memcpy(text + length, part.data(), part.size());
        length += part.size();
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
};

}  // namespace

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
}

void Failure::set(const char* its_code, std::initializer_list<Piece> sentence) {
    text[0] = 0;
    add(sentence);
    code = its_code;
}

void Failure::add(std::initializer_list<Piece> more) {
    Writer writer{text, std::strlen(text)};
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
    text[writer.length] = 0;
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
