#include "src/files/hash_cache.h"

#include "core/codes.h"
#include "core/json/json.h"
#include "src/files/atomic.h"

namespace ldm::files {

namespace {

constexpr std::uint64_t most_bytes = 1 << 24;

// Whether a folder has the name of an output that is being written: it will never have that name again.
bool is_on_its_way(std::string_view name) {
    constexpr std::string_view start = ".ldm-";
    constexpr std::size_t digits = 32;
    if (name.size() < start.size() + digits || name.substr(0, start.size()) != start) return false;
    std::string_view token = name.substr(start.size(), digits), ending = name.substr(start.size() + digits);
    return token.find_first_not_of("0123456789abcdef") == std::string_view::npos &&
           (ending.substr(0, 8) == ".partial" || ending.substr(0, 4) == ".old");
}

// A number that JSON may hold and the reader had to round is none.
bool read_natural(const json::Value& value, std::uint64_t& out) {
    if (value.kind != json::Kind::integer || value.integer < 0 || value.integer == INT64_MAX) return false;
    out = static_cast<std::uint64_t>(value.integer);
    return true;
}

bool read_entry(const json::Value& value, FileState& state, std::string_view& digest) {
    if (value.kind != json::Kind::list || value.items.size != 6) return false;
    Stamp& stamp = state.stamp;
    const json::Value* items = value.items.data;
    if (!read_natural(items[0], stamp.device) || !read_natural(items[1], stamp.inode)) return false;
    if (!read_natural(items[2], stamp.size)) return false;
    if (items[3].kind != json::Kind::integer || items[4].kind != json::Kind::integer) return false;
    if (items[5].kind != json::Kind::text) return false;
    stamp.modified = items[3].integer;
    state.changed = items[4].integer;
    digest = items[5].text;
    return true;
}

}  // namespace

bool make_cache_folder(std::initializer_list<std::string_view> names, Path& out) {
    if (!user_cache(out)) return false;
    out.enter("ldm_runtime");
    for (std::string_view name : names) out.enter(name);
    if (!make_folders(out).ok()) return false;
    Path trial = partial_in(out);
    NewFile file;
    return file.create(trial).ok() && file.sync_and_close().ok() && remove_file(trial).ok();
}

Status HashCache::load(Scope& scope, const Path& folder) {
    Path cache;
    if (!user_cache(cache) || is_on_its_way(folder.name())) return Status();
    Sha256 hash;
    hash.update(folder.view());
    Digest::Hex key = hash.finish().hex();
    place_ = Path(Path(Path(cache, "ldm_runtime"), "hashes"), key.view().substr(0, 32));
    place_.add(".json");

    ReadFile file;
    FileStatus status;
    if (!file.open(place_, Links::follow).ok() || !file.status(status).ok()) return Status();
    if (status.kind != Kind::file || status.stamp.size > most_bytes) return Status();
    Array<char> text(scope.memory);
    LDM_NEED(scope, text.resize(static_cast<std::size_t>(status.stamp.size)));
    std::size_t got = 0;
    if (!file.read(0, text.data(), text.size(), got).ok()) return Status();
    return read(scope, {text.data(), got});
}

Status HashCache::read(Scope& scope, std::string_view text) {
    Failure unheard;
    Scope quiet{scope.memory, unheard};
    json::Value document;
    Status parsed = json::parse(quiet, texts_, text, place_.view(), document);
    if (!parsed.ok()) return std::string_view(parsed.code()) == codes::other_memory ? scope.out_of_memory() : Status();
    for (const json::Member& member : document.members) {
        Known known{member.key, {}, {}};
        if (read_entry(member.value, known.state, known.digest)) LDM_NEED(scope, known_.push(known));
    }
    return Status();
}

std::string_view HashCache::find(std::string_view name, const FileState& state) const {
    for (std::size_t index = known_.size(); index-- > 0;) {
        const Known& known = known_[index];
        if (known.name == name) return known.state == state ? known.digest : std::string_view();
    }
    return {};
}

Status HashCache::remember(Scope& scope, std::string_view name, const FileState& state, const Digest::Hex& digest) {
    View<char> its_name, hex;
    LDM_NEED(scope, texts_.copy(name.data(), name.size(), its_name));
    LDM_NEED(scope, texts_.copy(digest.digits, sizeof digest.digits, hex));
    Known measured{{its_name.data, its_name.size}, state, {hex.data, hex.size}};
    has_changed_ = true;
    for (Known& known : known_) {
        if (known.name != name) continue;
        known = measured;
        return Status();
    }
    LDM_NEED(scope, known_.push(measured));
    return Status();
}

void HashCache::put(Words& words) const {
    words.add("{");
    for (const Known& known : known_) {
        const Stamp& stamp = known.state.stamp;
        words.add(&known == known_.begin() ? "" : ", ")
            .json(known.name)
            .add(": [", stamp.device, ", ", stamp.inode, ", ");
        words.add(stamp.size, ", ", stamp.modified, ", ", known.state.changed, ", ").json(known.digest).add("]");
    }
    words.add("}");
}

Status HashCache::save(Scope& scope) {
    if (!has_changed_ || place_.view().empty()) return Status();
    Words words(scope.memory);
    put(words);
    LDM_NEED(scope, words.fits());
    if (!make_folders(place_.parent()).ok()) return Status();
    Failure unheard;
    Scope quiet{scope.memory, unheard};
    Status status = write_file(quiet, place_.view(), words.view(), Existing::replace);
    has_changed_ = false;
    return status.ok() || std::string_view(status.code()) != codes::other_memory ? Status() : scope.out_of_memory();
}

}  // namespace ldm::files
