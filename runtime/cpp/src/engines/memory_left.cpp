#include "src/engines/memory_left.h"

#include <charconv>
#include <string_view>

#include "src/files/system.h"

#if defined(_WIN32)
#define WIN32_LEAN_AND_MEAN
#define NOMINMAX
#include <windows.h>
#endif

namespace ldm::engines {

namespace {

using files::Path;

// Of Linux' control groups, version 2 and 1: the limit, what counts against it, and details of that.
struct ControlGroup {
    const char *limit, *used, *details;
};
constexpr ControlGroup control_groups[] = {
    {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory.stat"},
    {"/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes",
     "/sys/fs/cgroup/memory/memory.stat"},
};

// A small file of the system's.
struct Content {
    explicit Content(const char* path) {
        files::ReadFile file;
        if (!file.open(Path(path), files::Links::follow).ok()) return;
        if (!file.read(0, text, sizeof text, size).ok()) size = 0;
    }
    std::string_view view() const { return {text, size}; }

    char text[16384];
    std::size_t size = 0;
};

std::optional<std::uint64_t> number_of(std::string_view text) {
    std::size_t start = text.find_first_not_of(" \t\n");
    std::uint64_t number = 0;
    if (start == std::string_view::npos) return {};
    auto read = std::from_chars(text.data() + start, text.data() + text.size(), number);
    return read.ec == std::errc() ? std::optional(number) : std::nullopt;
}

// The number after a name at the beginning of a line.
std::optional<std::uint64_t> entry_of(std::string_view table, std::string_view name) {
    for (std::size_t start = 0; start < table.size();) {
        std::size_t end = table.find('\n', start);
        std::string_view line = table.substr(start, end == std::string_view::npos ? end : end - start);
        if (line.size() > name.size() && line.substr(0, name.size()) == name &&
            line.find_first_of(" \t") == name.size()) {
            return number_of(line.substr(name.size()));
        }
        start = end == std::string_view::npos ? table.size() : end + 1;
    }
    return {};
}

std::optional<std::uint64_t> left_of(const ControlGroup& group) {
    std::optional<std::uint64_t> most = number_of(Content(group.limit).view()),
                                 used = number_of(Content(group.used).view());
    if (!most || !used) return {};  // no such file; "max"
    Content details(group.details);
    std::uint64_t kept =
        entry_of(details.view(), "active_file").value_or(0) + entry_of(details.view(), "inactive_file").value_or(0);
    return *most + kept > *used ? *most + kept - *used : 0;
}

#if defined(_WIN32)

std::optional<std::uint64_t> left_of_machine() {
    MEMORYSTATUSEX status{};
    status.dwLength = sizeof status;
    return ::GlobalMemoryStatusEx(&status) ? std::optional<std::uint64_t>(status.ullAvailPhys) : std::nullopt;
}

#else

std::optional<std::uint64_t> left_of_machine() {
    std::optional<std::uint64_t> kilobytes = entry_of(Content("/proc/meminfo").view(), "MemAvailable:");
    return kilobytes ? std::optional(*kilobytes * 1024) : std::nullopt;
}

#endif

}  // namespace

std::optional<std::uint64_t> available_memory() {
    std::optional<std::uint64_t> least = left_of_machine();
    for (const ControlGroup& group : control_groups) {
        std::optional<std::uint64_t> left = left_of(group);
        if (left && (!least || *left < *least)) least = left;
    }
    return least;
}

}  // namespace ldm::engines
