#include "src/verify/reference.h"

#include <algorithm>

#include "core/codes.h"
#include "core/package/contract_fields.h"
#include "core/package/file_rules.h"
#include "core/sampling/arithmetic.h"
#include "core/text/words.h"
#include "src/files/trouble.h"
#include "src/package/advice.h"
#include "src/verify/metrics.h"
#include "src/verify/report_fields.h"

namespace ldm::verify {

namespace {

constexpr std::int64_t reference_version = 3;
constexpr std::string_view metadata_key = "reference";

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

struct CaseHeader {
    std::string_view component, name;
    double tolerance = 0.0;
    View<std::string_view> inputs, outputs;
};

struct ReferenceHeader {
    std::int64_t schema_version = 0;
    ComputedWith facts;
    View<std::string_view> prompts;
    View<CaseHeader> cases;
    SamplingRun trajectory;
};

template <typename Visitor>
void fields(Visitor& visit, ComputedWith& it) {
    visit("latent", it.latent);
    visit("schedule", it.schedule);
    visit("defaults", it.defaults);
    visit("tokenizers", it.tokenizers);
}

template <typename Visitor>
void fields(Visitor& visit, CaseHeader& it) {
    visit("component", it.component);
    visit("name", it.name);
    visit("tolerance", it.tolerance);
    visit("inputs", it.inputs);
    visit("outputs", it.outputs);
}

template <typename Visitor>
void fields(Visitor& visit, ReferenceHeader& it) {
    visit("schema_version", it.schema_version);
    visit("facts", it.facts);
    visit("prompts", it.prompts);
    visit("cases", it.cases);
    visit("trajectory", it.trajectory);
}

Status Reference::refuse(Scope& scope, std::initializer_list<Piece> what) const {
    scope.failure.set(codes::proof_invalid, {path_.view()});
    scope.failure.add(what);
    return Status(codes::proof_invalid);
}

Status Reference::open(Scope& scope, const package::Package& package) {
    files::Path path;
    LDM_TRY(package.file(scope, reference_name, path));
    return package::advise(scope, open(scope, path));
}

Status Reference::open(Scope& scope, const files::Path& path) {
    path_ = path;
    files::Answer answer = file_.open(path_, files::Links::follow);
    if (!answer.ok()) return files::unreadable(scope, path_, answer);
    ReferenceHeader header;
    LDM_TRY(read_header(scope, header));
    facts_ = header.facts;
    prompts_ = header.prompts;
    run_ = header.trajectory;
    LDM_TRY(take_tensors(scope, header));
    LDM_TRY(require_none_left(scope));
    return check(scope);
}

Status Reference::read_header(Scope& scope, ReferenceHeader& out) {
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
    const std::string_view* text = tensors_.metadata.find(metadata_key);
    if (text == nullptr) {
        return refuse(scope,
                      {" has no '", metadata_key, "' in its metadata: it is not a reference; build the package again"});
    }
    Words where(scope.memory);
    where.add("the metadata of ", path_.view());
    std::string_view place;
    LDM_TRY(where.keep(scope, arena_, place));
    json::Value value;
    LDM_TRY(json::parse(scope, arena_, *text, place, value));
    const json::Value* version = value.find("schema_version");
    if (version == nullptr || version->kind != json::Kind::integer || version->integer != reference_version) {
        return refuse(scope, {" has schema_version ", version == nullptr ? Piece("null") : json::shown(*version),
                              ", this program reads ", reference_version, "; build the package again"});
    }
    json::Reader reader{scope, arena_};
    return json::read(reader, value, json::Where(place), out);
}

// ---- The tensors of the cases ----

// Find a tensor by the parts of its name, once.
Status Reference::take(Scope& scope, std::initializer_list<std::string_view> key, std::string_view name, Stored& out) {
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

Status Reference::take_all(Scope& scope, const CaseHeader& header, std::string_view kind, View<std::string_view> names,
                           View<Stored>& out) {
    auto* stored = arena_.make<Stored>(names.size);
    LDM_NEED(scope, stored != nullptr);
    for (std::size_t index = 0; index < names.size; ++index) {
        LDM_TRY(take(scope, {header.component, "/", header.name, kind, names[index]}, names[index], stored[index]));
    }
    out = {stored, names.size};
    return Status();
}

Status Reference::take_tensors(Scope& scope, const ReferenceHeader& header) {
    View<TensorInfo> all = tensors_.tensors;
    LDM_NEED(scope, order_.resize(all.size) && used_.resize(all.size));
    for (std::size_t index = 0; index < all.size; ++index) order_[index] = static_cast<std::uint32_t>(index);
    std::sort(order_.begin(), order_.end(),
              [=](std::uint32_t a, std::uint32_t b) { return all[a].name < all[b].name; });
    auto* cases = arena_.make<Case>(header.cases.size);
    auto* tokens = arena_.make<Stored>(facts_.tokenizers.size());
    LDM_NEED(scope, cases != nullptr && tokens != nullptr);
    for (std::size_t index = 0; index < header.cases.size; ++index) {
        const CaseHeader& its = header.cases[index];
        cases[index] = {its.component, its.name, its.tolerance, {}, {}};
        LDM_TRY(take_all(scope, its, "/input/", its.inputs, cases[index].inputs));
        LDM_TRY(take_all(scope, its, "/output/", its.outputs, cases[index].outputs));
    }
    cases_ = {cases, header.cases.size};
    LDM_TRY(take(scope, {"trajectory/latents"}, "trajectory/latents", latents_));
    LDM_TRY(take(scope, {"trajectory/image"}, "trajectory/image", image_));
    for (const auto& entry : facts_.tokenizers) LDM_TRY(take(scope, {entry.key, "/tokens"}, entry.key, *tokens++));
    tokens_ = {tokens - facts_.tokenizers.size(), facts_.tokenizers.size()};
    return Status();
}

Status Reference::require_none_left(Scope& scope) const {
    Words left(scope.memory);
    for (std::uint32_t place : order_) {
        if (!used_[place]) left.add(left.view().empty() ? "" : ", ", tensors_.tensors[place].name);
    }
    LDM_NEED(scope, left.fits());
    return left.view().empty() ? Status() : refuse(scope, {" has tensors that no case names: ", quoted(left.view())});
}

Status Reference::read(Scope& scope, const Stored& stored, Loaded& out) {
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
