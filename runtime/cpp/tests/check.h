// Checks of tests: each failed one is printed, and the program ends with a non-zero status.
#ifndef LDM_TESTS_CHECK_H
#define LDM_TESTS_CHECK_H

#include <cstdio>
#include <string_view>

inline int failed_checks = 0;

inline bool check(bool holds, const char* what, const char* file, int line) {
    if (!holds) {
        std::fprintf(stderr, "%s:%d: not true: %s\n", file, line, what);
        ++failed_checks;
    }
    return holds;
}

#define CHECK(...) check((__VA_ARGS__), #__VA_ARGS__, __FILE__, __LINE__)

// The end of every test program.
inline int done() {
    if (failed_checks > 0) std::fprintf(stderr, "%d checks failed\n", failed_checks);
    return failed_checks == 0 ? 0 : 1;
}

#endif
