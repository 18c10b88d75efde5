// PNG files that are made in a test, chunk by chunk.
#ifndef LDM_TESTS_MADE_PNG_H
#define LDM_TESTS_MADE_PNG_H

#include <string>
#include <string_view>

#include "src/png/png.h"
#include "third_party/lodepng/lodepng.h"

inline ldm::Allocator heap = ldm::system_allocator();

inline ldm::png::Bytes bytes_of(std::string_view text) {
    return {reinterpret_cast<const unsigned char*>(text.data()), text.size()};
}

// A file with these texts and known levels, or "" with the status.
inline std::string written(ldm::Scope& scope, ldm::View<ldm::png::Text> texts, std::size_t width, std::size_t height,
                           ldm::Status& status) {
    ldm::Array<std::uint8_t> levels(scope.memory);
    ldm::Array<unsigned char> file(scope.memory);
    if (!levels.resize(width * height * 3)) {
        status = scope.out_of_memory();
        return "";
    }
    for (std::size_t index = 0; index < levels.size(); ++index) {
        levels[index] = static_cast<std::uint8_t>(index * index >> 4);
    }
    status = ldm::png::write(scope, levels.data(), width, height, texts, file);
    return {reinterpret_cast<const char*>(file.data()), file.size()};
}

inline void add_chunk(std::string& file, std::string_view kind, const std::string& content) {
    auto put = [&](std::size_t number) {
        for (int shift = 24; shift >= 0; shift -= 8) file += static_cast<char>(number >> shift);
    };
    put(content.size());
    std::string body = std::string(kind) + content;
    file += body;
    put(lodepng_crc32(reinterpret_cast<const unsigned char*>(body.data()), body.size()));
}

#endif
