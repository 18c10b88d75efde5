#include "src/verify/tensor_file.h"

#include <algorithm>

#include "core/codes.h"
#include "core/package/file_rules.h"
#include "src/files/trouble.h"

namespace ldm::verify {

namespace {

engines::ElementType type_of(std::string_view dtype) {
    struct Type {
        std::string_view dtype;
        engines::ElementType type;
    };
    constexpr Type types[] = {{"F32", engines::ElementType::float32}, {"I64", engines::ElementType::int64},
                              {"I32", engines::ElementType::int32},   {"F16", engines::ElementType::float16},
                              {"F64", engines::ElementType::float64}};
    for (const Type& each : types) {
        if (each.dtype == dtype) return each.type;
    }
    return engines::ElementType::none;
}

}  // namespace

Words& add_list(Words& words, View<std::int64_t> shape) {
    words.add("[");
    for (std::size_t axis = 0; axis < shape.size; ++axis) words.add(axis == 0 ? "" : ", ", shape[axis]);
    return words.add("]");
}

Status TensorFile::refuse(Scope& scope, std::initializer_list<Piece> what) const {
    scope.failure.set(codes::proof_invalid, {path_.view()});
    scope.failure.add(what);
    return Status(codes::proof_invalid);
}

Status TensorFile::open(Scope& scope, const files::Path& path, std::string_view key, std::string_view what,
                        json::Value& out) {
    path_ = path;
    files::Answer answer = file_.open(path_, files::Links::follow);
    if (!answer.ok()) return files::unreadable(scope, path_, answer);
    LDM_TRY(read_header(scope));
    const std::string_view* text = tensors_.metadata.find(key);
    if (text == nullptr) {
        return refuse(scope,
                      {" has no '", key, "' in its metadata: it is not ", what, "; build the package again"});
    }
    Words where(scope.memory);
    LDM_TRY(where.add("the metadata of ", path_.view()).keep(scope, arena_, place_));
    return json::parse(scope, arena_, *text, place_, out);
}

// And sort its tensors by name.
Status TensorFile::read_header(Scope& scope) {
    files::FileStatus status;
    files::Answer answer = file_.status(status);
    std::size_t got = 0;
    Array<char> start(scope.memory);
    LDM_NEED(scope, start.resize(lfs_stub_bytes));
    auto bytes = [&] { return View<unsigned char>{reinterpret_cast<const unsigned char*>(start.data()), got}; };
    if (answer.ok()) answer = file_.read(0, start.data(), start.size(), got);
    if (answer.ok()) {
        LDM_NEED(scope, start.resize(static_cast<std::size_t>(header_bytes(bytes(), status.stamp.size))));
        answer = file_.read(0, start.data(), start.size(), got);
    }
    if (!answer.ok()) return files::unreadable(scope, path_, answer);
    LDM_TRY(ldm::read_header(scope, arena_, bytes(), status.stamp.size, path_.view(), tensors_));
    View<TensorInfo> all = tensors_.tensors;
    LDM_NEED(scope, order_.resize(all.size) && used_.resize(all.size));
    for (std::size_t index = 0; index < all.size; ++index) order_[index] = static_cast<std::uint32_t>(index);
    std::sort(order_.begin(), order_.end(),
              [=](std::uint32_t a, std::uint32_t b) { return all[a].name < all[b].name; });
    return Status();
}

Status TensorFile::take(Scope& scope, std::initializer_list<std::string_view> key, std::string_view name, Stored& out) {
    Words words(scope.memory);
    for (std::string_view part : key) words.add(part);
    LDM_NEED(scope, words.fits());
    auto below = [this](std::uint32_t place, std::string_view wanted) { return tensors_.tensors[place].name < wanted; };
    const std::uint32_t* found = std::lower_bound(order_.begin(), order_.end(), words.view(), below);
    if (found == order_.end() || tensors_.tensors[*found].name != words.view() || used_[*found]) {
        return refuse(scope, {" lacks the tensor ", quoted(words.view()), "; build the package again"});
    }
    used_[*found] = true;
    out = {name, &tensors_.tensors[*found]};
    return Status();
}

Status TensorFile::require_none_left(Scope& scope) const {
    Words left(scope.memory);
    for (std::uint32_t place : order_) {
        if (!used_[place]) left.add(left.view().empty() ? "" : ", ", tensors_.tensors[place].name);
    }
    LDM_NEED(scope, left.fits());
    if (left.view().empty()) return Status();
    return refuse(scope, {" has tensors that no case names: ", quoted(left.view()), "; build the package again"});
}

Status TensorFile::read(Scope& scope, const Stored& stored, Loaded& out) {
    const TensorInfo& info = *stored.tensor;
    out.content.shrink(0);
    LDM_NEED(scope, out.content.resize(static_cast<std::size_t>(info.bytes)));
    std::size_t got = 0;
    files::Answer answer = file_.read(info.offset, out.content.data(), out.content.size(), got);
    if (!answer.ok()) return files::unreadable(scope, path_, answer);
    if (got < out.content.size()) {
        return scope.fail(codes::file_changed, {path_.view(), " became shorter while it was read; verify again"});
    }
    out.tensor = engines::Tensor();
    out.tensor.name = stored.name.data();
    out.tensor.type = type_of(info.dtype);
    out.tensor.rank = info.shape.size;
    std::copy(info.shape.begin(), info.shape.end(), out.tensor.shape);
    out.tensor.data = out.content.data();
    out.tensor.bytes = out.content.size();
    return Status();
}

}  // namespace ldm::verify
