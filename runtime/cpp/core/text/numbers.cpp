#include "core/text/numbers.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

namespace ldm::numbers {

namespace {

constexpr int first_exponential = 16, last_exponential = -5;  // powers of ten that Python's repr writes with an e

void put(Spelt& out, std::string_view part) {
    std::size_t count = std::min(part.size(), sizeof out.text - out.size);
    if (count > 0) std::memcpy(out.text + out.size, part.data(), count);
    out.size += count;
}

void put_zeros(Spelt& out, int count) {
    for (; count > 0; --count) put(out, "0");
}

bool is_digit(char byte) { return byte >= '0' && byte <= '9'; }

Spelt general(double value, int digits) {
    Spelt spelt;
    char* last =
        std::to_chars(spelt.text, spelt.text + sizeof spelt.text, value, std::chars_format::general, digits).ptr;
    spelt.size = static_cast<std::size_t>(last - spelt.text);
    return spelt;
}

// The power of ten of a number's first digit that is not 0, as 2 of "0123" and -3 of ".001"; far from 0 beyond a
// float's. digits: those before the exponent, with a point; one of them is not 0.
std::int64_t magnitude(std::string_view digits, std::string_view exponent) {
    constexpr std::int64_t immense = std::int64_t{1} << 62;
    std::size_t point = std::min(digits.find('.'), digits.size()), first = digits.find_first_of("123456789");
    auto place = static_cast<std::int64_t>(point) - static_cast<std::int64_t>(first) - (first < point);
    if (exponent.empty()) return place;
    exponent.remove_prefix(exponent[1] == '+' ? 2 : 1);
    std::int64_t shift = 0;
    auto read = std::from_chars(exponent.data(), exponent.data() + exponent.size(), shift);
    if (read.ec == std::errc::result_out_of_range) shift = exponent.front() == '-' ? -immense : immense;
    return shift + place;
}

}  // namespace

Spelt shortest(double value) {
    Spelt spelt;
    char* last = std::to_chars(spelt.text, spelt.text + sizeof spelt.text, value, std::chars_format::scientific).ptr;
    spelt.size = static_cast<std::size_t>(last - spelt.text);
    if (!std::isfinite(value)) return spelt;
    std::string_view all = spelt.view();
    std::size_t sign = all.front() == '-', mark = all.find('e');
    int exponent = 0;
    std::from_chars(spelt.text + mark + 1 + (all[mark + 1] == '+'), last, exponent);
    if (exponent >= first_exponential || exponent <= last_exponential) return spelt;

    char digits[24];
    std::size_t count = 0;
    for (char byte : all.substr(sign, mark - sign)) {
        if (byte != '.') digits[count++] = byte;
    }
    Spelt out;
    put(out, all.substr(0, sign));
    auto whole = static_cast<std::size_t>(std::max(exponent + 1, 0));  // digits before the point
    if (whole == 0) put(out, "0");
    put(out, {digits, std::min(whole, count)});
    put_zeros(out, static_cast<int>(whole) - static_cast<int>(count));
    put(out, ".");
    put_zeros(out, -1 - exponent);
    put(out, whole < count ? std::string_view(digits + whole, count - whole) : "0");
    return out;
}

Spelt rounded(double value) { return general(value, 9); }

Spelt exact(double value) { return general(value, 17); }

bool read(std::string_view text, double& out) {
    constexpr double infinity = std::numeric_limits<double>::infinity();
    bool is_negative = !text.empty() && text.front() == '-';
    if (is_negative || (!text.empty() && text.front() == '+')) text.remove_prefix(1);
    if (text == "inf") {
        out = is_negative ? -infinity : infinity;
        return true;
    }
    if (text.empty() || !(is_digit(text.front()) || text.front() == '.')) return false;
    double value = 0.0;
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error == std::errc::invalid_argument || end != text.data() + text.size()) return false;
    if (error == std::errc::result_out_of_range) {
        std::size_t mark = std::min(text.find_first_of("eE"), text.size());
        value = magnitude(text.substr(0, mark), text.substr(mark)) < 0 ? 0.0 : infinity;
    }
    out = is_negative ? -value : value;
    return true;
}

}  // namespace ldm::numbers
