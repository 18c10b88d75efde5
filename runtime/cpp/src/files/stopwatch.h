// How long something took.
#ifndef LDM_FILES_STOPWATCH_H
#define LDM_FILES_STOPWATCH_H

#include <chrono>
#include <cstdint>

namespace ldm::files {

class Stopwatch {
public:
    // Since it was made, in seconds with three decimals.
    double seconds() const {
        using Milliseconds = std::chrono::milliseconds;
        auto passed = std::chrono::steady_clock::now() - start_;
        return static_cast<double>(std::chrono::duration_cast<Milliseconds>(passed).count()) / 1000.0;
    }

private:
    std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

// Bytes as MB with one decimal, as sentences have them.
inline double megabytes(std::uint64_t bytes) { return static_cast<double>(bytes / 100000) / 10.0; }

}  // namespace ldm::files

#endif
