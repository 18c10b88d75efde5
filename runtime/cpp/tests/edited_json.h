// The edits of packages.json that concern manifest.json, applied to its text.
#ifndef LDM_TESTS_EDITED_JSON_H
#define LDM_TESTS_EDITED_JSON_H

#include <charconv>
#include <cstdio>
#include <string>
#include <string_view>

#include "core/json/json.h"
#include "tests/check.h"
#include "tests/splices.h"

// Where a value is replaced on the way down.
struct JsonEdit {
    const ldm::json::Value* path;
    const ldm::json::Value* value;
};

inline void write_text(std::string_view text, std::string& out) {
    out += '"';
    for (char byte : text) {
        char escaped[8];
        bool is_plain = static_cast<unsigned char>(byte) >= 0x20 && byte != '"' && byte != '\\';
        if (is_plain) {
            out += byte;
        } else {
            std::snprintf(escaped, sizeof escaped, "\\u%04x", static_cast<unsigned>(byte));
            out += escaped;
        }
    }
    out += '"';
}

// `depth`: how many keys of the edit's path lead here; none where its path has been left.
inline void write_json(const ldm::json::Value& value, const JsonEdit* edit, std::size_t depth, std::string& out) {
    using ldm::json::Kind;
    if (edit != nullptr && depth == edit->path->items.size) return write_json(*edit->value, nullptr, 0, out);
    const ldm::json::Value* next = edit == nullptr ? nullptr : &edit->path->items[depth];
    char digits[40];
    switch (value.kind) {
        case Kind::null: out += "null"; return;
        case Kind::boolean: out += value.boolean ? "true" : "false"; return;
        case Kind::integer: out += std::to_string(value.integer); return;
        case Kind::real: {
            std::string_view text(
                digits, static_cast<std::size_t>(std::to_chars(digits, digits + 40, value.real).ptr - digits));
            out += text;
            if (text.find_first_of(".e") == std::string_view::npos) out += ".0";
            return;
        }
        case Kind::text: return write_text(value.text, out);
        case Kind::list:
            out += '[';
            for (std::size_t index = 0; index < value.items.size; ++index) {
                bool leads = next != nullptr && next->integer == static_cast<std::int64_t>(index);
                if (index > 0) out += ", ";
                write_json(value.items[index], leads ? edit : nullptr, depth + 1, out);
            }
            out += ']';
            return;
        case Kind::object: break;
    }
    out += '{';
    for (const ldm::json::Member& member : value.members) {
        if (&member != value.members.begin()) out += ", ";
        write_text(member.key, out);
        out += ": ";
        write_json(member.value, next != nullptr && next->text == member.key ? edit : nullptr, depth + 1, out);
    }
    if (next != nullptr && depth + 1 == edit->path->items.size && value.find(next->text) == nullptr) {
        out += value.members.empty() ? "" : ", ";
        write_text(next->text, out);
        out += ": ";
        write_json(*edit->value, nullptr, 0, out);
    }
    out += '}';
}

// Apply edits to a manifest's text; false where one concerns another file.
inline bool apply_edits(const ldm::json::Value& edits, std::string& text) {
    for (const ldm::json::Value& each : edits.items) {
        std::string_view what = each.find("do")->text;
        const ldm::json::Value* file = each.find("file");
        if (what == "delete" || what == "rehash" || (file != nullptr && file->text != "manifest.json")) return false;
        if (what == "write") {
            const ldm::json::Value* hex = each.find("hex");
            text = hex == nullptr ? std::string(each.find("text")->text)
                                  : Splice("0 0 " + std::string(hex->text) + " ").inserted;
            continue;
        }
        CHECK(what == "set");
        ldm::Allocator memory = ldm::system_allocator();
        ldm::Failure failure;
        ldm::Scope scope{memory, failure};
        ldm::Arena arena(memory);
        ldm::json::Value whole;
        CHECK(ldm::json::parse(scope, arena, text, "manifest.json", whole).ok());
        JsonEdit edit{each.find("path"), each.find("value")};
        std::string out;
        write_json(whole, &edit, 0, out);
        text = out;
    }
    return true;
}

#endif
