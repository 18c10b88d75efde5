#include "core/package/safetensors.h"

#include <algorithm>
#include <tuple>

#include "core/codes.h"
#include "core/package/file_rules.h"

namespace ldm {

namespace {

constexpr Dtype dtypes[dtype_count] = {{"F64", 8},     {"I64", 8},     {"F32", 4}, {"I32", 4}, {"F16", 2}, {"BF16", 2},
                                       {"F8_E4M3", 1}, {"F8_E5M2", 1}, {"I8", 1},  {"U8", 1},  {"BOOL", 1}};
constexpr std::string_view metadata_key = "__metadata__";
constexpr std::size_t max_rank = 32;
constexpr std::int64_t immense = 1'000'000'000'000'000'000;  // a place that no file has
constexpr std::uint64_t too_large = std::uint64_t{1} << 63;  // bytes

std::uint64_t length_of(View<unsigned char> beginning) {
    std::uint64_t length = 0;
    for (std::size_t index = 8; index-- > 0;) length = length << 8 | beginning[index];
    return length;
}

// The header's text, or what is wrong with the file instead.
Status find_text(Scope& scope, View<unsigned char> beginning, std::uint64_t file_size, std::string_view where,
                 std::string_view& out) {
    auto refuse = [&](std::initializer_list<Piece> what) {
        return json::fail(scope, json::Where(where), codes::weights_header, what);
    };
    LDM_TRY(refuse_lfs_stub(scope, beginning, where));
    if (file_size < 8 || beginning.size < 8)
        return refuse({"has ", file_size, " bytes, too few for a safetensors file"});
    std::uint64_t length = length_of(beginning);
    if (length > max_header_bytes) {
        return refuse({"is not a safetensors file: it claims a header of ", length, " bytes; allowed are ",
                       max_header_bytes});
    }
    if (8 + length > file_size || length > beginning.size - 8) {
        return refuse({"is truncated: its header should end at byte ", 8 + length, ", but it has ", file_size});
    }
    out = {reinterpret_cast<const char*>(beginning.data) + 8, static_cast<std::size_t>(length)};
    if (!out.empty() && out[0] == '{') return Status();
    return refuse({"is not a safetensors file: its header does not start with '{'"});
}

bool are_sizes(const json::Value* value) {
    return value != nullptr && value->kind == json::Kind::list && value->items.size <= max_rank &&
           std::all_of(value->items.begin(), value->items.end(), [](const json::Value& item) {
               return item.kind == json::Kind::integer && item.integer >= 0;
           });
}

// Reads the tensors of one header.
class HeaderReader {
public:
    HeaderReader(Scope& scope, Arena& arena, std::uint64_t file_size, std::string_view where)
        : scope_(scope), arena_(arena), file_size_(file_size), where_(where) {}

    Status read(const json::Value& header, std::uint64_t data_offset, SafetensorsHeader& out);

private:
    Status read_metadata(const json::Value& value, SafetensorsHeader& out);
    Status read_tensor(std::string_view name, const json::Value& value, std::uint64_t data_offset, TensorInfo& out);
    Status check_places(View<TensorInfo> tensors, std::uint64_t data_offset);
    Status refuse(std::string_view tensor, const char* code, std::initializer_list<Piece> what) {
        scope_.failure.set(code, {"tensor ", quoted(tensor), " in ", where_, " "});
        scope_.failure.add(what);
        return Status(code);
    }
    Status refuse_layout(std::initializer_list<Piece> what) {
        return json::fail(scope_, json::Where(where_), codes::weights_layout, what);
    }

