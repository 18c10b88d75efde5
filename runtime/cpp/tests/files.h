// Files of tests, read whole.
#ifndef LDM_TESTS_FILES_H
#define LDM_TESTS_FILES_H

#include <cstdio>
#include <cstdlib>
#include <string>

#include "core/json/json.h"
#include "core/memory.h"

// The content of a file; the program ends where it cannot be read.
inline std::string read_file(const std::string& path) {
    std::FILE* file = std::fopen(path.c_str(), "rb");
    if (file == nullptr) {
        std::perror(path.c_str());
        std::exit(2);
    }
    std::string content;
    char block[65536];
    std::size_t count;
    while ((count = std::fread(block, 1, sizeof block, file)) > 0) content.append(block, count);
    std::fclose(file);
    return content;
}

inline std::string golden_path(const std::string& name) { return std::string(LDM_GOLDEN) + "/" + name; }

// A JSON document of the conformance kit.
struct GoldenJson {
    ldm::Allocator memory = ldm::system_allocator();
    ldm::Failure failure;
    ldm::Arena arena{memory};
    ldm::json::Value value;

    explicit GoldenJson(const std::string& name) {
        ldm::Scope scope{memory, failure};
        std::string content = read_file(golden_path(name));
        if (!ldm::json::parse(scope, arena, content, name, value).ok()) {
            std::fprintf(stderr, "%s\n", failure.text);
            std::exit(2);
        }
    }
};

// The tensors of a safetensors file of the conformance kit.
struct GoldenTensors {
    std::string content;
    ldm::Allocator memory = ldm::system_allocator();
    ldm::Failure failure;
    ldm::Arena arena{memory};
    ldm::json::Value header;
    std::size_t start = 0;

    explicit GoldenTensors(const std::string& name) : content(read_file(golden_path(name))) {
        ldm::Scope scope{memory, failure};
        unsigned long long bytes = 0;
        for (int index = 7; index >= 0; --index)
            bytes = bytes << 8 | static_cast<unsigned char>(content[std::size_t(index)]);
        start = 8 + static_cast<std::size_t>(bytes);
        std::string_view text(content.data() + 8, static_cast<std::size_t>(bytes));
        if (!ldm::json::parse(scope, arena, text, name, header).ok()) {
            std::fprintf(stderr, "%s\n", failure.text);
            std::exit(2);
        }
    }

    // The values of a tensor; the program ends where there is none of that name or it has another type's size.
    template <typename T>
    ldm::View<T> tensor(std::string_view name) const {
        const ldm::json::Value* entry = header.find(name);
        if (entry == nullptr) {
            std::fprintf(stderr, "no tensor %.*s\n", static_cast<int>(name.size()), name.data());
            std::exit(2);
        }
        const ldm::json::Value& offsets = *entry->find("data_offsets");
        auto first = static_cast<std::size_t>(offsets.items[0].integer),
             last = static_cast<std::size_t>(offsets.items[1].integer);
        return {reinterpret_cast<const T*>(content.data() + start + first), (last - first) / sizeof(T)};
    }
};

#endif
