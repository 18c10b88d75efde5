// Reading JSON into structs: every kind of field, and each refusal with its code and place.
#include "core/json/fields.h"

#include <string>

#include "tests/check.h"
#include "tests/failing_allocator.h"

using namespace ldm;

namespace ldm::example {

enum class Colour { red, blue };

constexpr std::string_view colour_names[] = {"red", "blue"};
constexpr json::Choices choices(Colour) { return colour_names; }

struct Point {
    std::int64_t x = 0;
    double y = 0.0;
};

template <typename Visitor>
void fields(Visitor& visit, Point& it) {
    visit("x", it.x);
    visit("y", it.y);
}

// A size or the name of one.
struct Size {
    std::int64_t number = 0;
    std::string_view name;
};

Status read(json::Reader& reader, const json::Value& value, const json::Where& where, Size& out) {
    if (value.kind == json::Kind::text) return json::read(reader, value, where, out.name);
    return json::read(reader, value, where, out.number);
}

struct Drawing {
    std::string_view name;
    bool is_open = false;
    Colour colour = Colour::red;
    std::optional<Point> centre;
    View<Point> points;
    View<Size> sizes;
    json::Map<Point> places;
    const json::Value* extra = nullptr;
    std::int64_t version = 7;
};

template <typename Visitor>
void fields(Visitor& visit, Drawing& it) {
    visit("name", it.name);
    visit("is_open", it.is_open);
    visit("colour", it.colour);
    visit("centre", it.centre);
    visit("points", it.points);
    visit("sizes", it.sizes);
    visit("places", it.places);
    visit("extra", it.extra);
    visit.optional("version", it.version);
}

}  // namespace ldm::example

using example::Drawing;

static const std::string whole =
    R"({"name": "a", "is_open": true, "colour": "blue", "centre": null, "points": [{"y": 1, "x": 2}],)"
    R"( "sizes": [3, "w"],)"
    R"( "places": {"to": {"x": 1, "y": 0.5}, "from": {"x": 3, "y": 0}, "at": {"x": 4, "y": 0}}, "extra": [1, {}]})";

static Status read_text(Scope& scope, Arena& arena, std::string_view text, Drawing& out) {
    auto* value = arena.make<json::Value>();
    LDM_NEED(scope, value != nullptr);
    LDM_TRY(json::parse(scope, arena, text, "test.json", *value));
    json::Reader reader{scope, arena};
    json::Where where("test.json", "drawing");
    return read(reader, *value, where, out);
}

static void every_kind_of_field_is_read() {
    Allocator memory = system_allocator();
    Failure failure;
    Scope scope{memory, failure};
    Arena arena(memory);
    Drawing read;
    if (!CHECK(read_text(scope, arena, whole, read).ok())) return;
    CHECK(read.name == "a" && read.is_open && read.colour == example::Colour::blue && !read.centre.has_value());
    CHECK(read.points.size == 1 && read.points[0].x == 2 && read.points[0].y == 1.0);
    CHECK(read.sizes.size == 2 && read.sizes[0].number == 3 && read.sizes[1].name == "w");
    CHECK(read.places.size() == 3 && read.places.entries[0].key == "to" && read.places.find("from")->x == 3);
    CHECK(read.places.find("fro") == nullptr && read.places.place_of("at") == 2);
    CHECK(read.extra->items.size == 2 && read.version == 7);
    CHECK(json::shared_keys<example::Point>(*read.extra) == 0);
}

// `from` in the text above becomes `to`.
static void refused(std::string_view from, std::string_view to, const char* code, std::string_view sentence) {
    Allocator memory = system_allocator();
    Failure failure;
    Scope scope{memory, failure};
    Arena arena(memory);
    Drawing read;
    std::string text = whole;
    text.replace(text.find(from), from.size(), to);
    Status status = read_text(scope, arena, text, read);
    bool as_expected = !status.ok() && std::string_view(status.code()) == code && failure.text == sentence;
    if (!CHECK(as_expected)) std::fprintf(stderr, "  %s: %s\n", status.ok() ? "accepted" : status.code(), failure.text);
}

int main() {
    every_kind_of_field_is_read();
    refused("\"is_open\"", "\"open\"", codes::json_unknown_key,
            "test.json: drawing has the unknown key 'open'; known here: name, is_open, colour, centre, points, sizes, "
            "places, extra, version");
    refused("\"is_open\": true,", "", codes::json_missing_key, "test.json: drawing lacks the key 'is_open'");
    refused("\"x\": 2", "\"z\": 2", codes::json_unknown_key,
            "test.json: drawing.points[0] has the unknown key 'z'; known here: x, y");
    refused("\"x\": 2", "\"x\": 2.0", codes::json_type, "test.json: drawing.points[0].x must be an integer; got 2.0");
    refused("\"x\": 2", "\"x\": true", codes::json_type, "test.json: drawing.points[0].x must be an integer; got true");
    refused("true", "1", codes::json_type, "test.json: drawing.is_open must be true or false; got 1");
    refused("\"a\"", "null", codes::json_type, "test.json: drawing.name must be a string; got null");
    refused("0.5", "\"0.5\"", codes::json_type, "test.json: drawing.places['to'].y must be a number; got \"0.5\"");
    refused("0.5", "1" + std::string(400, '0'), codes::json_number,
            "test.json: drawing.places['to'].y is too large for a float64");
    refused("\"blue\"", "\"green\"", codes::json_type,
            "test.json: drawing.colour must be one of red, blue; got \"green\"");
    refused("\"blue\"", "{}", codes::json_type, "test.json: drawing.colour must be one of red, blue; got {}");
    refused("[3, \"w\"]", "{}", codes::json_type, "test.json: drawing.sizes must be a list; got {}");
    refused("[3, \"w\"]", "[3, []]", codes::json_type, "test.json: drawing.sizes[1] must be an integer; got []");
    refused("null", "[]", codes::json_type, "test.json: drawing.centre must be an object; got []");
    check_every_allocation("a drawing", [](Scope& its) {
        Arena arena(its.memory);
        Drawing read;
        return read_text(its, arena, whole, read);
    });
    return done();
}
