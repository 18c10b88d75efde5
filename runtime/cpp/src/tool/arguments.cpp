#include "src/tool/arguments.h"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <limits>

namespace ldm::tool {

namespace {

constexpr std::string_view digits = "0123456789";

const Option* find(const Verb& verb, std::string_view name) {
    const Option* end = verb.options + verb.option_count;
    const Option* found = std::find_if(verb.options, end, [=](const Option& option) { return option.name == name; });
    return found == end ? nullptr : found;
}

// A number in decimal digits that is the whole text. No hexadecimal, no infinity, no space.
template <typename T>
bool whole(std::string_view text, T& out) {
    std::string_view unsigned_text = text.substr(!text.empty() && text.front() == '-' ? 1 : 0);
    if (unsigned_text.empty() || digits.find(unsigned_text.front()) == std::string_view::npos) return false;
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
    return error == std::errc() && end == text.data() + text.size();
}

template <typename First, typename Second>
bool both(std::string_view text, std::string_view between, First& first, Second& second) {
    std::size_t at = text.find_first_of(between);
    if (at == std::string_view::npos) return false;
    return whole(text.substr(0, at), first) && whole(text.substr(at + 1), second);
}

// How many letters have to be added, left out or changed to make one word of another.
std::size_t distance(std::string_view from, std::string_view to) {
    std::vector<std::size_t> row(to.size() + 1);
    for (std::size_t column = 0; column < row.size(); ++column) row[column] = column;
    for (std::size_t line = 1; line <= from.size(); ++line) {
        std::size_t before = row[0];
        row[0] = line;
        for (std::size_t column = 1; column < row.size(); ++column) {
            std::size_t changed = before + (from[line - 1] == to[column - 1] ? 0 : 1);
            before = row[column];
            row[column] = std::min({row[column] + 1, row[column - 1] + 1, changed});
        }
    }
    return row.back();
}

}  // namespace

std::string_view nearest(std::string_view word, const std::vector<std::string_view>& names) {
    std::string_view best;
    std::size_t least = word.size() / 3 + 1;  // more would be another word
    for (std::string_view name : names) {
        std::size_t its = distance(word, name);
        if (its < least) {
            best = name;
            least = its;
        }
    }
    return best;
}

bool Arguments::fail(std::string sentence) {
    error_ = std::move(sentence);
    return false;
}

bool Arguments::refuse(std::string_view name, std::string_view value, std::string_view expected) {
    return fail(std::string(name) + " got '" + std::string(value) + "', expected " + std::string(expected));
}

bool Arguments::read(const Verb& verb, int count, char** given) {
    for (int index = 0; index < count; ++index) {
        std::string_view word = given[index];
        if (word == "--help" || word == "-h") {
            wants_help_ = true;
            return true;
        }
        if (word.size() > 1 && word.front() == '-') {
            if (!read_option(verb, count, given, index)) return false;
        } else if (place_.empty()) {
            place_ = word;
        } else {
            return fail("there is an argument too many: '" + std::string(word) + "', beside the package " + place_);
        }
    }
    return true;
}

bool Arguments::read_option(const Verb& verb, int count, char** given, int& index) {
    std::string_view word = given[index];
    std::size_t equals = word.find('=');
    std::string name(word.substr(0, equals));
    const Option* option = find(verb, name);
    if (option == nullptr) {
        std::vector<std::string_view> names;
        for (std::size_t each = 0; each < verb.option_count; ++each) names.push_back(verb.options[each].name);
        std::string_view meant = nearest(name, names);
        std::string asks = meant.empty() ? "" : " (did you mean " + std::string(meant) + "?)";
        return fail("there is no option " + name + asks + "; see `ldm " + std::string(verb.name) + " --help`");
    }
    bool is_switch = option->value.empty(), has_value = equals != std::string_view::npos;
    if (is_switch && has_value) return fail(name + " takes no value");
    const char* value = has_value ? given[index] + equals + 1 : is_switch ? "" : nullptr;
    if (value == nullptr && index + 1 < count) value = given[++index];
    if (value == nullptr) return fail(name + " needs a value: " + name + " " + std::string(option->value));
    given_.push_back({option->name, value});
    return true;
}

const char* Arguments::text(std::string_view name) const {
    std::vector<const char*> all = texts(name);
    return all.empty() ? nullptr : all.back();
}

std::vector<const char*> Arguments::texts(std::string_view name) const {
    std::vector<const char*> all;
    for (const Given& each : given_) {
        if (each.name == name) all.push_back(each.value);
    }
    return all;
}

bool Arguments::integer(std::string_view name, std::int32_t low, std::int32_t& out) {
    constexpr std::int32_t high = std::numeric_limits<std::int32_t>::max();
    std::int32_t value = 0;
    if (!has(name)) return true;
    if (!whole(std::string_view(text(name)), value) || value < low) {
        return refuse(name, text(name), "an integer from " + std::to_string(low) + " to " + std::to_string(high));
    }
    out = value;
    return true;
}

bool Arguments::path(std::string_view name) {
    return !has(name) || text(name)[0] != '\0' || fail(std::string(name) + " is ''; expected a path");
}

bool Arguments::natural(std::string_view name, std::uint64_t& out) {
    if (!has(name)) return true;
    return whole(std::string_view(text(name)), out) ||
           refuse(name, text(name), "an integer from 0 to 18446744073709551615");
}

bool Arguments::real(std::string_view name, double& out) {
    if (!has(name)) return true;
    return whole(std::string_view(text(name)), out) || refuse(name, text(name), "a decimal number, such as 7.5");
}

bool Arguments::size(std::string_view name, std::int32_t& width, std::int32_t& height) {
    if (!has(name)) return true;
    bool fits = both(text(name), "xX", width, height) && width > 0 && height > 0;
    return fits || refuse(name, text(name), "WIDTHxHEIGHT in pixels, such as 512x512");
}

bool Arguments::corner(std::string_view name, std::int32_t& top, std::int32_t& left) {
    if (!has(name)) return true;
    bool fits = both(text(name), ":", top, left) && top >= 0 && left >= 0;
    return fits || refuse(name, text(name), "TOP:LEFT in pixels, such as 0:128");
}

bool Arguments::reals(std::string_view name, double& first, double& second) {
    if (!has(name)) return true;
    return both(text(name), ":", first, second) ||
           refuse(name, text(name), "two numbers with a colon between, such as 0.2:0.8");
}

bool Arguments::seed_and_share(std::string_view name, std::uint64_t& seed, double& share) {
    if (!has(name)) return true;
    return both(text(name), ":", seed, share) || refuse(name, text(name), "SEED:STRENGTH, such as 7:0.2");
}

bool Arguments::choice(std::string_view name, const std::vector<std::string_view>& choices, std::int32_t& out) {
    if (!has(name)) return true;
    auto found = std::find(choices.begin(), choices.end(), text(name));
    if (found != choices.end()) {
        out = static_cast<std::int32_t>(found - choices.begin());
        return true;
    }
    std::string all;
    for (std::string_view each : choices) all += (all.empty() ? "" : ", ") + std::string(each);
    return refuse(name, text(name), "one of " + all);
}

void print_help(const Verb& verb) {
    auto text = [](std::string_view view) { std::fwrite(view.data(), 1, view.size(), stdout); };
    text("usage: ldm ");
    text(verb.name);
    text(" PACKAGE [OPTIONS]\n\n");
    text(verb.help);
    text("\n\n    ");
    text(verb.example);
    text("\n\n");
    for (std::size_t index = 0; index < verb.option_count; ++index) {
        const Option& option = verb.options[index];
        std::string left =
            "  " + std::string(option.name) + (option.value.empty() ? "" : " ") + std::string(option.value);
        left.resize(left.size() < 34 ? 34 : left.size() + 1, ' ');
        text(left);
        text(option.help);
        text("\n");
    }
}

}  // namespace ldm::tool
