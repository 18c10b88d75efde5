#include "core/package/file_rules.h"

#include <algorithm>

#include "core/codes.h"

namespace ldm {

namespace {

constexpr std::string_view model_endings[] = {".onnx", ".safetensors", ".plan", ".engine", ".ort", ".data",
                                              ".bin",  ".xml",         ".pt",   ".pth",    ".ckpt"};

char lower(char byte) { return byte >= 'A' && byte <= 'Z' ? static_cast<char>(byte - 'A' + 'a') : byte; }

bool ends_as_a_model(std::string_view name) {
    std::size_t start = name.rfind('.');
    if (start == std::string_view::npos || start == 0) return false;
    std::string_view ending = name.substr(start);
    return std::any_of(std::begin(model_endings), std::end(model_endings), [=](std::string_view known) {
        return std::equal(known.begin(), known.end(), ending.begin(), ending.end(),
                          [](char one, char other) { return one == lower(other); });
    });
}

}  // namespace

Status refuse_lfs_stub(Scope& scope, View<unsigned char> beginning, std::string_view where) {
    constexpr std::string_view stub = "version https://git-lfs.github.com/spec/";
    if (beginning.size < stub.size() || std::memcmp(beginning.data, stub.data(), stub.size()) != 0) return Status();
    return scope.fail(codes::file_lfs_stub, {where,
                                             " is a Git-LFS stub, not the file itself; run `git lfs pull` where it "
                                             "came from"});
}

Status check_file_size(Scope& scope, const FileEntry& entry, std::uint64_t size, View<unsigned char> beginning,
                       std::string_view where) {
    auto expected = static_cast<std::uint64_t>(entry.size);
    if (size == expected) return Status();
    LDM_TRY(refuse_lfs_stub(scope, beginning, where));
    return scope.fail(codes::file_size, {where, size < expected ? " is truncated: it has " : " is too long: it has ",
                                         size, " bytes, but the manifest says ", expected, fetch_or_build_again});
}

bool is_unlisted_model(const Manifest& manifest, std::string_view path) {
    return ends_as_a_model(name_of_file(path)) && manifest.files.find(path) == nullptr;
}

std::string_view name_of_file(std::string_view path) {
    std::size_t slash = path.rfind('/');
    return slash == std::string_view::npos ? path : path.substr(slash + 1);
}

std::string_view folder_of_file(std::string_view path) {
    std::size_t slash = path.rfind('/');
    return slash == std::string_view::npos ? std::string_view() : path.substr(0, slash);
}

}  // namespace ldm
