#include "src/tool/arguments.h"

#include <charconv>
#include <cstdio>
#include <cstring>

namespace ldm::tool {

namespace {

const Option* find(const Verb& verb, std::string_view name) {
    for (std::size_t index = 0; index < verb.option_count; ++index) {
        if (verb.options[index].name == name) return &verb.options[index];
    }
    return nullptr;
}

// A number that is the whole text.
template <typename T>
bool whole(std::string_view text, T& out) {
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
    return error == std::errc() && end == text.data() + text.size();
}

template <typename First, typename Second>
bool both(std::string_view text, char between, First& first, Second& second) {
    std::size_t at = text.find(between);
    if (at == std::string_view::npos) return false;
    return whole(text.substr(0, at), first) && whole(text.substr(at + 1), second);
}

}  // namespace

bool Arguments::read(const Verb& verb, int count, char** given) {
    for (int index = 0; index < count; ++index) {
        std::string_view word = given[index];
        if (word.substr(0, 2) != "--") {
            if (verb.place.empty() || !place_.empty()) {
                error_ = "there is an argument too many: '" + std::string(word) + "'; see `ldm " + std::string(verb.name) + " --help`";
                return false;
            }
            place_ = word;
            continue;
        }
        std::size_t equals = word.find('=');
        const Option* option = find(verb, word.substr(0, equals));
        if (option == nullptr) {
            error_ = "there is no option " + std::string(word) + "; see `ldm " + std::string(verb.name) + " --help`";
            return false;
        }
        const char* value = equals == std::string_view::npos ? nullptr : given[index] + equals + 1;
        bool is_switch = option->value.empty();
        if (is_switch && value == nullptr) value = "";
        if (!is_switch && value == nullptr && index + 1 < count) value = given[++index];
        if (value == nullptr || (is_switch && value[0] != '\0')) {
            error_ = std::string(option->name) + (is_switch ? " takes no value" : " needs a value");
            return false;
        }
        given_.push_back({option->name, value});
    }
    return true;
}

const char* Arguments::text(std::string_view name) const {
    const char* last = nullptr;
    for (const Given& each : given_) {
        if (each.name == name) last = each.value;
    }
    return last;
}

bool Arguments::refuse(std::string_view name, std::string_view expected) {
    error_ = std::string(name) + " is '" + text(name) + "'; expected " + std::string(expected);
    return false;
}

bool Arguments::integer(std::string_view name, std::int64_t low, std::int64_t high, std::int32_t& out) {
    std::int64_t value = 0;
    if (!has(name)) return true;
    if (!whole(std::string_view(text(name)), value) || value < low || value > high) {
        return refuse(name, "an integer from " + std::to_string(low) + " to " + std::to_string(high));
    }
    out = static_cast<std::int32_t>(value);
    return true;
}

bool Arguments::natural(std::string_view name, std::uint64_t& out) {
    if (!has(name)) return true;
    return whole(std::string_view(text(name)), out) || refuse(name, "an integer from 0 to 18446744073709551615");
}

bool Arguments::real(std::string_view name, double& out) {
    if (!has(name)) return true;
    return whole(std::string_view(text(name)), out) || refuse(name, "a number");
}

bool Arguments::pair(std::string_view name, char between, std::int32_t& first, std::int32_t& second) {
    if (!has(name)) return true;
    bool fits = both(text(name), between, first, second) && first >= 0 && second >= 0;
    return fits || refuse(name, between == 'x' ? "a width and a height, such as 512x512" : "two integers, such as 0:0");
}

bool Arguments::reals(std::string_view name, double& first, double& second) {
    if (!has(name)) return true;
    return both(text(name), ':', first, second) || refuse(name, "two numbers, such as 0.2:0.8");
}

bool Arguments::seed_and_share(std::string_view name, std::uint64_t& seed, double& share) {
    if (!has(name)) return true;
    return both(text(name), ':', seed, share) || refuse(name, "a seed and a share, such as 7:0.2");
}

void print_help(const Verb& verb) {
    auto text = [](std::string_view view) { std::fwrite(view.data(), 1, view.size(), stdout); };
    text("usage: ldm ");
    text(verb.name);
    if (!verb.place.empty()) text(" "), text(verb.place);
    text(" [OPTIONS]\n\n");
    text(verb.help);
    text("\n\n    ");
    text(verb.example);
    text("\n\n");
    for (std::size_t index = 0; index < verb.option_count; ++index) {
        const Option& option = verb.options[index];
        std::string left = "  " + std::string(option.name) + (option.value.empty() ? "" : " ") + std::string(option.value);
        left.resize(left.size() < 34 ? 34 : left.size() + 1, ' ');
        text(left);
        text(option.help);
        text("\n");
    }
}

}  // namespace ldm::tool
