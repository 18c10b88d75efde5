#include "core/status.h"

#include <charconv>

#include "core/codes.h"
#include "core/text/utf8.h"

namespace ldm {

namespace {

constexpr std::size_t longest_quoted = 60;  // characters

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
    void escaped(char32_t point) {
        const char* digits = "0123456789abcdef";
        int width = point < 0x100 ? 2 : point < 0x10000 ? 4 : 8;
        put(width == 2 ? "\\x" : width == 4 ? "\\u" : "\\U");
        for (int shift = 4 * (width - 1); shift >= 0; shift -= 4) put({digits + (point >> shift & 15), 1});
    }
    // Text of a file or of the caller: what would command a terminal or hide in it is escaped.
    void printable(std::string_view part) {
        while (!part.empty()) {
            utf8::Character read = utf8::next(part);
            if (!read.valid) {
                escaped(static_cast<unsigned char>(part[0]));
            } else if (utf8::is_unprintable(read.point)) {
                escaped(read.point);
            } else {
                put(part.substr(0, read.bytes));
            }
            part.remove_prefix(read.bytes);
        }
    }
};

}  // namespace

Piece quoted(std::string_view text) {
    Piece piece(text);
    piece.kind_ = Piece::Kind::quoted;
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
            case Piece::Kind::real: writer.number(piece.real_); break;
            case Piece::Kind::quoted: {
                std::string_view kept = utf8::first_characters(piece.text_, longest_quoted);
                writer.put("'");
                writer.printable(kept);
                writer.put(kept.size() < piece.text_.size() ? "...'" : "'");
            }
        }
    }
    text[writer.length] = 0;
}

Status Scope::fail(const char* code, std::initializer_list<Piece> sentence) {
    failure.set(code, sentence);
    return Status(code);
}

Status Scope::out_of_memory() { return fail(codes::other_memory, {"no memory is left"}); }

}  // namespace ldm
