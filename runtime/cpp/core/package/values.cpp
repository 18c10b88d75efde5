#include "core/package/values.h"

#include <algorithm>

#include "core/codes.h"
#include "core/text/utf8.h"

namespace ldm {

namespace {

constexpr std::size_t longest_name = 1024;  // characters, of paths too
constexpr std::size_t longest_part = 255;   // of a path

// What no name has: control and hidden characters.
bool has_control(std::string_view text) {
    while (!text.empty()) {
        utf8::Character read = utf8::next(text);
        if (!read.valid || read.point == '\t' || read.point == '\n' || utf8::is_unprintable(read.point)) return true;
        text.remove_prefix(read.bytes);
    }
    return false;
}

bool is_plain_part(std::string_view part) {
    return !part.empty() && part.back() != ' ' && part.back() != '.' && utf8::characters(part) <= longest_part;
}

}  // namespace

Status check_name(Scope& scope, std::string_view name, const json::Where& where) {
    if (name.empty()) return json::fail(scope, where, codes::manifest_name, {"should not be empty"});
    if (utf8::characters(name) <= longest_name && !has_control(name)) return Status();
    return json::fail(scope, where, codes::manifest_name,
                      {"is ", quoted(name), ", expected 1 to ", longest_name,
                       " characters and no control characters or hidden ones"});
}

Status check_relative_path(Scope& scope, std::string_view path, const json::Where& where) {
    std::size_t length = utf8::characters(path);
    if (length == 0 || length > longest_name) {
        return json::fail(scope, where, codes::manifest_path,
                          {"has a path of ", length, " characters; expected 1 to ", longest_name});
    }
    if (path.find_first_of("\\:*?\"<>|") != std::string_view::npos || has_control(path)) {
        return json::fail(scope, where, codes::manifest_path,
                          {"has the path ", quoted(path), " with a character that no package path may have"});
    }
    for (std::size_t start = 0; start <= path.size();) {
        std::size_t end = std::min(path.find('/', start), path.size());
        if (!is_plain_part(path.substr(start, end - start))) {
            return json::fail(scope, where, codes::manifest_path,
                              {"has the path ", quoted(path),
                               ", which leaves the package or is not a plain relative path"});
        }
        start = end + 1;
    }
    return Status();
}

Status check_digest(Scope& scope, std::string_view text, const json::Where& where) {
    bool is_hexadecimal = std::all_of(text.begin(), text.end(), [](char digit) {
        return (digit >= '0' && digit <= '9') || (digit >= 'a' && digit <= 'f');
    });
    if (text.size() == 64 && is_hexadecimal) return Status();
    return json::fail(scope, where, codes::manifest_digest, {"should be 64 hexadecimal digits in lower case"});
}

Status check_listed(Scope& scope, std::string_view path, const Manifest& manifest, const json::Where& where) {
    if (manifest.files.find(path) != nullptr) return Status();
    return json::fail(scope, where, codes::manifest_file,
                      {"names the file ", quoted(path), ", which files does not list"});
}

Status check_between(Scope& scope, std::int64_t value, std::int64_t low, std::int64_t high, const json::Where& where) {
    if (value >= low && value <= high) return Status();
    return json::fail(scope, where, codes::manifest_range,
                      {"is ", json::shown(value), "; expected ", low, " to ", high});
}

Piece shown(const Dim& dim) { return dim.is_named ? quoted(dim.axis) : Piece(dim.size); }

void add_names(Failure& failure, View<std::string_view> names) {
    if (names.empty()) failure.add({"nothing"});
    for (const std::string_view& name : names) failure.add({&name == names.begin() ? "" : ", ", name});
}

}  // namespace ldm
