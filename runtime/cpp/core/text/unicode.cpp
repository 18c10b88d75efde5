#include "core/text/unicode.h"

#include <algorithm>
#include <iterator>

#include "core/text/unicode_tables.h"
#include "core/text/utf8.h"

namespace ldm::unicode {

namespace {

// Hangul is decomposed and composed by arithmetic: Unicode, section 3.12.
constexpr char32_t syllables = 0xAC00, leads = 0x1100, vowels = 0x1161, trails = 0x11A7;
constexpr char32_t lead_count = 19, vowel_count = 21, trail_count = 28;
constexpr char32_t syllable_count = lead_count * vowel_count * trail_count;

const Record& record(char32_t point) {
    std::size_t block = std::min(static_cast<std::size_t>(point) / block_size, blocks - 1);
    return records[record_of[block_of[block] * block_size + point % block_size]];
}

bool is_syllable(char32_t point) { return point - syllables < syllable_count; }

// A character on its way through the normal form.
struct Point {
    char32_t point;
    std::uint32_t origin;
    std::uint32_t order;  // among its neighbours, where marks are sorted
    std::uint32_t place;  // the origin of what stood here before
};

const Pair* find_pair(char32_t point) {
    if ((record(point).flags & has_pair) == 0) return nullptr;
    return std::lower_bound(pairs, pairs + pair_count, point,
                            [](const Pair& pair, char32_t wanted) { return pair.point < wanted; });
}

char32_t compose(char32_t first, char32_t second) {
    if (first - leads < lead_count && second - vowels < vowel_count) {
        return syllables + ((first - leads) * vowel_count + (second - vowels)) * trail_count;
    }
    bool has_no_trail = is_syllable(first) && (first - syllables) % trail_count == 0;
    if (has_no_trail && second > trails && second < trails + trail_count) return first + (second - trails);
    if ((record(first).flags & is_first) == 0 || (record(second).flags & is_second) == 0) return 0;
    auto below = [=](std::uint16_t place, int) {
        return pairs[place].first != first ? pairs[place].first < first : pairs[place].second < second;
    };
    const std::uint16_t* found = std::lower_bound(composed, composed + composed_count, 0, below);
    bool fits = found != composed + composed_count && pairs[*found].first == first && pairs[*found].second == second;
    return fits ? static_cast<char32_t>(pairs[*found].point) : 0;
}

bool may_change(char32_t point) {
    if (point < 0x300) return (record(point).flags & has_pair) != 0;
    const Record& its = record(point);
    return its.combining != 0 || (its.flags & (has_pair | is_second)) != 0 || is_syllable(point) ||
           point - leads < 0x100;
}

bool decompose(Array<Point>& out, char32_t point, std::uint32_t origin) {
    if (is_syllable(point)) {
        char32_t index = point - syllables, trail = index % trail_count;
        return out.push({leads + index / (vowel_count * trail_count), origin, 0, 0}) &&
               out.push({vowels + index / trail_count % vowel_count, origin, 0, 0}) &&
               (trail == 0 || out.push({trails + trail, origin, 0, 0}));
    }
    char32_t behind[8];  // second characters, the last one first
    std::size_t count = 0;
    for (const Pair* pair = find_pair(point); pair != nullptr && count < 8; pair = find_pair(point)) {
        if (pair->second != 0) behind[count++] = pair->second;
        point = pair->first;
    }
    if (!out.push({point, origin, 0, 0})) return false;
    while (count > 0) {
        if (!decompose(out, behind[--count], origin)) return false;  // no second one goes deeper than one level
    }
    return true;
}

// Sort each run of marks by its classes; equal ones stay in order. Places keep their origin, as in the library.
void order_marks(Array<Point>& points) {
    for (std::size_t start = 0; start < points.size();) {
        std::size_t end = start;
        while (end < points.size() && record(points[end].point).combining != 0) {
            points[end].order = static_cast<std::uint32_t>(end);
            ++end;
        }
        std::sort(points.data() + start, points.data() + end, [](const Point& a, const Point& b) {
            auto first = record(a.point).combining, second = record(b.point).combining;
            return first != second ? first < second : a.order < b.order;
        });
        for (std::size_t index = start; index < end; ++index) points[points[index].order].place = points[index].origin;
        for (std::size_t index = start; index < end; ++index) points[index].origin = points[index].place;
        start = end + 1;
    }
}

void compose_all(Array<Point>& points) {
    constexpr std::size_t none = static_cast<std::size_t>(-1);
    std::size_t starter = none, kept = 0;
    std::uint8_t before = 0;  // the class of the last one that was kept
    for (std::size_t index = 0; index < points.size(); ++index) {
        Point each = points[index];
        std::uint8_t combining = record(each.point).combining;
        if (starter != none && (kept == starter + 1 || before < combining)) {
            char32_t joined = compose(points[starter].point, each.point);
            if (joined != 0) {
                points[starter].point = joined;
                continue;
            }
        }
        if (combining == 0) starter = kept;
        before = combining;
        points[kept++] = each;
    }
    points.shrink(kept);
}

Status put(Scope& scope, Normal& out, char32_t point, std::uint32_t origin) {
    char bytes[4];
    std::size_t count = utf8::encode(point, bytes);
    LDM_NEED(scope, out.text.append(bytes, count));
    for (std::size_t index = 0; index < count; ++index) LDM_NEED(scope, out.origin.push(origin));
    return Status();
}

}  // namespace

Character kind(char32_t point) {
    std::uint8_t flags = record(point).flags;
    if ((flags & letter) != 0) return Character::letter;
    if ((flags & number) != 0) return Character::number;
    return (flags & space) != 0 ? Character::space : Character::other;
}

bool is_word(char32_t point) { return (record(point).flags & word) != 0; }

bool is_python_word(char32_t point) { return point == '_' || (record(point).flags & (letter | number)) != 0; }

// Of the numbers, word characters are decimal digits and those of category Nl, which are few.
bool is_decimal_digit(char32_t point) {
    struct Range {
        char32_t first, last;
    };
    static constexpr Range letter_numbers[] = {
        {0x16EE, 0x16F0},   {0x2160, 0x2188},   {0x3007, 0x3007},   {0x3021, 0x3029},   {0x3038, 0x303A},
        {0xA6E6, 0xA6EF},   {0x10140, 0x10174}, {0x10341, 0x10341}, {0x1034A, 0x1034A}, {0x103D1, 0x103D5},
        {0x12400, 0x1246E},
    };
    if ((record(point).flags & number) == 0 || (record(point).flags & word) == 0) return false;
    return std::none_of(std::begin(letter_numbers), std::end(letter_numbers),
                        [point](const Range& range) { return point >= range.first && point <= range.last; });
}

bool is_python_space(char32_t point) { return kind(point) == Character::space || (point >= 0x1C && point < 0x20); }

Status normalise(Scope& scope, std::string_view text, Normal& out) {
    Array<Point> points(scope.memory);
    LDM_NEED(scope, points.reserve(text.size()));
    bool changes = false;
    for (std::size_t at = 0; at < text.size();) {
        utf8::Character read = utf8::next(text.substr(at));
        changes = changes || may_change(read.point);
        LDM_NEED(scope, points.push({read.point, static_cast<std::uint32_t>(at), 0, 0}));
        at += read.bytes;
    }
    if (changes) {
        Array<Point> apart(scope.memory);
        LDM_NEED(scope, apart.reserve(points.size()));
        for (const Point& each : points) LDM_NEED(scope, decompose(apart, each.point, each.origin));
        order_marks(apart);
        compose_all(apart);
        points = static_cast<Array<Point>&&>(apart);
    }
    out.text.shrink(0);
    out.origin.shrink(0);
    LDM_NEED(scope, out.text.reserve(text.size()) && out.origin.reserve(text.size()));
    bool was_space = false;
    for (const Point& each : points) {
        const Record& its = record(each.point);
        bool is_space = (its.flags & space) != 0;
        if (is_space) {
            if (!was_space) LDM_TRY(put(scope, out, ' ', each.origin));
        } else if ((its.flags & long_lower) != 0) {
            LDM_TRY(put(scope, out, 'i', each.origin));
            LDM_TRY(put(scope, out, 0x307, each.origin));
        } else {
            LDM_TRY(put(scope, out, each.point + static_cast<char32_t>(its.lower), each.origin));
        }
        was_space = is_space;
    }
    return Status();
}

}  // namespace ldm::unicode
