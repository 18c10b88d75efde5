// The chunks of a PNG file, each with the right checksum and in its place, from IHDR to IEND.
#ifndef LDM_SRC_PNG_CHUNKS_H
#define LDM_SRC_PNG_CHUNKS_H

#include <string_view>

#include "core/status.h"
#include "src/png/png.h"
#include "src/png/rules.h"

namespace ldm::png {

struct Chunk {
    std::string_view kind;  // four letters
    Bytes content;
};

// Walks through a file.
class Chunks {
public:
    Chunks(Scope& scope, Bytes file, std::string_view what) : scope_(scope), file_(file), what_(what) {}

    // Read the signature and IHDR.
    Status begin(Header& out);

    // Read the next chunk; `done` at IEND. What follows IEND is not looked at.
    Status next(Chunk& out, bool& done);

    // Say that the file cannot be read, and why.
    Status refuse(std::string_view reason);

private:
    Status take(Chunk& out);

    Scope& scope_;
    Bytes file_;
    std::string_view what_;
    std::size_t at_ = 0;
    Order order_;
};

// The value of a text chunk as the file has it: Latin-1 of tEXt and zTXt, UTF-8 of iTXt.
struct RawText {
    std::string_view key;    // Latin-1
    std::string_view value;  // packed, perhaps
    bool is_packed, is_utf8;
};

// Read a text chunk. False: it is none, or malformed.
bool read_text(const Chunk& chunk, RawText& out);

// Fill `out` with the bytes of the value, unpacked. One that is damaged is empty: no image is refused for it, as in
// Pillow. Code: request.image, where it unpacks to more than 1 MiB.
Status unpack(Scope& scope, Chunks& chunks, const RawText& text, Array<char>& out, bool& is_damaged);

// Append Latin-1 or UTF-8 as UTF-8. False: no memory is left.
bool append_as_utf8(Array<char>& out, std::string_view value, bool is_utf8);

}  // namespace ldm::png

#endif
