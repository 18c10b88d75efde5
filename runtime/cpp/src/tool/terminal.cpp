#include "src/tool/terminal.h"

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cinttypes>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "core/text/utf8.h"

#if defined(_WIN32)
#include <io.h>
#else
#include <unistd.h>
#endif

namespace ldm::tool {

namespace {

using Clock = std::chrono::steady_clock;

constexpr double log_every = 2.0;  // seconds

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

bool is_for_a_person() {
#if defined(_WIN32)
    return _isatty(2) != 0;
#else
    return isatty(2) != 0;
#endif
}

// The handler and the main thread may run at the same time: whoever comes second sees what the first one set.
std::atomic<int> requested{0};
std::atomic<int> writers{0};

void leave(int number) {
    constexpr char sentence[] = "\ninterrupted\n";
    if (number == SIGINT) {
#if defined(_WIN32)
        [[maybe_unused]] auto written = _write(2, sentence, sizeof sentence - 1);
#else
        [[maybe_unused]] auto written = write(2, sentence, sizeof sentence - 1);
#endif
    }
    std::_Exit(128 + number);
}

extern "C" void end(int number) {
    requested = number;
    if (writers == 0) leave(number);
}

}  // namespace

std::string printable(std::string_view text) {
    std::string out;
    while (!text.empty()) {
        utf8::Character next = utf8::next(text);
        auto point = static_cast<unsigned>(next.point);
        if (next.valid && point >= ' ' && !utf8::is_unprintable(next.point)) {
            out += text.substr(0, next.bytes);
        } else {
            char escape[16];
            std::snprintf(escape, sizeof escape,
                          point < 0x100     ? "\\x%02x"
                          : point < 0x10000 ? "\\u%04x"
                                            : "\\U%08x",
                          point);
            out += escape;
        }
        text.remove_prefix(next.bytes);
    }
    return out;
}

int complain(const std::string& sentence, int status) {
    std::fprintf(stderr, "error: %s\n", printable(sentence).c_str());
    return status;
}

int complain(const Context& context) {
    if (context.get() == nullptr) return complain("no memory is left", failed);
    return complain(std::string(context.text()) + " [" + std::string(context.code()) + "]", failed);
}

void print_notices(void*, ldm_log_level level, const char* text) {
    if (level == LDM_LOG_NOTICE) std::fprintf(stderr, "note: %s\n", text);
}

void print_stages(void* user, ldm_log_level level, const char* text) {
    static const Clock::time_point start = Clock::now();
    bool is_stage = level == LDM_LOG_DETAIL && std::strncmp(text, "verify: ", 8) == 0;
    if (is_stage) std::fprintf(stderr, "[%7.1f s] %s\n", seconds_since(start), text);
    print_notices(user, level, text);
}

int print_step(void*, ldm_run*, const ldm_progress* progress) {
    static const Clock::time_point start = Clock::now();
    static double logged = 0.0;
    bool is_last = progress->step == progress->steps, is_shown = is_for_a_person();
    double now = seconds_since(start);
    if (is_shown) {
        std::fprintf(stderr, "\rstep %" PRId32 " of %" PRId32 "%s", progress->step, progress->steps,
                     is_last ? "\n" : "");
    } else if (now - logged > log_every || (is_last && logged > 0.0)) {
        std::fprintf(stderr, "step %" PRId32 " of %" PRId32 "\n", progress->step, progress->steps);
        logged = now;
    }
    return 0;
}

void end_on_request() {
    constexpr int requests[] = {
        SIGINT, SIGTERM,
#if !defined(_WIN32)
        SIGHUP,  // a terminal that is closed
#endif
    };
    for (int number : requests) {
        if (std::signal(number, end) == SIG_IGN) std::signal(number, SIG_IGN);  // as whoever started it wants
    }
#if !defined(_WIN32)
    std::signal(SIGXFSZ, SIG_IGN);  // a file that may not grow is an error of the write
#endif
}

Uninterrupted::Uninterrupted() {
    ++writers;
    if (requested != 0) leave(requested);
}

Uninterrupted::~Uninterrupted() {
    --writers;
    if (requested != 0) leave(requested);
}

int flush(int status) {
    bool is_lost = std::fflush(stdout) != 0 || std::ferror(stdout) != 0;
    if (!is_lost || status != succeeded) return status;
    return complain(std::string("the work is done, but its result could not be printed: ") + std::strerror(errno),
                    failed);
}

}  // namespace ldm::tool
