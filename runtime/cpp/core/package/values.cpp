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

bool is_digit(char byte) { return byte >= '0' && byte <= '9'; }
bool is_small(char byte) { return byte >= 'a' && byte <= 'z'; }
bool is_letter(char byte) { return is_small(byte) || (byte >= 'A' && byte <= 'Z'); }

bool is_label(std::string_view text) {
    auto fits = [](char byte) {
        return is_letter(byte) || is_digit(byte) || byte == '.' || byte == '_' || byte == '-';
    };
    return !text.empty() && text.size() <= 200 && (is_letter(text[0]) || is_digit(text[0])) &&
           std::all_of(text.begin(), text.end(), fits);
}

bool is_short_name(std::string_view text) {
    auto fits = [](char byte) { return is_small(byte) || is_digit(byte) || byte == '_'; };
    return !text.empty() && text.size() <= 32 && is_small(text[0]) && std::all_of(text.begin(), text.end(), fits);
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

Status check_label(Scope& scope, std::string_view name, const json::Where& where, const char* code) {
    if (is_label(name)) return Status();
    return json::fail(scope, where, code, {"is ", quoted(name), "; expected up to 200 letters, digits and . _ -"});
}

Status check_short_name(Scope& scope, std::string_view name, std::string_view example, const json::Where& where,
                        const char* code) {
    if (is_short_name(name)) return Status();
    return json::fail(scope, where, code,
                      {"is ", quoted(name), "; expected a short name such as ", quoted(example)});
}

Status check_short_names(Scope& scope, View<std::string_view> names, std::string_view example,
                         const json::Where& where, const char* code) {
    Array<std::string_view> sorted(scope.memory);
    for (std::string_view name : names) LDM_TRY(check_short_name(scope, name, example, where, code));
    LDM_NEED(scope, sorted.append(names));
    std::sort(sorted.begin(), sorted.end());
    const std::string_view* twice = std::adjacent_find(sorted.begin(), sorted.end());
    if (twice == sorted.end()) return Status();
    return json::fail(scope, where, code, {"has ", quoted(*twice), " twice; expected each once"});
}

bool is_engine_name(std::string_view name) {
    std::size_t colon = name.find(':');
    if (colon == std::string_view::npos) return is_short_name(name);
    return is_short_name(name.substr(0, colon)) && is_short_name(name.substr(colon + 1));
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

Status check_span(Scope& scope, double value, std::int64_t low, std::int64_t high, const json::Where& where) {
    if (value >= static_cast<double>(low) && value <= static_cast<double>(high)) return Status();
    return json::fail(scope, where, codes::manifest_range,
                      {"is ", exactly(value), "; expected ", low, " to ", high});
}

Status check_amount(Scope& scope, double value, const json::Where& where) {
    constexpr std::int64_t most = 1000000000000;  // of an error that was measured
    return check_span(scope, value, 0, most, where);
}

Piece shown(const Dim& dim) { return dim.is_named ? quoted(dim.axis) : Piece(dim.size); }

void add_names(Failure& failure, View<std::string_view> names) {
    if (names.empty()) failure.add({"nothing"});
    for (const std::string_view& name : names) failure.add({&name == names.begin() ? "" : ", ", name});
}

}  // namespace ldm