    Scope& scope_;
    Arena& arena_;
    std::uint64_t file_size_;
    std::string_view where_;
};

Status HeaderReader::read(const json::Value& header, std::uint64_t data_offset, SafetensorsHeader& out) {
    auto* tensors = arena_.make<TensorInfo>(header.members.size);
    LDM_NEED(scope_, tensors != nullptr);
    std::size_t count = 0;
    const json::Value* metadata = header.find(metadata_key);
    if (metadata != nullptr) LDM_TRY(read_metadata(*metadata, out));
    for (const json::Member& member : header.members) {
        if (member.key == metadata_key) continue;
        LDM_TRY(read_tensor(member.key, member.value, data_offset, tensors[count++]));
    }
    std::sort(tensors, tensors + count, [](const TensorInfo& a, const TensorInfo& b) {
        return std::tie(a.offset, a.bytes, a.name) < std::tie(b.offset, b.bytes, b.name);
    });
    out.tensors = {tensors, count};
    out.data_offset = data_offset;
    return check_places(out.tensors, data_offset);
}

Status HeaderReader::read_metadata(const json::Value& value, SafetensorsHeader& out) {
    bool are_texts = value.kind == json::Kind::object &&
                     std::all_of(value.members.begin(), value.members.end(),
                                 [](const json::Member& member) { return member.value.kind == json::Kind::text; });
    if (!are_texts) {
        return scope_.fail(codes::weights_header, {metadata_key, " in ", where_, " should map strings to strings"});
    }
    json::Reader reader{scope_, arena_};
    return json::read(reader, value, json::Where(where_), out.metadata);
}

Status HeaderReader::read_tensor(std::string_view name, const json::Value& value, std::uint64_t data_offset,
                                 TensorInfo& out) {
    const json::Value *dtype = value.find("dtype"), *shape = value.find("shape"), *places = value.find("data_offsets");
    if (value.members.size != 3 || dtype == nullptr || shape == nullptr || places == nullptr) {
        return refuse(name, codes::weights_tensor, {"should have exactly the keys dtype, shape, data_offsets"});
    }
    const Dtype* known = dtype->kind == json::Kind::text ? find_dtype(dtype->text) : nullptr;
    if (known == nullptr) {
        return refuse(name, codes::weights_tensor,
                      {"has the dtype ", json::shown(*dtype), "; supported: ", dtype_names});
    }
    if (!are_sizes(shape)) {
        return refuse(name, codes::weights_tensor, {"has a shape that is not a list of sizes: ", json::shown(*shape)});
    }
    bool are_two = are_sizes(places) && places->items.size == 2;
    if (are_two && std::max(places->items[0].integer, places->items[1].integer) >= immense) {
        return refuse(name, codes::weights_tensor, {"has data_offsets beyond any file: ", json::shown(*places)});
    }
    if (!are_two || places->items[0].integer > places->items[1].integer) {
        return refuse(name, codes::weights_tensor,
                      {"has data_offsets that are not [begin, end]: ", json::shown(*places)});
    }
    std::uint64_t most = 8, needed = static_cast<std::uint64_t>(known->bytes);  // most: as if no size were 0
    auto* sizes = arena_.make<std::int64_t>(shape->items.size);
    LDM_NEED(scope_, sizes != nullptr);
    for (std::size_t index = 0; index < shape->items.size; ++index) {
        auto size = static_cast<std::uint64_t>(shape->items[index].integer);
        if (size > 1 && most > (too_large - 1) / size) {
            return refuse(name, codes::weights_tensor,
                          {"has the shape ", json::shown(*shape), ", larger than any memory"});
        }
        most *= size > 1 ? size : 1;
        needed *= size;
        sizes[index] = shape->items[index].integer;
    }
    auto begin = static_cast<std::uint64_t>(places->items[0].integer);
    auto end = static_cast<std::uint64_t>(places->items[1].integer);
    if (end - begin != needed) {
        return refuse(name, codes::weights_tensor,
                      {"is ", known->name, " ", json::shown(*shape), " and needs ", needed,
                       " bytes, but spans ", end - begin});
    }
    out = {name, known->name, {sizes, shape->items.size}, data_offset + begin, needed};
    return Status();
}

Status HeaderReader::check_places(View<TensorInfo> tensors, std::uint64_t data_offset) {
    std::uint64_t end = data_offset;
    for (const TensorInfo& tensor : tensors) {
        if (tensor.offset < end) return refuse(tensor.name, codes::weights_layout, {"overlaps the one before it"});
        if (tensor.offset > end) {
            return refuse_layout({"has a hole of ", tensor.offset - end, " bytes before tensor ", quoted(tensor.name)});
        }
        end += tensor.bytes;  // both below 2^63
    }
    if (end == file_size_) return Status();
    if (end > file_size_) {
        return refuse_layout({"is truncated: its tensors end at byte ", end, ", but it has ", file_size_});
    }
    return refuse_layout({"has ", file_size_ - end, " bytes after its last tensor"});
}

}  // namespace

const Dtype* find_dtype(std::string_view name) {
    auto has_name = [=](const Dtype& dtype) { return dtype.name == name; };
    const Dtype* found = std::find_if(std::begin(dtypes), std::end(dtypes), has_name);
    return found == std::end(dtypes) ? nullptr : found;
}

const TensorInfo* SafetensorsHeader::find(std::string_view name) const {
    auto has_name = [=](const TensorInfo& tensor) { return tensor.name == name; };
    const TensorInfo* found = std::find_if(tensors.begin(), tensors.end(), has_name);
    return found == tensors.end() ? nullptr : found;
}

std::uint64_t header_bytes(View<unsigned char> beginning, std::uint64_t file_size) {
    if (beginning.size < 8) return std::min<std::uint64_t>(file_size, lfs_stub_bytes);
    std::uint64_t length = length_of(beginning);
    std::uint64_t wanted =
        length > max_header_bytes ? lfs_stub_bytes : std::max<std::uint64_t>(8 + length, lfs_stub_bytes);
    return std::min(file_size, wanted);
}

Status read_header(Scope& scope, Arena& arena, View<unsigned char> beginning, std::uint64_t file_size,
                   std::string_view where, SafetensorsHeader& out) {
    out = SafetensorsHeader();
    std::string_view text;
    LDM_TRY(find_text(scope, beginning, file_size, where, text));
    json::Value header;
    Array<char> what(scope.memory);
    constexpr std::string_view header_of = "the safetensors header of ";
    LDM_NEED(scope, what.append(header_of.data(), header_of.size()) &&
                        what.append(where.data(), where.size()));
    LDM_TRY(json::parse(scope, arena, text, {what.data(), what.size()}, header));
    if (header.kind != json::Kind::object) {
        return scope.fail(codes::weights_header, {std::string_view(what.data(), what.size()), " is not a JSON object"});
    }
    return HeaderReader(scope, arena, file_size, where).read(header, 8 + text.size(), out);
}

}  // namespace ldm
