#include "core/sampling/solvers/options.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <utility>

#include "core/codes.h"

namespace ldm::sampling {

namespace {

constexpr std::size_t most_digits = 9;

template <typename T>
T load(const void* from) {
    T value;
    std::memcpy(&value, from, sizeof value);
    return value;
}

template <typename T>
bool store(void* to, T value) {
    std::memcpy(to, &value, sizeof value);
    return true;
}

bool read_integer(std::string_view text, int& out) {
    bool is_decimal = !text.empty() && text.size() <= most_digits &&
                      std::all_of(text.begin(), text.end(), [](char byte) { return byte >= '0' && byte <= '9'; });
    return is_decimal && std::from_chars(text.data(), text.data() + text.size(), out).ec == std::errc();
}

numbers::Spelt copied(std::string_view text) {
    numbers::Spelt out;
    out.size = std::min(text.size(), sizeof out.text);
    std::memcpy(out.text, text.data(), out.size);
    return out;
}

}  // namespace

bool Option::set(std::string_view text) {
    switch (kind_) {
        case Kind::boolean: return (text == "true" || text == "false") && store(value_, text == "true");
        case Kind::integer: {
            int value = 0;
            return read_integer(text, value) && value >= low_ && value <= high_ && store(value_, value);
        }
        case Kind::real: {
            double value = 0.0;
            return numbers::read(text, value) && value >= low_ && value <= high_ && store(value_, value);
        }
        case Kind::choice: break;
    }
    const std::string_view* found = std::find(names_.begin(), names_.end(), text);
    return found != names_.end() && store(value_, static_cast<int>(found - names_.begin()));
}

numbers::Spelt Option::spelt() const {
    switch (kind_) {
        case Kind::boolean: return copied(load<bool>(value_) ? "true" : "false");
        case Kind::real: return numbers::shortest(load<double>(value_));
        case Kind::choice: return copied(names_[static_cast<std::size_t>(load<int>(value_))]);
        case Kind::integer: break;
    }
    numbers::Spelt out;
    out.size =
        static_cast<std::size_t>(std::to_chars(out.text, out.text + sizeof out.text, load<int>(value_)).ptr - out.text);
    return out;
}

Status Option::refuse(Scope& scope, std::string_view sampler, std::string_view text) const {
    scope.failure.set(codes::request_sampler,
                      {"sampler ", quoted(sampler), ": ", name, " is ", quoted(text), ", expected "});
    if (kind_ == Kind::boolean) scope.failure.add({"true or false"});
    if (kind_ == Kind::integer) scope.failure.add({"an integer from ", low_, " to ", high_});
    if (kind_ == Kind::real) scope.failure.add({"a number from ", low_, " to ", high_});
    if (kind_ == Kind::choice) scope.failure.add({"one of "});
    for (const std::string_view& each : names_) scope.failure.add({&each == names_.begin() ? "" : ", ", each});
    return Status(codes::request_sampler);
}

Option& OptionList::push(std::string_view name, Option::Kind kind, void* value, double low, double high) {
    Option& option = options_[size_ < most ? size_++ : most - 1];
    option.name = name;
    option.kind_ = kind;
    option.value_ = value;
    option.low_ = low;
    option.high_ = high;
    return option;
}

Option* OptionList::find(std::string_view name) {
    Option* found = std::find_if(begin(), end(), [name](const Option& option) { return option.name == name; });
    return found == end() ? nullptr : found;
}

static Status refuse_unknown(Scope& scope, std::string_view sampler, std::string_view part, OptionList& options) {
    scope.failure.set(codes::request_sampler,
                      {"sampler ", quoted(sampler), ": ", quoted(part), " is none of its options; "});
    scope.failure.add({options.size() == 0 ? "it has none" : "expected "});
    for (Option& each : options) scope.failure.add({&each == options.begin() ? "" : ", ", each.name, "=…"});
    return Status(codes::request_sampler);
}

Status read_options(Scope& scope, std::string_view sampler, std::string_view text, OptionList& options) {
    bool given[OptionList::most] = {};
    for (bool more = !text.empty(); more;) {
        std::size_t comma = text.find(',');
        std::string_view part = text.substr(0, comma);
        more = comma != std::string_view::npos;
        text.remove_prefix(more ? comma + 1 : text.size());

        std::size_t equals = part.find('=');
        Option* option = equals == std::string_view::npos ? nullptr : options.find(part.substr(0, equals));
        if (option == nullptr) return refuse_unknown(scope, sampler, part, options);
        if (std::exchange(given[option - options.begin()], true)) {
            return scope.fail(codes::request_sampler,
                              {"sampler ", quoted(sampler), ": option ", quoted(option->name), " is given twice"});
        }
        std::string_view value = part.substr(equals + 1);
        if (!option->set(value)) return option->refuse(scope, sampler, value);
    }
    return Status();
}

}  // namespace ldm::sampling
