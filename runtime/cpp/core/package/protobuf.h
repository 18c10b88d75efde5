// Fields of a protobuf message, read without its schema: https://protobuf.dev/programming-guides/encoding.
#ifndef LDM_CORE_PACKAGE_PROTOBUF_H
#define LDM_CORE_PACKAGE_PROTOBUF_H

#include <cstdint>
#include <string_view>

namespace ldm::protobuf {

struct Number {
    std::uint64_t value = 0;  // its lowest 64 bits
    bool is_beyond = false;   // it has more
};

// Read a varint and take it off the text; false where there is none.
bool take_number(std::string_view& text, Number& out);

enum class Kind : unsigned char { number = 0, eight_bytes = 1, bytes = 2, four_bytes = 5 };

struct Field {
    std::uint64_t number = 0;
    Kind kind = Kind::number;
    std::string_view content;  // of bytes, texts and messages; of a number its varint
};

// Reads the fields of a message one after the other:
//     for (Fields fields(message); fields.next(field);) …
//     if (fields.is_malformed()) …
class Fields {
public:
    explicit Fields(std::string_view message) : rest_(message) {}

    bool next(Field& out);  // false at the end, and where the message is malformed
    bool is_malformed() const { return is_malformed_; }

private:
    bool read(Field& out);

    std::string_view rest_;
    bool is_malformed_ = false;
};

}  // namespace ldm::protobuf

#endif
