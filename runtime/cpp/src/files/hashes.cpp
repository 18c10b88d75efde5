#include "src/files/hashes.h"

#include "src/files/fast_sha256.h"
#include "src/files/trouble.h"

namespace ldm::files {

namespace {

constexpr std::size_t block_bytes = 1 << 20;
constexpr std::size_t shown_digits = 16;

}  // namespace

Hashes::~Hashes() {
    stops_ = true;
    thread_.join();
}

Status Hashes::prepare(Scope& scope, const Folder& folder, View<Expected> expected, bool use_cache) {
    folder_ = &folder;
    LDM_TRY(cache_.load(scope, folder.real()));
    LDM_NEED(scope, files_.reserve(expected.size) && block_.resize(expected.empty() ? 0 : block_bytes));
    for (const Expected& each : expected) {
        File file{each, {}, {}, false, false};
        FileStatus status;
        std::string_view known;
        bool is_there = use_cache && look(folder.place_of(each.name), Links::follow, status).ok();
        if (is_there) known = cache_.find(each.name, FileState(status));
        file.is_known = known.size() == sizeof file.digest.digits;
        if (file.is_known) std::memcpy(file.digest.digits, known.data(), known.size());
        LDM_NEED(scope, files_.push(file));
    }
    return Status();
}

void Hashes::start() {
    process_ = process_number();
    has_started_ = thread_.start([](void* self) { static_cast<Hashes*>(self)->work(); }, this);
}

void Hashes::work() {
    for (File& file : files_) {
        if (stops_) return;
        if (!file.is_known) trouble_ = measure(file);
        if (trouble_.ok() && file.digest.view() == file.expected.sha256) continue;
        failed_ = static_cast<std::size_t>(&file - files_.data());
        return;
    }
}

Answer Hashes::measure(File& file) {
    Path place = folder_->place_of(file.expected.name);
    ReadFile opened;
    FileStatus before, after;
    Answer answer = look(place, Links::follow, before);
    if (answer.ok()) answer = opened.open(place, Links::follow);
    if (!answer.ok()) return answer;
    Sha256 hash(fastest_mix());
    std::uint64_t offset = 0;
    for (std::size_t got = block_.size(); got == block_.size() && !stops_; offset += got) {
        answer = opened.read(offset, block_.data(), block_.size(), got);
        if (!answer.ok()) return answer;
        hash.update({block_.data(), got});
    }
    answer = look(place, Links::follow, after);
    if (!answer.ok()) return answer;
    file.digest = hash.finish().hex();
    file.state = FileState(before);
    file.is_settled = file.state == FileState(after);
    return {};
}

Status Hashes::refuse(Scope& scope, const File& file) const {
    Path place = folder_->place_of(file.expected.name);
    if (!trouble_.ok()) return unreadable(scope, place, trouble_);
    return scope.fail(codes::file_hash, {place.view(), " has changed: its SHA-256 is ",
                                         file.digest.view().substr(0, shown_digits), "…, but the manifest says ",
                                         file.expected.sha256.substr(0, shown_digits), "…", fetch_or_build_again});
}

// What was measured is remembered only if all is as it shall be.
Status Hashes::finish(Scope& scope) {
    if (has_started_ && process_ == process_number()) {
        thread_.join();
    } else {  // of a forked process the thread stayed behind, perhaps in the middle of its work
        failed_ = none;
        trouble_ = Answer();
        work();
    }
    is_done_ = true;
    if (failed_ != none) return Status();
    for (const File& file : files_) {
        if (!file.is_known && file.is_settled)
            LDM_TRY(cache_.remember(scope, file.expected.name, file.state, file.digest));
    }
    return cache_.save(scope);
}

Status Hashes::confirm(Scope& scope) {
    {
        std::lock_guard<std::mutex> turn(waiting_);
        if (!is_done_) LDM_TRY(finish(scope));
    }
    return failed_ == none ? Status() : refuse(scope, files_[failed_]);
}

std::size_t Hashes::known() const {
    std::size_t count = 0;
    for (const File& file : files_) count += file.is_known;
    return count;
}

}  // namespace ldm::files
