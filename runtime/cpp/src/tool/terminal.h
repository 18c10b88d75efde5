// The terminal and the process: what is printed, and how a run ends that is interrupted.
#ifndef LDM_TOOL_TERMINAL_H
#define LDM_TOOL_TERMINAL_H

#include <string>
#include <string_view>

#include "ldm_runtime.hpp"

namespace ldm::tool {

// The statuses that the tool ends with, those of `ldm-export`; 128 and the signal's number where one ends it.
inline constexpr int succeeded = 0, failed = 1, misused = 2;

// A text from outside on one line: what would command a terminal, hide in it or end the line is escaped.
std::string printable(std::string_view text);

// Print an error's sentence on stderr, and return the status.
int complain(const std::string& sentence, int status);
// The failure of the context's last call.
int complain(const Context& context);

// Print notices on stderr; `print_stages` also what is done next, after the seconds since the first.
void print_notices(void*, ldm_log_level level, const char* text);
void print_stages(void*, ldm_log_level level, const char* text);
// Print how far a run is: on one line for a person, some lines for a log.
int print_step(void*, ldm_run*, const ldm_progress* progress);

// Let Ctrl-C, and a request to terminate, end the process at once.
void end_on_request();

// While one of these lives a request waits: what is being written appears whole.
class Uninterrupted {
public:
    Uninterrupted();
    ~Uninterrupted();
    Uninterrupted(const Uninterrupted&) = delete;
    Uninterrupted& operator=(const Uninterrupted&) = delete;
};

// Write out what was printed. A result that cannot be printed makes an error of a status that is none.
int flush(int status);

}  // namespace ldm::tool

#endif
